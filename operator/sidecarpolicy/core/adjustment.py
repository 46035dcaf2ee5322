"""What the owner of one workload has changed of one policy there, as the record keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """*skipped*: sidecars that are left out."""

    skipped: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.skipped)

    def __str__(self) -> str:
        """As the end of a sentence."""
        return f"without {', '.join(map(repr, sorted(self.skipped)))}" if self else "as the policy has it"


UNADJUSTED = Adjustment()
