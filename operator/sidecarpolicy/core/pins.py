"""What the owner of a Deployment pins: `web@<hash>` or `cluster/web@<hash>`, a comma list in one annotation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
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


def invalid_pins(text: str, policies: Collection[PolicyId] | None) -> Iterator[str]:
    """Yield what is wrong with the annotation's value; *policies*: those that may be pinned there, None: not known."""
    pins = pins_of(text)
    yield from pins.problems
    known = {pinned_name(policy) for policy in policies} if policies is not None else None
    for cluster_wide, policy in sorted(pins.revisions):
        name = _spelt(policy, cluster_wide=cluster_wide)
        if known is None or name in known:
            continue
        other = _spelt(policy, cluster_wide=not cluster_wide)
        hint = f"; {other!r} is one" if other in known else ""
        yield f"names {name!r}, which is no policy that selects this Deployment{hint}"


def pin_text(policy: PolicyId, revision: str) -> str:
    """Return how the annotation spells *revision* of *policy*."""
    assert policy.kind in (POLICY, CLUSTER_POLICY)
    return f"{pinned_name(policy)}@{revision.rpartition('-')[2]}"


def pinned_name(policy: PolicyId) -> str:
    """Return how the annotation spells *policy*."""
    return _spelt(policy.name, cluster_wide=policy.cluster_wide)


def _spelt(policy: str, *, cluster_wide: bool) -> str:
    return f"cluster/{policy}" if cluster_wide else policy
