"""Old-school sidecars in manifests: found, explained, and what breaks native ones.

Most sidecars are ordinary containers, held together by loops that wait for a port, sleeps in preStop hooks, quit
endpoints and shared process namespaces. Each way of doing so is a code (`findings.CODES`, docs/lint.md), each code a
rule (`rules`): a pure function from a Pod and the roles in it to findings. Shell is read by a grammar (`shell`), never
by patterns over whole strings; what containers do to each other tells who is whose sidecar (`roles`).

Deliberately not here: positions in files. A finding has the path in its document, and the line in the text that stands
there; whoever read the file knows where that is. Nothing here asks a cluster.
"""

from __future__ import annotations

from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint.findings import CODES, Finding, path_text
from sidecarpolicy.lint.pods import Path, Pod, pods
from sidecarpolicy.lint.roles import Roles
from sidecarpolicy.lint.rules import RULES

__all__ = ["CODES", "RULES", "Finding", "Path", "Pod", "Roles", "findings", "lint", "path_text", "pods"]


def lint(body: Json, base: Path = ()) -> tuple[Finding, ...]:
    """Return what is found in the object *body*, which stands at *base* in its document; nothing of other kinds."""
    pod = pods(body, base)
    return findings(Roles(pod)) if pod is not None else ()


def findings(roles: Roles) -> tuple[Finding, ...]:
    """Return what every rule finds, each thing once, in the order of the document."""
    found = dict.fromkeys(each for rule in RULES for each in rule(roles))
    return tuple(sorted(found, key=_order))


def _order(finding: Finding) -> tuple[list[tuple[int, int, str]], int, str]:
    steps = [(0, step, "") if isinstance(step, int) else (1, 0, step) for step in finding.path]
    return steps, finding.inner, finding.code
