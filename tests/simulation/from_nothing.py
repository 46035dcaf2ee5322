"""Law: what an engine keeps by difference equals what it would find if it looked at everything anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.progress import Target
from sidecarpolicy.engine.engine import Engine
from sidecarpolicy.engine.observe import observe

RINGS = 0.01
"""An alarm may ring so many seconds late."""


def differences(engine: Engine) -> Iterator[str]:
    """Yield where a fleet of *engine*, which is at rest, is another than the one that is built from nothing."""
    term = engine.term
    if term is None or any(term.sizes().values()):
        return
    context = term.context
    kept = {policy: remembered.fleet for policy, remembered in context.memory.policies.items()}
    moments = [each.looks_again for each in kept.values() if each.looks_again is not None]
    if moments and min(moments) <= context.now() + RINGS:
        return
    for policy, fleet in kept.items():
        context.memory.of_policy(policy).fleet = Fleet(fleet.update)
    for remembered in context.memory.workloads.values():
        remembered.stale = True
    for identity in sorted(context.cache.workloads):
        observe(identity, context)
    for policy, before in kept.items():
        found = context.memory.of_policy(policy).fleet
        if found != before and (unlike := list(_unlike(before, found))):
            yield f"{policy}, kept by difference: {'; '.join(unlike)}"


def _unlike(kept: Fleet, found: Fleet) -> Iterator[str]:
    """Yield the fields in which targets are unlike, as kept and as found anew, or that their counts are.

    What waits for its owner waits from the last look on: that one is later is no difference.
    """
    before, after = ({each.workload: each for each in (*fleet.targets, *fleet.removing)} for fleet in (kept, found))
    if before == after:
        yield "the same targets are counted otherwise"
    for identity in sorted(before.keys() | after.keys()):
        one, other = before.get(identity), after.get(identity)
        if one is None or other is None:
            yield f"{identity} is {'kept' if other is None else 'found'} alone"
            continue
        if one.backoff is not None and other.backoff is not None:
            one = replace(one, backoff=replace(one.backoff, until=other.backoff.until), looks_again=other.looks_again)
        pairs = ((each.name, getattr(one, each.name), getattr(other, each.name)) for each in fields(Target))
        unlike = [f"{name} {before!r} ({after!r} anew)" for name, before, after in pairs if before != after]
        if unlike:
            yield f"{identity}: {', '.join(unlike)}"
