"""What the owner of a Deployment pins: `web@<hash>` or `cluster/web@<hash>`, a comma list in one annotation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of
from sidecarpolicy.names import CLUSTER_POLICY, POLICY

ENTRY = re.compile(r"(?P<cluster>cluster/)?(?P<policy>[a-z0-9]([-.a-z0-9]*[a-z0-9])?)@(?P<hash>[0-9a-f]{10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """*revisions*: by (cluster-wide, policy name) the revision's name. *problems*: sentences about the rest."""

    revisions: Mapping[tuple[bool, str], str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, policy: PolicyId) -> str | None:
        """The revision to which *policy* is pinned, or None."""
        return self.revisions.get((policy.cluster_wide, policy.name))


def pins_of(text: str) -> Pins:
    """Read the annotation's value; nothing is pinned on the strength of what cannot be read."""
    revisions: dict[tuple[bool, str], str] = {}
    problems: list[str] = []
    for entry in entries_of(text):
        found = ENTRY.fullmatch(entry)
        if found is None:
            problems.append(
                f"must be <policy>@<hash> or cluster/<policy>@<hash>, ten hexadecimal digits, not {entry!r}"
            )
            continue
        key = (found["cluster"] is not None, found["policy"])
        if revisions.setdefault(key, f"{found['policy']}-{found['hash']}") != f"{found['policy']}-{found['hash']}":
            problems.append(f"must not pin {entry.partition('@')[0]!r} twice")
    return Pins(revisions=revisions, problems=tuple(problems))


def pin_text(policy: PolicyId, revision: str) -> str:
    """Return how the annotation spells *revision* of *policy*."""
    assert policy.kind in (POLICY, CLUSTER_POLICY)
    return f"{pinned_name(policy)}@{revision.rpartition('-')[2]}"


def pinned_name(policy: PolicyId) -> str:
    """Return how the annotation spells *policy*."""
    return f"{'cluster/' if policy.cluster_wide else ''}{policy.name}"
