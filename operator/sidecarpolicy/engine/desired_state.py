"""What a workload should carry: the revisions assigned to it, and what is kept, handed over or taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sidecarpolicy.core.configs import NO_CONFIG, Config, advanced, kept, plain
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import Composition, compose
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.record import NOTHING_NOTED
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.sharing import shared
from sidecarpolicy.core.skips import Skip, may_clash
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.adjusted import as_adjusted
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Judgement
from sidecarpolicy.names import SkipReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a workload should carry: *assigned* revisions, *held* policies, *orphaned* ones, and who comes newly."""

    assigned: dict[PolicyId, Revision]
    held: frozenset[PolicyId]
    orphaned: frozenset[PolicyId]
    joining: frozenset[PolicyId]


def desired_on(
    judgement: Judgement, steps: Mapping[PolicyId, Step], context: Context, resting: frozenset[PolicyId] = frozenset()
) -> Desired:
    """Return what the judged workload should carry, given the steps assigned to it; *resting* policies wait."""
    assigned: dict[PolicyId, Revision] = {}
    held: set[PolicyId] = set()
    for policy, entry in judgement.record.entries.items():
        verdict = judgement.verdicts.get(policy)
        step = steps.get(policy)
        if policy in resting:
            held.add(policy)
        elif step is not None and step.revision is None:
            continue
        elif policy in judgement.missing:
            held.add(policy)
        elif verdict is not None and verdict.removes:
            continue
        elif not _may_have(verdict, step):
            held.add(policy)
        else:
            name = step.revision if step is not None and step.revision is not None else entry.revision
            revision = _revision(policy, name, judgement, context, step)
            if revision is None:
                held.add(policy)
            else:
                assigned[policy] = revision
    for policy, step in steps.items():
        if policy in judgement.record.entries or policy in resting or step.revision is None:
            continue
        revision = _revision(policy, step.revision, judgement, context, step)
        selected = policy in judgement.verdicts
        if revision is not None and selected and _may_have(judgement.verdicts[policy], step):
            assigned[policy] = revision
    orphaned = frozenset(policy for policy, step in steps.items() if step.orphans)
    assigned, held = _with_the_overridden(assigned, held, judgement, context)
    return Desired(
        assigned=assigned,
        held=shared(frozenset(held)),
        orphaned=orphaned & judgement.record.entries.keys(),
        joining=frozenset(policy for policy, step in steps.items() if step.joins),
    )


def _revision(
    policy: PolicyId, name: str, judgement: Judgement, context: Context, step: Step | None = None
) -> Revision | None:
    """Look a stored revision up, as the owner of the judged workload adjusts it, and as *step* brings it there."""
    stored = context.revision(policy, plain(name))
    if stored is None:
        return None
    revision = as_adjusted(stored, judgement.wishes, judgement.record, context)
    config = config_on(policy, judgement, step)
    return replace(revision, config=config) if config is not None else revision


def config_on(policy: PolicyId, judgement: Judgement, step: Step | None = None) -> Config | None:
    """Return what Pods of the judged workload will have read of what *policy* names; None: what is recorded.

    Without a *step* no Pod restarts.
    """
    if step is not None and step.config is not None:
        return step.config
    wanted, entry = judgement.configs.get(policy), judgement.record.entries.get(policy)
    if wanted is None:
        return None
    recorded, before = (entry.config, entry.note.config) if entry is not None else (NO_CONFIG, NO_CONFIG)
    return kept(recorded, wanted) if step is None else advanced(recorded, wanted, before)


def _may_have(verdict: Skip | None, step: Step | None) -> bool:
    """Whether the policy is kept in order; one that is pinned is too, and goes where its owner pins it."""
    if verdict is None:
        return True
    return verdict.reason is SkipReason.PINNED and (step is None or step.revision == verdict.pinned_to)


def composed_on(
    workload: Workload, judgement: Judgement, desired: Desired, steps: Mapping[PolicyId, Step], context: Context
) -> Composition:
    """Return what the judged workload becomes with *desired* on it."""
    content = workload.content
    return compose(
        content.template,
        judgement.record,
        desired.assigned,
        known=context.revision,
        claims=content.claims,
        held=desired.held,
        abandoned=judgement.missing,
        joining=desired.joining,
        orphaned=desired.orphaned,
        notes={policy: step.note for policy, step in steps.items() if step.note != NOTHING_NOTED},
    )


def _with_the_overridden(
    assigned: dict[PolicyId, Revision], held: set[PolicyId], judgement: Judgement, context: Context
) -> tuple[dict[PolicyId, Revision], set[PolicyId]]:
    """Keep an overridden policy's items until what overrides them arrives: both go in one patch.

    A policy is overridden for what it wants to inject, or for what the other one does. What is there of both may go
    together all the same: where one of them has begun to claim what the other has, and that is not here yet.
    """
    for policy, entry in judgement.record.entries.items():
        verdict = judgement.verdicts.get(policy)
        if verdict is None or verdict.overridden_by is None:
            continue
        revision = _revision(policy, entry.revision, judgement, context)
        other = _arriving(verdict.overridden_by, assigned, held, judgement, context)
        if other is not None and (revision is None or may_clash(revision, other)):
            continue
        if revision is None:
            held = held | {policy}
        else:
            assigned = {**assigned, policy: revision}
    return assigned, held


def _arriving(
    policy: PolicyId, assigned: Mapping[PolicyId, Revision], held: set[PolicyId], judgement: Judgement, context: Context
) -> Revision | None:
    """What the judged workload will have of *policy*; None where that is nothing, or is not known."""
    if policy in assigned:
        return assigned[policy]
    entry = judgement.record.entries.get(policy)
    return _revision(policy, entry.revision, judgement, context) if policy in held and entry is not None else None
