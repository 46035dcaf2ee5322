"""One workload: what it should carry, whether it does, what to warn of, and the patch that brings it there.

`prepare` is pure: it composes what the steps, the record and the owner's own marks ask for, repairs what is
not as the recorded revision makes it, unless another writer keeps undoing that, and compares. If it were carried out
twice the second time would write nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import ignored_overrides
from sidecarpolicy.core.arithmetic.injectors import calling
from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.drift import drifted
from sidecarpolicy.core.field_conflicts import MOST_PAUSE, Decision, Wait
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import Composition, recorded_item
from sidecarpolicy.core.likeness import is_as_it_should_be
from sidecarpolicy.core.nodes import Eligible
from sidecarpolicy.core.opt_out import without_effect
from sidecarpolicy.core.patch import json_patch
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.pod_security import Question
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.record import ItemKey, Record, text_of
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.sharing import shared
from sidecarpolicy.core.skips import invalid_marks, invalid_namespace_marks
from sidecarpolicy.core.status import Warned
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Workload, is_mangled, record_of
from sidecarpolicy.engine.adjusted import as_adjusted
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.desired_state import Desired, composed_on, config_on, desired_on
from sidecarpolicy.engine.field_conflicts import decisions_on, mutation_of, noted
from sidecarpolicy.engine.memory import Inspected, Judgement
from sidecarpolicy.engine.pod_security import answer_to
from sidecarpolicy.engine.preflight import preflight
from sidecarpolicy.engine.skip_verdicts import binding_on, judged, judged_without
from sidecarpolicy.names import SkipReason, Strategy, WarningReason

NO_STEPS: Mapping[PolicyId, Step] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is to be written on *workload* (no operations: nothing), and everything that led to it.

    *record*: the text of the record that is composed. *waits_until*: another writer keeps undoing something, and it is
    not put back before then (seconds since the epoch).
    """

    workload: Workload
    judgement: Judgement
    desired: Desired
    composed: Composition
    record: str
    steps: Mapping[PolicyId, Step]
    decisions: Mapping[PolicyId, Decision]
    operations: list[Json]
    waits_until: float | None = None

    @property
    def changes_pods(self) -> bool:
        """Whether the patch changes the Pod template, and not only the record."""
        return self.workload.content.template != self.composed.template

    @property
    def is_repair(self) -> bool:
        """Whether the patch only mends: no policy comes, goes, changes or restarts, and no owner adjusts one."""
        before, after = (
            {
                policy: (entry.revision, entry.adjustment.effect, entry.config.restart)
                for policy, entry in record.entries.items()
            }
            for record in (self.judgement.record, self.composed.record)
        )
        return before == after and self.changes_pods


def prepare(workload: Workload, steps: Mapping[PolicyId, Step], context: Context) -> Prepared:
    """Return what has to be written to bring *workload* where *steps*, its record and its owner's marks want it.

    A step of a policy that waits for another one to be taken out is carried out in the write that does that, or not at
    all: its Pods restart once, and are never without either.
    """
    steps = {policy: _stamped(step, context.now()) for policy, step in steps.items()}
    judgement = judged(workload, context)
    following = in_exchange(steps, judgement)
    steps = {policy: step for policy, step in steps.items() if policy not in following}
    prepared = _prepared(workload, judgement, steps, context)
    coming = _that_may_come(following, prepared, context)
    if not coming:
        return prepared
    judgement = replace(judgement, verdicts={**judgement.verdicts, **dict.fromkeys(coming)})
    return _prepared(workload, judgement, {**steps, **coming}, context)


def taken_over(workload: Workload, judgement: Judgement, context: Context) -> frozenset[ItemKey]:
    """Items that their owner declares otherwise than a policy has them, and of which we still own a part.

    While we do, the owner cannot take them out again, as the conflict asks of them. What they declare just as it is
    stays ours as well: they may give that up at any time, and no Pod restarts. What the record does not have any more,
    because admission or a person left it to them, is theirs alone.
    """
    claims = workload.content.claims
    if not judgement.record:
        return frozenset()
    shared_items = claims.owners.keys() & claims.ours
    found = set(shared_items - judgement.record.items)
    for policy, entry in judgement.record.entries.items():
        skip = judgement.verdicts.get(policy)
        if skip is None or skip.reason is not SkipReason.NAME_CONFLICT:
            continue
        contested = entry.items & shared_items
        revision = context.revision(policy, entry.revision) if contested else None
        if revision is None:
            continue
        live = template_items(workload.content.template)
        for item in contested & live.keys():
            canonical = recorded_item(revision, entry, item)
            if canonical is None or not is_as_it_should_be(live[item], canonical):
                found.add(item)
    return frozenset(found)


def in_exchange(steps: Mapping[PolicyId, Step], judgement: Judgement) -> Mapping[PolicyId, Step]:
    """Those of *steps* that take the place of what others of them take out, or roll back to nothing."""
    found = {policy: verdict for policy in steps if (verdict := judgement.verdicts.get(policy)) is not None}
    going = {policy for policy, step in steps.items() if step.revision is None}
    return {policy: steps[policy] for policy, each in found.items() if each.waits_for or each.overridden_by in going}


def question_before(policy: PolicyId, step: Step, judgement: Judgement) -> Question | None:
    """What is to be known of Pod Security before *step* of *policy*, if anything."""
    asked = judgement.questions.get(policy)
    return asked._replace(revision=step.revision) if asked is not None and step.revision is not None else None


def _that_may_come(following: Mapping[PolicyId, Step], without: Prepared, context: Context) -> Mapping[PolicyId, Step]:
    """Those of *following* that nothing is in the way of once *without* is written, as far as that is known."""
    workload, judgement = without.workload, without.judgement
    gone = _there(judgement.record) - _there(without.composed.record)
    if not following or not without.operations or not gone:
        return {}
    revisions = {policy: step.revision for policy, step in following.items() if step.revision is not None}
    after = judged_without(gone, revisions, workload, without.composed.template, without.composed.record, context)
    return {
        policy: step
        for policy, step in sorted(following.items())
        if after.get(policy, judgement.verdicts[policy]) is None
        and _is_admitted(question_before(policy, step, judgement), context)
    }


def _there(record: Record) -> set[PolicyId]:
    """The policies that have more than a note in *record*."""
    return {policy for policy, entry in record.entries.items() if entry.revision}


def _is_admitted(asked: Question | None, context: Context) -> bool:
    """Whether it is known that Pod Security has nothing against what is *asked* about."""
    return asked is None or ((known := answer_to(asked, context)) is not None and not known.words)


def _prepared(workload: Workload, judgement: Judgement, steps: Mapping[PolicyId, Step], context: Context) -> Prepared:
    """Return what has to be written to bring *workload*, judged so, where *steps* and its record want it."""
    kept: Composition | None = None
    decisions: Mapping[PolicyId, Decision] = {}
    desired = desired_on(judgement, NO_STEPS, context)
    if not _is_as_recorded(workload, judgement, context):
        kept = composed_on(workload, judgement, desired, NO_STEPS, context)
    template = kept.template if kept is not None else workload.content.template
    staying = desired.held | desired.assigned.keys()
    decisions = decisions_on(workload, judgement, template, steps, context, staying=staying)
    resting = frozenset(policy for policy, each in decisions.items() if isinstance(each, Wait))
    if resting:
        judgement = _without_the_lost(judgement, resting, workload)
    if kept is None or steps or resting:
        desired = desired_on(judgement, steps, context, resting)
        kept = composed_on(workload, judgement, desired, steps, context)
    text = text_of(kept.record)
    operations = _operations(workload, kept.template, text)
    if is_mangled(workload.record) and not kept.record:
        operations = []
    elif operations and (record := noted(kept.record, desired.held, decisions, workload, context)) != kept.record:
        kept, text = replace(kept, record=record), text_of(record)
        operations = _operations(workload, kept.template, text)
    return Prepared(
        workload=workload,
        judgement=judgement,
        desired=desired,
        composed=kept,
        record=text,
        steps=steps,
        decisions=decisions,
        operations=operations,
        waits_until=min((each.until for each in decisions.values() if isinstance(each, Wait)), default=None),
    )


def _stamped(step: Step, now: float) -> Step:
    """Return *step* with the time at which it is written noted, where a rollout of ours begins with it."""
    if step.revision is None or step.joins or step.orphans:
        return step
    return replace(step, note=replace(step.note, stepped=max(step.note.stepped, float(int(now)))))


def _operations(workload: Workload, template: Json, record: str) -> list[Json]:
    return json_patch(
        uid=workload.uid,
        generation=workload.generation,
        version=workload.version,
        path=workload.template,
        before=workload.content.template,
        after=template,
        annotated=workload.annotated,
        record=workload.record,
        new_record=record,
    )


def _without_the_lost(judgement: Judgement, resting: frozenset[PolicyId], workload: Workload) -> Judgement:
    """Return *judgement* without the entries that the record has lost and that wait: they are not written again yet."""
    lost = resting - record_of(workload.record).entries.keys()
    entries = {policy: entry for policy, entry in judgement.record.entries.items() if policy not in lost}
    return replace(judgement, record=replace(judgement.record, entries=entries))


def may_repair(workload: Workload, context: Context) -> bool:
    """Whether a repair is ours to make, as far as it is known that nobody undoes it at once."""
    takes_down = workload.takes_down and workload.annotations.get(names.ALLOW_DOWNTIME) != "true"
    return not workload.controller and not takes_down and mutation_of(workload, context) is None


def undone_by(prepared: Prepared) -> Mapping[PolicyId, frozenset[ItemKey]]:
    """By policy, the items that a repair would put right."""
    content = prepared.workload.content
    return dict(drifted(content.template, prepared.judgement.record, prepared.composed.template))


def settled_key(workload: Workload, judgement: Judgement, context: Context) -> object:
    """What decides whether *workload* is in order without any step; equal keys, equal answers."""
    entries = []
    for policy, entry in judgement.record.entries.items():
        verdict = judgement.verdicts.get(policy)
        effect = verdict and (
            verdict.removes,
            verdict.overridden_by,
            verdict.reason is SkipReason.PINNED and verdict.pinned_to,
        )
        stored = context.revision(policy, entry.revision)
        adjustment = None
        if stored is not None:
            adjustment = as_adjusted(stored, judgement.wishes, judgement.record, context).adjustment
        config = config_on(policy, judgement)
        entries.append((policy, entry.revision, effect, policy in judgement.missing, adjustment, config))
    return (workload.uid, workload.record, workload.body, entries)


def settle(prepared: Prepared, workload: Workload, judgement: Judgement, context: Context) -> None:
    """Remember that there is nothing to write on *workload* as it is now, until what waits may be put back."""
    remembered = context.memory.of(workload.id)
    remembered.settled = settled_key(workload, judgement, context)
    remembered.settled_until = prepared.waits_until


def is_settled(workload: Workload, judgement: Judgement, context: Context) -> bool:
    """Whether it is known that there is nothing to write on *workload*, as it is now, without any step.

    A moment that is further away than anything waits is not believed: a clock was ahead.
    """
    until, now = context.memory.of(workload.id).settled_until, context.now()
    is_due = until is not None and not now < until <= now + MOST_PAUSE + context.limits.window
    return not is_due and _is_compared(workload, judgement, context)


def _is_as_recorded(workload: Workload, judgement: Judgement, context: Context) -> bool:
    """Whether it is known that *workload*, as it is now, is what its record says; nothing waits to be put back."""
    return context.memory.of(workload.id).settled_until is None and _is_compared(workload, judgement, context)


def _is_compared(workload: Workload, judgement: Judgement, context: Context) -> bool:
    settled = context.memory.of(workload.id).settled
    return settled is not None and settled == settled_key(workload, judgement, context)


def inspection_key(workload: Workload, judgement: Judgement, context: Context) -> Inspected:
    """What the warnings about a workload depend on, beside what makes it settled."""
    coming = frozenset(
        (policy, update.revision.name)
        for policy, verdict in judgement.verdicts.items()
        if verdict is None
        and (update := context.cache.update_revision(policy)) is not None
        and not _goes_at_once(policy, update.revision, judgement, context)
    )
    namespace = context.cache.namespace(workload.id.namespace)
    of_namespace = (namespace.labels.get(names.INJECT), namespace.misplaced, calling(namespace.labels))
    mutated, allowed = mutation_of(workload, context) is not None, _allowed_on(workload, judgement, context)
    marks = (workload.labels, workload.annotations, of_namespace, mutated, allowed, context.cache.eligible(workload))
    concerned = frozenset({*judgement.verdicts, *judgement.record.entries})
    return Inspected(concerned=shared(concerned), coming=shared(coming), marks=marks)


def _allowed_on(workload: Workload, judgement: Judgement, context: Context) -> object:
    """What decides what the policies that select *workload* let its owner adjust."""
    if judgement.wishes.overrides:
        return [(cached.id, cached.generation) for cached in context.cache.selecting(workload)]
    return binding_on(workload, context)


def is_inspected(workload: Workload, judgement: Judgement, context: Context) -> bool:
    """Whether all that the status should warn of is known; that a revision does not come any more needs no look."""
    before, now = context.memory.of(workload.id).inspected, inspection_key(workload, judgement, context)
    if before is None or before.marks != now.marks:
        return False
    return now.coming <= before.coming and now.concerned <= before.concerned


def _goes_at_once(policy: PolicyId, revision: Revision, judgement: Judgement, context: Context) -> bool:
    """Whether it is of no use to foretell what *revision* will cost: the step comes at once, and tells it then."""
    cached = context.cache.policies.get(policy)
    if cached is None or cached.policy is None or cached.policy.rollout.strategy is not Strategy.ALL_AT_ONCE:
        return False
    entry = judgement.record.entries.get(policy)
    return not cached.policy.rollout.paused and (entry is None or entry.revision != revision.name)


def warn(prepared: Prepared, workload: Workload, context: Context) -> frozenset[PolicyId]:
    """Keep what the policies' status should mention about *workload*; return the policies for which that is new."""
    judgement, desired, composed = prepared.judgement, prepared.desired, prepared.composed
    where = str(workload.id)
    common = [
        Warned(reason=WarningReason.INVALID_MARK, message=sentence, where=where)
        for sentence in invalid_marks(
            workload.labels,
            workload.annotations,
            workload.pod_labels,
            workload.pod_annotations,
            sidecars=sidecars_on(judgement, context),
            policies=[cached.id for cached in context.cache.selecting(workload)],
        )
    ]
    namespace = context.cache.namespace(workload.id.namespace)
    common += (
        # Told once for all of its workloads.
        Warned(reason=WarningReason.INVALID_MARK, message=sentence, where=f"namespace {namespace.name}")
        for sentence in invalid_namespace_marks(namespace)
    )
    if problem := is_mangled(workload.record):
        common.append(
            Warned(
                reason=WarningReason.INVALID_RECORD,
                message=f"annotation {names.RECORD} cannot be read ({problem}); nothing is removed because of it",
                where=where,
            )
        )
    mutation = mutation_of(workload, context)
    if mutation is not None and not mutation.missing:
        common.append(
            Warned(reason=WarningReason.MUTATED, message="an admission webhook changes what is injected", where=where)
        )
    to_come = preflight(workload, judgement, desired.assigned, desired.held, context)
    changed = set()
    concerned = {*judgement.verdicts, *judgement.record.entries, *desired.assigned}
    for policy in concerned:
        if policy not in context.cache.policies:
            continue
        own = list(common)
        cached = context.cache.policies[policy]
        if policy in judgement.verdicts and cached.policy is not None:
            own += (
                Warned(reason=WarningReason.OPT_OUT_FORBIDDEN, message=sentence, where=where)
                for sentence in without_effect(
                    workload, namespace, judgement.wishes, cached.policy, judgement.record.entries.get(policy)
                )
            )
            own += (
                Warned(reason=WarningReason.OVERRIDE_IGNORED, message=sentence, where=where)
                for sentence in overrides_ignored_on(policy, cached.policy, judgement, context)
            )
        entry, revision = composed.record.entries.get(policy), desired.assigned.get(policy)
        if revision is not None and entry is not None:
            own += _of_composition(revision, composed, where)
            own += _of_account(revision, judgement, where)
        if entry is not None or (policy in judgement.verdicts and judgement.verdicts[policy] is None):
            own += _of_nodes(context.cache.eligible(workload), there=entry is not None, where=where)
        own += (Warned(reason=each.reason, message=each.message, where=where) for each in to_come.get(policy, ()))
        remembered = context.memory.of_policy(policy)
        before = remembered.warned.get(workload.id, ())
        if tuple(own) != before:
            changed.add(policy)
            if own:
                remembered.warned[workload.id] = tuple(own)
            else:
                remembered.warned.pop(workload.id, None)
    return frozenset(changed)


def overrides_ignored_on(policy: PolicyId, wanted: Policy, judgement: Judgement, context: Context) -> list[str]:
    """Return sentences about overrides of the judged workload that have no effect on the policy's update revision."""
    update = context.cache.update_revision(policy)
    if update is None or not judgement.wishes.overrides:
        return []
    entry = judgement.record.entries.get(policy)
    return list(ignored_overrides(update.revision, judgement.wishes, wanted, entry))


def sidecars_on(judgement: Judgement, context: Context) -> frozenset[str]:
    """The names of all sidecars that the judged workload has or may get."""
    stored = [
        *(context.cache.update_revision(policy) for policy in judgement.verdicts),
        *(context.cache.revision(policy, entry.revision) for policy, entry in judgement.record.entries.items()),
    ]
    return frozenset(sidecar.name for each in stored if each is not None for sidecar in each.revision.sidecars)


def _of_account(revision: Revision, judgement: Judgement, where: str) -> list[Warned]:
    """Say so where an owner has dropped their own pull secrets while those of the ServiceAccount cannot be read."""
    account = judgement.wishes.account
    if account is None or account.secrets is not None or not revision.pull_secrets or revision.adjustment.account:
        return []
    message = (
        f"ServiceAccount {account.name!r} is not there or cannot be read; while the Pod template has only pull secrets "
        "of policies, Pods get none of its"
    )
    return [Warned(reason=WarningReason.PULL_SECRETS_HIDDEN, message=message, where=where)]


def _of_nodes(nodes: Eligible, *, there: bool, where: str) -> list[Warned]:
    """What is to be known of the kubelets that its Pods may meet; *there*: whether it has sidecars."""
    if nodes.seen and not nodes.known:
        message = (
            "no node fits its nodeSelector, required node affinity and tolerations: whether the kubelet has native "
            "sidecars is known when there is one"
        )
        return [Warned(reason=WarningReason.NODES_UNKNOWN, message=message, where=where)]
    if there and (kubelet := nodes.too_old) is not None:
        message = (
            f"its Pods may land on node {kubelet.node}, whose kubelet {kubelet.text} has no native sidecars: one that "
            "does never starts; upgrade the node, or keep them off it"
        )
        return [Warned(reason=WarningReason.NODE_TOO_OLD, message=message, where=where)]
    if (kubelet := nodes.beta) is not None:
        message = (
            f"its Pods may land on node {kubelet.node}, whose kubelet {kubelet.text} has native sidecars as beta "
            "(stable from 1.33): they may be switched off there, and a sidecar may be killed for want of memory before "
            "the application"
        )
        return [Warned(reason=WarningReason.NATIVE_SIDECARS_BETA, message=message, where=where)]
    return []


def _of_composition(revision: Revision, composed: Composition, where: str) -> list[Warned]:
    env = {each["name"] for each in revision.application.env}
    kept = [
        Warned(
            reason=WarningReason.ENV_KEPT, message=f"the application sets {item} itself; its value is kept", where=where
        )
        for item in composed.env_kept
        if item.name in env
    ]
    kept += [
        Warned(
            reason=WarningReason.METADATA_KEPT, message=f"its Pod template has another {item}; it is kept", where=where
        )
        for item in composed.metadata_kept
        if item.name in revision.pod_metadata.of(item.list)
    ]
    unknown = [
        Warned(
            reason=WarningReason.UNKNOWN_CONTAINER,
            message=f"spec.application.containers names {name!r}, which the application does not have",
            where=where,
        )
        for name in composed.unknown_containers
        if name in revision.application.containers
    ]
    return [*kept, *unknown]
