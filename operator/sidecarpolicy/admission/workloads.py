"""The review of a Deployment: what its owner writes, with our sidecars on it in the same write.

*Created*: it gets what a new workload gets (`plan.step_of_new`), so that its very first Pods have it and the operator
has nothing to write afterwards. *Changed*: what the write has dropped or mangled comes back at the revision that the
stored object's record names, never at a newer one. Only where a policy waits for its owners (OnNextChange), or where a
change takes all Pods down at once, a newer revision goes along, because their owner restarts the Pods anyway; so does,
in the latter case, what is to be taken out.

What the judge skips, this skips, with one exception: a write that replaces all Pods anyway takes nothing more down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from sidecarpolicy import names
from sidecarpolicy.admission.proposal import Proposal, asked_anew, owner_changes, restored_record, with_record
from sidecarpolicy.admission.room import Room
from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.configs import is_older
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.opt_out import without_effect
from sidecarpolicy.core.patch import template_and_record_changes
from sidecarpolicy.core.plan import RolloutState, Step, removal_with_owner, step_of_new, step_with_owner
from sidecarpolicy.core.record import Entry, Record, text_of
from sidecarpolicy.core.restarts import with_restarts_kept
from sidecarpolicy.core.skips import invalid_marks
from sidecarpolicy.core.text_limits import cause
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Workload, is_mangled, record_of
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.desired_state import composed_on, desired_on
from sidecarpolicy.engine.memory import Judgement, Memory, PolicyMemory
from sidecarpolicy.engine.observe import deselected_by_owner
from sidecarpolicy.engine.policy_pass import rollout_state
from sidecarpolicy.engine.prepare import overrides_ignored_on, sidecars_on
from sidecarpolicy.engine.skip_verdicts import judged, judged_without
from sidecarpolicy.names import SkipReason, Strategy

# Of what an owner reads about when they create a Deployment; the other skips are what they asked for.
CONFLICTS = frozenset(
    {
        SkipReason.NAME_CONFLICT,
        SkipReason.PORT_CONFLICT,
        SkipReason.EMPTIED_BY_APPLY,
        SkipReason.PULL_SECRETS_UNREADABLE,
        SkipReason.BREAKS_AUTOSCALING,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What is to be written besides: *operations* of a JSON Patch. *warnings*: what the writer is told."""

    operations: tuple[Json, ...] = ()
    warnings: tuple[str, ...] = ()


UNCHANGED = Reviewed()


def review(proposal: Proposal, context: Context, room: Room) -> Reviewed:
    """Return what comes to the proposed write. *context*: its cache is read; *room* notes what is let through."""
    workload = proposal.workload
    if _is_off_limits(proposal, context):
        return UNCHANGED
    context = Context(cache=context.cache.proposed(workload), memory=Memory(), now=context.now, limits=context.limits)
    record = restored_record(proposal, context)
    if not record and not workload.record and next(context.cache.selecting(workload), None) is None:
        return UNCHANGED
    changes = owner_changes(proposal, record)
    if changes:
        record = asked_anew(record)
    takes_down = bool(workload.takes_down) and workload.annotations.get(names.ALLOW_DOWNTIME) != "true"
    if changes:
        workload = replace(workload, takes_down="")
    if proposal.created:  # paused or not, its first Pods are of the template that it has then
        workload = replace(workload, paused=False)
    subject = with_record(workload, record)
    subject, judgement = _without_what_cannot_return(subject, proposal, context)
    if proposal.created:
        steps = _steps_of_new(subject, judgement, proposal, context, room)
    else:
        joins_all = changes and takes_down
        leaving = _leaving(subject, judgement, context) if joins_all else {}
        if leaving:
            judgement = _without_leaving(leaving, subject, judgement, context)
        changed = _steps_of_changed(subject, judgement, proposal, context, joins=changes, joins_all=joins_all)
        steps = {**leaving, **changed}
    composed = composed_on(subject, judgement, desired_on(judgement, steps, context), steps, context)
    template, new_record = composed.template, composed.record
    if proposal.before is not None:
        stored = proposal.before
        template = with_restarts_kept(
            template, new_record, before=stored.content.template, known=record_of(stored.record)
        )
    if changes and not proposal.created:
        new_record = _without_what_is_read_anew(new_record, subject, judgement, context, joins_all=takes_down)
    if is_mangled(workload.record) and not composed.record:
        return Reviewed(warnings=tuple(_warnings(proposal, judgement, context)))
    if not proposal.dry_run:
        for policy, step in steps.items():
            if step.takes_slot:
                room.let_through(policy, workload.id, context, key=proposal.key)
    return Reviewed(
        operations=tuple(
            template_and_record_changes(
                before=workload.content.template,
                after=template,
                path=workload.template,
                annotated=workload.annotated,
                record=workload.record,
                new_record=text_of(new_record),
            )
        ),
        warnings=tuple(_warnings(proposal, judgement, context)),
    )


def _is_off_limits(proposal: Proposal, context: Context) -> bool:
    """Whether nothing is to be changed here: by the emergency switch, or because it is our own write."""
    return context.cache.stopped or proposal.manager == names.FIELD_MANAGER or proposal.workload.deleting


def _without_what_cannot_return(subject: Workload, proposal: Proposal, context: Context) -> tuple[Workload, Judgement]:
    """Return *subject* without entries that were dropped and may not come back now, and the verdicts on it.

    Where something of theirs is still there they stay in the record, which is what tells it from the owner's.
    """
    judgement = judged(subject, context)
    kept = record_of(proposal.workload.record).entries
    live = frozenset(template_items(subject.content.template))
    lost = {
        policy
        for policy, entry in judgement.record.entries.items()
        if policy not in kept
        and (skip := judgement.verdicts.get(policy)) is not None
        and not skip.removes
        and skip.reason is not SkipReason.PINNED
        and not entry.items & live
    }
    if not lost:
        return subject, judgement
    entries = {policy: entry for policy, entry in judgement.record.entries.items() if policy not in lost}
    subject = with_record(subject, replace(judgement.record, entries=entries))
    return subject, judged(subject, replace(context, memory=Memory()))


def _state(cached: CachedPolicy, context: Context) -> RolloutState:
    """How the rollout of a policy stands, as far as objects tell."""
    state = rollout_state(cached, PolicyMemory(), context)
    return replace(state, frozen=not cached.declares or cached.declares != state.update)


def _steps_of_new(
    subject: Workload, judgement: Judgement, proposal: Proposal, context: Context, room: Room
) -> Mapping[PolicyId, Step]:
    found = {}
    for cached in context.cache.selecting(subject):
        verdict = judgement.verdicts.get(cached.id)
        pinned_to = verdict.pinned_to if verdict is not None else None
        if cached.policy is None or cached.id in judgement.record.entries or cached.id not in judgement.verdicts:
            continue
        if verdict is not None and pinned_to is None:
            continue
        state = _state(cached, context)
        has_room = partial(room.has_room, cached.policy, state.update or "", context)
        step = step_of_new(state, subject.id, pinned_to=pinned_to, has_room=has_room)
        # What waits for its owner holds no slot, so it is not to have what nobody has completed.
        if step is not None and not (step.takes_slot and proposal.workload.paused):
            found[cached.id] = step
    return found


def _leaving(subject: Workload, judgement: Judgement, context: Context) -> dict[PolicyId, Step]:
    """What goes with a change that takes all Pods down anyway: of policies that do not select the workload any more."""
    cache, found = context.cache, {}
    selecting = {cached.id for cached in cache.selecting(subject)}
    for policy in judgement.record.entries.keys() - selecting - judgement.missing:
        cached = cache.policies[policy]
        by_owner = (
            cached.policy is not None and not cached.deleting and deselected_by_owner(cached.policy, subject, context)
        )
        step = removal_with_owner(_state(cached, context), subject.id, deselected_by_owner=by_owner)
        if step is not None:
            found[policy] = step
    return found


def _without_leaving(
    leaving: Mapping[PolicyId, Step], subject: Workload, judgement: Judgement, context: Context
) -> Judgement:
    """Return the verdicts on *subject* without what is *leaving*: another policy may have waited for that."""
    without = composed_on(subject, judgement, desired_on(judgement, leaving, context), leaving, context)
    verdicts = judged_without(leaving.keys(), {}, subject, without.template, without.record, context)
    return replace(judgement, verdicts=verdicts)


def _steps_of_changed(
    subject: Workload, judgement: Judgement, proposal: Proposal, context: Context, *, joins: bool, joins_all: bool
) -> Mapping[PolicyId, Step]:
    """Where the record as it would be has another revision than it should: an old one came back, or a newer joins."""
    assert proposal.before is not None
    recorded = record_of(proposal.before.record)
    found: dict[PolicyId, Step] = {}
    for cached in context.cache.selecting(subject):
        if judgement.verdicts.get(cached.id) is not None or cached.policy is None:
            continue
        step = None
        if joins_all or (joins and cached.policy.rollout.strategy is Strategy.ON_NEXT_CHANGE):
            changed = bool(judgement.changed(cached.id))
            entry = recorded.entries.get(cached.id)
            step = step_with_owner(_state(cached, context), subject.id, entry, changed=changed)
        step = step or _step_back(cached.id, recorded, subject)
        entry = judgement.record.entries.get(cached.id)
        if step is not None and (entry is None or _moves(step, entry)):
            found[cached.id] = step
    return found


def _without_what_is_read_anew(
    record: Record, subject: Workload, judgement: Judgement, context: Context, *, joins_all: bool
) -> Record:
    """Return *record* without hashes of what the Pods of an owner's change read anew, where a policy waits for that.

    The webhook does not know the content. The operator notes that of now, as it does of what it has no hash of.
    """
    entries = dict(record.entries)
    for cached in context.cache.selecting(subject):
        entry = entries.get(cached.id)
        if entry is None or cached.policy is None:
            continue
        if joins_all or cached.policy.rollout.strategy is Strategy.ON_NEXT_CHANGE:
            wanted = judgement.configs.get(cached.id)
            known = wanted.known if wanted is not None else {}
            hashes = tuple((each, value) for each, value in entry.config.hashes if known.get(each) == value)
            entries[cached.id] = replace(entry, config=replace(entry.config, hashes=hashes))
    return replace(record, entries=entries)


def _moves(step: Step, entry: Entry) -> bool:
    """Whether *step* brings another revision than *entry* has, or another configuration."""
    if step.config is None:
        return entry.revision != step.revision or is_older(step.note.previous)
    return entry.revision != step.revision or entry.config.restart != step.config.restart


def _step_back(policy: PolicyId, recorded: Record, subject: Workload) -> Step | None:
    """To what the stored object's record names: an old record that comes back with an old template changes nothing."""
    entry = recorded.entries.get(policy)
    if entry is None or not entry.revision:
        return None
    why = "as recorded"
    return Step(
        workload=subject.id, revision=entry.revision, joins=entry.joined, note=entry.note, config=entry.config, why=why
    )


def _warnings(proposal: Proposal, judgement: Judgement, context: Context) -> Iterator[str]:
    workload = proposal.workload
    known = sidecars_on(judgement, context)
    marks = (workload.labels, workload.annotations, workload.pod_labels, workload.pod_annotations)
    policies = [cached.id for cached in context.cache.selecting(workload)]
    yield from (cause(each) for each in invalid_marks(*marks, sidecars=known, policies=policies))
    namespace = context.cache.namespace(workload.id.namespace)
    for cached in context.cache.selecting(workload):
        if cached.policy is not None:
            entry = judgement.record.entries.get(cached.id)
            yield from map(cause, without_effect(workload, namespace, judgement.wishes, cached.policy, entry))
            yield from map(cause, overrides_ignored_on(cached.id, cached.policy, judgement, context))
    for listed, container in sorted(workload.content.claims.emptied):
        of = f" of container {container!r}" if container else ""
        yield cause(
            f"the manifest has `{listed}:` without a value{of}: every kubectl apply empties that list, and admission "
            "puts back what is injected there; take the key out"
        )
    if proposal.created:
        for policy, skip in sorted(judgement.verdicts.items()):
            if skip is not None and skip.reason in CONFLICTS:
                yield cause(f"{policy.label} skips this Deployment ({skip.reason}): {skip.message}")
