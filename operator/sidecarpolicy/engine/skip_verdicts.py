"""The verdict on every policy that selects one workload, kept until something that matters changes.

Everything here is a function of what is cached; nothing is written and nothing is asked of the API server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import Wishes, wishes_of
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler
from sidecarpolicy.core.configs import Wanted
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import given_up, rebuilt
from sidecarpolicy.core.nodes import Eligible
from sidecarpolicy.core.opt_out import opts_out
from sidecarpolicy.core.pins import pins_of
from sidecarpolicy.core.pod_security import Question, question
from sidecarpolicy.core.progress import facts_of, observed
from sidecarpolicy.core.pull_secrets import account_on
from sidecarpolicy.core.record import PULL_SECRETS, Record
from sidecarpolicy.core.restarts import has_restart
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.sharing import shared
from sidecarpolicy.core.skips import Pin, Skip, Subject, judge
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Namespace, Workload, record_of
from sidecarpolicy.engine.adjusted import as_adjusted, as_recorded
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Judgement
from sidecarpolicy.engine.pod_security import answer_to
from sidecarpolicy.names import OnFailure, OptOut


class _Basis(NamedTuple):
    """Everything that a judgement is made of beside the workload itself. *questions* follow from the others."""

    candidates: list[Revision]
    leaving: list[Revision]
    record: Record
    questions: Mapping[PolicyId, Question]
    pins: Mapping[PolicyId, Pin]
    idle: frozenset[PolicyId]
    wishes: Wishes
    binding: frozenset[PolicyId]
    inspected: frozenset[PolicyId]
    missing: frozenset[PolicyId]
    namespace: Namespace
    autoscalers: Sequence[Autoscaler]
    driver: str
    not_begun: bool
    nodes: Eligible
    violations: Mapping[PolicyId, str]
    configs: dict[PolicyId, Wanted]

    def key(self, workload: Workload) -> tuple[object, ...]:
        """What decides a judgement: equal keys, equal judgements. A revision is told by its name, which is faster."""
        return (
            (workload.uid, workload.generation, workload.deleting, workload.paused, workload.labels),
            workload.body,
            [(each.name, each.adjustment) for each in self.candidates],
            [(each.name, each.adjustment) for each in self.leaving],
            *self[_FOLLOWING:],
        )


# Where in `_Basis` begins what is compared as it is; the record is in the generation.
_FOLLOWING = _Basis._fields.index("pins")


def judged(workload: Workload, context: Context) -> Judgement:
    """Return the verdicts on *workload*.

    They hold until the cache tells of a change that concerns it (`WorkloadMemory.stale`), and also then where nothing
    has changed that they depend on: a rollout changes a status ten times, and no verdict.
    """
    remembered = context.memory.of(workload.id)
    if remembered.judged is not None and not remembered.stale:
        return remembered.judged[1]
    remembered.stale = False
    basis = _basis_of(workload, context)
    key = basis.key(workload)
    if remembered.judged is not None and remembered.judged[0] == key:
        return remembered.judged[1]
    judgement = _judgement(workload, basis, context)
    remembered.judged = (key, judgement)
    return judgement


def judged_without(
    gone: Collection[PolicyId],
    coming: Mapping[PolicyId, str],
    workload: Workload,
    template: Json,
    record: Record,
    context: Context,
) -> Mapping[PolicyId, Skip | None]:
    """Return the verdicts on *workload* as it will be without *gone* policies: with *template* and *record*.

    *coming*: the revisions of which policies want to inject another than their newest.
    """
    basis = _basis_of(workload, context)
    found = ((each, context.revision(each.policy, coming.get(each.policy, each.name))) for each in basis.candidates)
    candidates = [
        as_adjusted(other, basis.wishes, basis.record, context) if other and other.name != each.name else each
        for each, other in found
        if each.policy not in gone
    ]
    leaving = [each for each in basis.leaving if each.policy not in gone]
    subject = _subject(workload, basis, record, basis.missing - set(gone), context)
    return judge(replace(subject, template=template), candidates, leaving, partial(_recorded, record, context))


def _basis_of(workload: Workload, context: Context) -> _Basis:
    """Gather what a judgement is made of, without a look at the template where nobody asks for that."""
    cache = context.cache
    pins, record = _pins(workload, context), record_of(workload.record)
    candidates, leaving = _revisions_on(workload, pins, context)
    wishes = _wishes(workload, record, candidates, context)
    candidates = [as_adjusted(each, wishes, record, context) for each in candidates]
    questions = {
        each.policy: question(each, workload.id.namespace, workload.pod_settings)
        for each in candidates
        if not cache.served  # nobody may ask: the rule that leaves dry runs of that right is the whole cluster's
        and each.sidecars  # its owner may leave all of them out
        and (each.policy not in record.entries or record.entries[each.policy].revision != each.name)
    }
    return _Basis(
        candidates=candidates,
        leaving=leaving,
        record=record,
        questions=questions,
        pins=pins,
        idle=shared(
            frozenset(each.policy for each in candidates if each.policy not in pins and _is_idle(each, record, cache))
        ),
        wishes=wishes,
        binding=binding_on(workload, context),
        inspected=shared(_inspected(workload, context) if record.entries else frozenset()),
        missing=shared(frozenset(policy for policy in record.entries if not cache.may_act(policy, workload.id))),
        namespace=cache.namespace(workload.id.namespace),
        autoscalers=cache.autoscalers(workload.id),
        driver=cache.driver(workload.id),
        not_begun=workload.paused and observed(workload, cache.children(workload)).not_begun,
        nodes=cache.eligible(workload),
        violations={
            policy: known.words
            for policy, asked in questions.items()
            if (known := answer_to(asked, context)) is not None and known.words
        },
        configs=_configs(workload, record, context),
    )


def _judgement(workload: Workload, basis: _Basis, context: Context) -> Judgement:
    """Judge *workload* by *basis* and by what stands in its template and its managedFields."""
    content = workload.content
    declared = shared(frozenset(basis.configs if content.claims.record_is_declared else ()))
    record, missing = _record_of_now(workload, basis, context)
    subject = _subject(workload, basis, record, missing, context)
    return Judgement(
        record=record,
        missing=missing,
        verdicts=judge(subject, basis.candidates, basis.leaving, partial(_recorded, record, context)),
        wishes=basis.wishes,
        questions=basis.questions,
        # Of one that is declared what is recorded would be taken back, again and again.
        configs={} if declared else basis.configs,
        declared=declared,
    )


def _recorded(record: Record, context: Context, policy: PolicyId) -> Revision | None:
    """What *record* says that is there of *policy*; None for nothing, or where that is not stored."""
    entry = record.entries.get(policy)
    if entry is None or (revision := context.revision(policy, entry.revision)) is None:
        return None
    return as_recorded(revision, record)


def _is_idle(revision: Revision, record: Record, cache: Cache) -> bool:
    """Whether nothing of a policy is there, and it does not come before it is edited or resumed.

    It has failed there and was taken out, or its rollout is halted or paused before any revision was rolled out
    completely.
    """
    entry, update = record.entries.get(revision.policy), cache.update_revision(revision.policy)
    if update is None or (entry is not None and entry.revision):
        return False
    has_failed = entry is not None and entry.note.failed == update.attempt_id
    policy = cache.policies[revision.policy].policy
    waits = update.halt is not None or (policy is not None and policy.rollout.paused)
    return has_failed or (waits and cache.current_revision(revision.policy) is None)


def _subject(
    workload: Workload, basis: _Basis, record: Record, missing: frozenset[PolicyId], context: Context
) -> Subject:
    """*workload* as the checks see it, with *record* and the policies *missing* of it."""
    content = workload.content
    return Subject(
        workload=workload,
        namespace=basis.namespace,
        template=content.template,
        record=record,
        owners=content.claims.owners if record.entries else {},
        missing=missing,
        pins=basis.pins,
        inspected=basis.inspected,
        autoscalers=basis.autoscalers,
        driven_by=basis.driver,
        operator_namespace=context.cache.operator_namespace,
        emptied=content.claims.emptied,
        binding=basis.binding,
        skipped=basis.wishes.skipped,
        account=basis.wishes.account,
        nodes=basis.nodes,
        violations=basis.violations,
        idle=basis.idle,
        not_begun=basis.not_begun,
    )


def _record_of_now(workload: Workload, basis: _Basis, context: Context) -> tuple[Record, frozenset[PolicyId]]:
    """The record, with what it has lost and without what others have declared, and which of it is nobody's any more."""
    content, record, missing = workload.content, basis.record, basis.missing
    if any(each.policy not in record.entries for each in basis.candidates) and content.claims.ours:
        stored = [
            as_adjusted(stored.revision, basis.wishes, record, context)
            for each in basis.candidates
            for stored in sorted(context.cache.revisions(each.policy), key=lambda one: one.number, reverse=True)
            if has_restart(content.template, stored.revision)
        ]
        record = rebuilt(content.template, record, content.claims, stored)
    namespace = workload.id.namespace
    if foreign := {policy for policy in missing if not policy.cluster_wide and policy.namespace != namespace}:
        record = given_up(record, foreign, content.claims)
        missing &= record.entries.keys()
    return record, missing


def _pins(workload: Workload, context: Context) -> Mapping[PolicyId, Pin]:
    """What the owner of *workload* pins policies to, where that is not what they are rolling out anyway."""
    text = workload.annotations.get(names.PIN)
    if not text:
        return {}
    pinned = pins_of(text)
    found = {}
    for cached in context.cache.selecting(workload):
        asked, update = pinned.of(cached.id), context.cache.update_revision(cached.id)
        if asked is not None and update is not None and update.revision.name != asked:
            stored = context.cache.revision(cached.id, asked)
            found[cached.id] = Pin(asked=asked, revision=stored.revision.name if stored else None)
    return found


def _wishes(workload: Workload, record: Record, candidates: Sequence[Revision], context: Context) -> Wishes:
    """What the owner of *workload* wants adjusted, and what it brings along for *candidates* or what it has."""
    wishes = wishes_of(workload.annotations, workload.pod_annotations)
    if opts_out(workload, context.cache.namespace(workload.id.namespace)):
        wishes = replace(wishes, opts_out=True)
    if not any(each.pull_secrets for each in candidates) and PULL_SECRETS not in (workload.record or ""):
        return wishes
    secrets = partial(context.cache.pull_secrets, workload.id.namespace)
    return replace(wishes, account=account_on(workload.content.template, record, secrets))


def _configs(workload: Workload, record: Record, context: Context) -> dict[PolicyId, Wanted]:
    """What the policies that select *workload* restart it for; of one that names nothing only where it has before."""
    found = {}
    for cached in context.cache.selecting(workload):
        entry = record.entries.get(cached.id)
        if cached.policy is None or cached.problems:
            continue
        if cached.policy.restart_on or (entry is not None and entry.config):
            found[cached.id] = context.cache.configs.wanted(cached.policy, workload.id.namespace)
    return found


def binding_on(workload: Workload, context: Context) -> frozenset[PolicyId]:
    """The policies that select *workload* and that its owner may not opt out of."""
    return shared(
        frozenset(
            cached.id
            for cached in context.cache.selecting(workload)
            if cached.policy is not None and cached.policy.opt_out is OptOut.FORBIDDEN
        )
    )


def _inspected(workload: Workload, context: Context) -> frozenset[PolicyId]:
    """Policies whose halted rollout has been left on *workload*, not complete, for somebody to look at."""
    found = set()
    for policy in record_of(workload.record).entries:
        cached, update = context.cache.policies.get(policy), context.cache.update_revision(policy)
        if cached is None or cached.policy is None or update is None or update.halt is None:
            continue
        if cached.policy.rollout.on_failure is not OnFailure.HALT:
            continue
        children = context.cache.children(workload)
        facts = facts_of(policy, workload, children, cached.policy.rollout, context.now())
        if facts.ours and not facts.arrived:
            found.add(policy)
    return frozenset(found)


def _revisions_on(
    workload: Workload, pins: Mapping[PolicyId, Pin], context: Context
) -> tuple[list[Revision], list[Revision]]:
    """What the policies that select *workload* want on it, and what others still have there."""
    record = record_of(workload.record)
    candidates = []
    for cached in context.cache.selecting(workload):
        pin = pins.get(cached.id)
        update = context.cache.update_revision(cached.id)
        if pin is not None and pin.revision and (pinned := context.revision(cached.id, pin.revision)) is not None:
            candidates.append(pinned)
        elif update is not None:
            candidates.append(update.revision)
    selecting = {each.policy for each in candidates}
    leaving = [
        there
        for policy in record.entries
        if policy not in selecting
        and context.cache.may_act(policy, workload.id)
        and (there := _recorded(record, context, policy)) is not None
    ]
    return candidates, leaving
