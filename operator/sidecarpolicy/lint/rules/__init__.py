"""The rules of `lint`, one module for each thing that goes wrong: starting, stopping, health, and native sidecars.

A rule is a pure function from the roles in a Pod to findings. A new one goes into its module and that module's `RULES`,
its code into `findings.CODES` and docs/lint.md.
"""

from __future__ import annotations

from sidecarpolicy.lint.rules import health, native, starting, stopping

RULES = (*starting.RULES, *stopping.RULES, *health.RULES, *native.RULES)
