"""A revision as one workload gets it: with what the workload's owner has changed of it, where the policy allows that.

What owners ask for stands in annotations (`wishes_of`). What comes of it for one revision is an `Adjustment`, and the
record keeps it: so what is live can be told from what somebody else has done to it, and a policy that cannot be read
changes nothing. The change is the owner's own: it costs no budget, and the revision keeps its name.

The pull secrets of a workload's ServiceAccount are adjusted in the same way, though nobody asks for them (see
`pull_secrets`).

Whether owners may ask is the live policy's word (`optOut`, `overridable`) and no part of any revision. Where it forbids
what it allowed before, or allows what it forbade, that would change many workloads at once, outside of any budget. So
what is recorded stays while its owner asks for the same, until the next revision comes. For that the record also keeps
what was refused: what an owner asks for after the policy has changed is allowed at once.

A sidecar that is left out takes the policy's volumes with it that nothing else of the policy mounts. What the policy
adds to the application's containers stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sidecarpolicy import names
from sidecarpolicy.core.adjustment import UNADJUSTED, Account, Adjustment
from sidecarpolicy.core.lists import entries_of
from sidecarpolicy.core.overrides import overridden, overrides_in, read, refusals
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import Entry
from sidecarpolicy.core.revision import InjectedSidecar, Revision
from sidecarpolicy.core.syntax import DNS_LABEL
from sidecarpolicy.core.tree import items
from sidecarpolicy.names import OptOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a workload's owner asks for, and what it brings along.

    *skipped*: names of sidecars, of whichever policy, to leave out. *overrides*: the text of what is to be set anew in
    others, by name. *account*: whose pull secrets its Pods get, None where they have some of their own or no policy
    adds any. *opts_out*: of every policy, itself or with its namespace.
    """

    skipped: frozenset[str] = frozenset()
    overrides: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    opts_out: bool = False

    def __bool__(self) -> bool:
        return bool(self.skipped or self.overrides or self.account or self.opts_out)


NO_WISHES = Wishes()

MOST_SENTENCES = 3
LONGEST_LABEL = 63

# Marks of what was refused: to opt out, to leave a sidecar out, to override it just so.
OPT_OUT = "inject"


def skip_mark(sidecar: str) -> str:
    """Return the mark that leaving *sidecar* out was refused."""
    return f"skip.{sidecar}"


def override_mark(sidecar: str, override: str) -> str:
    """Return the mark that *override*, as `read` gives it, was refused for *sidecar*."""
    return f"override.{sidecar}@{hashlib.sha256(override.encode()).hexdigest()[:8]}"


def wishes_of(annotations: Mapping[str, str], pod_annotations: Mapping[str, str]) -> Wishes:
    """Return what the annotations of a workload ask for, and of its Pod template: those leave out, of both together."""
    overrides = overrides_in(annotations)
    if not overrides and names.SKIP not in annotations and names.SKIP not in pod_annotations:
        return NO_WISHES
    skipped = frozenset(each for marks in (annotations, pod_annotations) for each in _skipped(marks))
    return Wishes(skipped=skipped, overrides=overrides)


def _skipped(annotations: Mapping[str, str]) -> list[str]:
    return entries_of(annotations.get(names.SKIP, ""))


def adjustment_on(revision: Revision, wishes: Wishes, policy: Policy | None, entry: Entry | None) -> Adjustment:
    """Return what comes of *wishes* for *revision*, where the record has *entry* of its policy.

    *policy*: as it is now, None where it cannot be read. Then nothing changes because of it.
    """
    recorded = entry.adjustment if entry is not None else UNADJUSTED
    if policy is None:
        return recorded
    if not wishes:
        return UNADJUSTED
    there = recorded if entry is not None and entry.revision == revision.name else UNADJUSTED
    forbidden = policy.opt_out is OptOut.FORBIDDEN
    wished = wishes.skipped & {each.name for each in revision.sidecars}
    skipped = {
        each for each in wished if not forbidden and skip_mark(each) not in there.refused
    } | wished & there.skipped
    asked = dict(_overrides(revision, wishes, skipped))
    overrides = {
        (each.name, asked[each.name])
        for each in revision.sidecars
        if each.name in asked and _may_have(asked[each.name], each, policy, there)
    }
    refused = {skip_mark(each) for each in wished - skipped}
    refused |= {override_mark(name, each) for name, each in asked.items() - overrides}
    if wishes.opts_out and (forbidden or OPT_OUT in there.refused):
        refused.add(OPT_OUT)
    return Adjustment(
        skipped=frozenset(skipped),
        overrides=tuple(sorted(overrides)),
        account=_account(revision, wishes, there, recorded),
        refused=frozenset(refused),
    )


def _overrides(revision: Revision, wishes: Wishes, skipped: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield what can be read of the overrides that are asked for, of sidecars that are not *skipped*."""
    for sidecar in revision.sidecars:
        text = wishes.overrides.get(sidecar.name)
        if text is None or sidecar.name in skipped:
            continue
        try:
            yield sidecar.name, read(text)
        except InvalidInput:
            continue


def _may_have(override: str, sidecar: InjectedSidecar, policy: Policy, there: Adjustment) -> bool:
    """Whether *override* is there already just so, or is allowed and was not refused before."""
    if (sidecar.name, override) in there.overrides:
        return True
    refused = override_mark(sidecar.name, override) in there.refused
    return not refused and not any(_refusals(override, sidecar, policy))


def _refusals(override: str, sidecar: InjectedSidecar, policy: Policy) -> Iterator[str]:
    allowed = next((each for each in policy.sidecars if each.name == sidecar.name), None)
    overridable, most = (allowed.overridable, allowed.override_max) if allowed is not None else ((), {})
    return refusals(override, sidecar.container, overridable, most)


def ignored_overrides(revision: Revision, wishes: Wishes, policy: Policy, entry: Entry | None) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with an override for *revision*, as `adjustment_on` has it."""
    there = entry.adjustment if entry is not None else UNADJUSTED
    for sidecar in revision.sidecars:
        text = wishes.overrides.get(sidecar.name)
        if text is None:
            continue
        where = f"annotation {names.OVERRIDE}{sidecar.name}"
        try:
            override = read(text)
        except InvalidInput as error:
            yield from (
                f"{where}: {str(problem).removeprefix(': ')} (the override is ignored)" for problem in error.problems
            )
            continue
        in_effect = (sidecar.name, override) in there.overrides
        what = "it goes with the next revision" if in_effect else "the override is ignored"
        problems = [f"{where}: {problem} ({what})" for problem in _refusals(override, sidecar, policy)]
        yield from problems
        same = entry is not None and entry.revision == revision.name
        if same and not problems and not in_effect and override_mark(sidecar.name, override) in there.refused:
            yield f"{where}: is allowed by now (it comes with the next revision)"


def _account(revision: Revision, wishes: Wishes, there: Adjustment, recorded: Adjustment) -> Account | None:
    """Return whose pull secrets come along. While they cannot be read, they are as they were *recorded*, if ever."""
    account, known = wishes.account, there.account
    if account is None or not revision.pull_secrets:
        return None
    if account.secrets is None:
        last = known or recorded.account
        return last if last is not None and (last is known or last.name == account.name) else None
    return known if known is not None and known.name == account.name else account


def adjusted(revision: Revision, adjustment: Adjustment) -> Revision:
    """Return *revision*, as it was stored, with *adjustment*."""
    if not adjustment:
        return revision
    overrides = dict(adjustment.overrides)
    sidecars = tuple(
        replace(each, container=overridden(each.container, overrides[each.name])) if each.name in overrides else each
        for each in revision.sidecars
    )
    secrets = (adjustment.account.secrets or ()) if adjustment.account else ()
    return replace(
        _without(replace(revision, sidecars=sidecars), adjustment.skipped),
        pull_secrets=tuple(dict.fromkeys((*secrets, *revision.pull_secrets))),
        adjustment=adjustment,
    )


def _without(revision: Revision, skipped: Collection[str]) -> Revision:
    """Return *revision* without the sidecars in *skipped*, and without the volumes that only they mount."""
    if not skipped:
        return revision
    left = tuple(each for each in revision.sidecars if each.name not in skipped)
    mounted, needed = (
        {mount["name"] for each in sidecars for mount in items(each.container, "volumeMounts")}
        for sidecars in (revision.sidecars, left)
    )
    needed |= {mount["name"] for mount in revision.application.volume_mounts}
    volumes = tuple(each for each in revision.volumes if each["name"] not in mounted - needed)
    return replace(revision, sidecars=left, volumes=volumes)


def readjusted(before: Adjustment, after: Adjustment) -> frozenset[str]:
    """Return the names of sidecars in which something else is overridden: what is other in them nobody has undone."""
    return frozenset(name for name, _ in set(before.overrides) ^ set(after.overrides))


def invalid_skips(value: str, known: Collection[str] | None) -> Iterator[str]:
    """Yield what is wrong with the *value* of `sidecars.dev/skip`, a few entries at most: anybody may write it.

    *known*: sidecars there may be, None: not known.
    """
    found = [sentence for name in dict.fromkeys(entries_of(value)) for sentence in _invalid_skip(name, known)]
    yield from found[:MOST_SENTENCES]
    if len(found) > MOST_SENTENCES:
        yield f"and {len(found) - MOST_SENTENCES} more"


def _invalid_skip(name: str, known: Collection[str] | None) -> Iterator[str]:
    if not DNS_LABEL.fullmatch(name):
        yield f"must be a comma list of names of sidecars, not {_shortened(name)!r}"
    else:
        yield from unknown_sidecar(name, known)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[:LONGEST_LABEL]}…"


def unknown_sidecar(name: str, known: Collection[str] | None) -> Iterator[str]:
    """Yield a sentence where *name* is none of the *known* sidecars."""
    if known is not None and name not in known:
        yield f"names {name!r}, which is no sidecar of a policy that selects this Deployment"
