"""What of a revision is different on one workload, as the record keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A ServiceAccount, and the names of its pull secrets; None where they cannot be read."""

    name: str
    secrets: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """*skipped*: sidecars that the owner leaves out. *overrides*: what they set anew in others, by name, as `overrides`
    spells it. *account*: whose pull secrets are written beside the policy's. *refused*: marks of what the owner asks
    for and the policy did not allow (see `adjusting`); they change nothing by themselves.
    """

    skipped: frozenset[str] = frozenset()
    overrides: tuple[tuple[str, str], ...] = ()
    account: Account | None = None
    refused: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.skipped or self.overrides or self.account or self.refused)

    @property
    def effect(self) -> Adjustment:
        """What of it shows in the Pod template."""
        return replace(self, refused=frozenset()) if self.refused else self

    def __str__(self) -> str:
        """As the end of a sentence."""
        parts = [
            f"without {', '.join(map(repr, sorted(self.skipped)))}" if self.skipped else "",
            f"with overrides of {', '.join(repr(name) for name, _ in self.overrides)}" if self.overrides else "",
            f"with the pull secrets of ServiceAccount {self.account.name!r}" if self.account else "",
        ]
        return " and ".join(part for part in parts if part) or "as the policy has it"


UNADJUSTED = Adjustment()
