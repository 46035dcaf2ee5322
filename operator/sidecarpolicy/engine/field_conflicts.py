"""What other writers undo of ours: `core.field_conflicts` decides what is done, this gathers what that needs.

How often something was undone stands in the record. A writer who takes the record away too would begin the count anew
each time, so what this process wrote last is also kept in memory; after a restart that count begins again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from sidecarpolicy import names
from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.drift import culprit, drifted
from sidecarpolicy.core.field_conflicts import (
    NOT_UNDONE,
    Decision,
    FieldConflict,
    PutBack,
    Undone,
    conflict,
    decide,
    remembered,
)
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.record import Entry, ItemKey, Record
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import Workload, record_of
from sidecarpolicy.engine.adjusted import readjusted_on
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.desired_state import composed_on, desired_on
from sidecarpolicy.engine.memory import Judgement, Mutation, Written
from sidecarpolicy.engine.skip_verdicts import judged

WEBHOOK = "an admission webhook"

NO_ENTRY = Entry(revision="")

# So many items are named in a sentence.
MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """What of one policy somebody undid: *items*, or no more than its entry in the record.

    *removal*: it was taken away by us, and is there again. *lost*: the record does not say what we wrote last.
    *before*: what is known of earlier times.
    """

    items: frozenset[ItemKey]
    before: Undone
    removal: bool = False
    lost: bool = False


def reverted_on(workload: Workload, judgement: Judgement, kept: Json, context: Context) -> Mapping[PolicyId, Reverted]:
    """Return, by policy, what is not as we left it on *workload*, while the record or our memory says that it was.

    *kept* is the template as the record has it.
    """
    recorded = record_of(workload.record).entries
    readjusted = readjusted_on(judgement, context)
    found = {
        policy: Reverted(items=items - readjusted, before=_known(policy, recorded.get(policy), workload, context))
        for policy, items in drifted(workload.content.template, judgement.record, kept).items()
        if items - readjusted
    }
    live = frozenset(template_items(workload.content.template))
    for policy, was in _written(workload, context).items():
        entry = recorded.get(policy, NO_ENTRY)
        if (was.revision, was.restart) != (entry.revision, entry.config.restart):
            found[policy] = Reverted(
                items=was.items - live,
                before=_known(policy, recorded.get(policy), workload, context),
                removal=not was.revision,
                lost=True,
            )
    return found


def decisions_on(
    workload: Workload,
    judgement: Judgement,
    kept: Json,
    steps: Mapping[PolicyId, Step],
    context: Context,
    *,
    staying: Collection[PolicyId],
) -> Mapping[PolicyId, Decision]:
    """Return, by policy, what to do now about what somebody undid of it, where that is what is wanted there now.

    *staying*: the policies that keep what they have, without any step.
    """
    found: dict[PolicyId, Decision] = {}
    for policy, reverted in reverted_on(workload, judgement, kept, context).items():
        step, verdict = steps.get(policy), judgement.verdicts.get(policy)
        removes = verdict is not None and verdict.removes and policy not in staying
        goes = (step is not None and step.revision is None) or removes
        if goes is not reverted.removal:
            continue
        if step is not None and not reverted.lost and not reverted.before:
            continue  # the next revision comes over what a person or a webhook changed: that is no answer to it
        found[policy] = decide(reverted.before, context.now(), context.limits)
    return found


def mutation_of(workload: Workload, context: Context) -> Mutation | None:
    """What admission makes of a repair of *workload* as it is now, where that is known and would mend nothing."""
    found = context.memory.of(workload.id).mutation
    if found is None or found.body != workload.body or (found.missing and context.now() >= found.until):
        return None
    return found


def conflict_of(
    policy: PolicyId, workload: Workload, context: Context, *, removing: bool = False
) -> FieldConflict | None:
    """Return the conflict with another writer over what *policy* has on *workload*, or over its removal, if any."""
    mutation = mutation_of(workload, context)
    if mutation is not None and (missing := mutation.missing.get(policy)):
        return FieldConflict(by=WEBHOOK, what=_listed(missing), times=0)
    entry = record_of(workload.record).entries.get(policy)
    before = _known(policy, entry, workload, context)
    if not before:
        return None
    judgement = judged(workload, context)
    kept = composed_on(workload, judgement, desired_on(judgement, {}, context), {}, context).template
    reverted = reverted_on(workload, judgement, kept, context).get(policy)
    written = _written(workload, context).get(policy)
    if (reverted.removal if reverted else bool(written and not written.revision)) is not removing:
        return None
    undone = reverted.items if reverted else frozenset()
    by = WEBHOOK if written and written.by_admission else culprit(workload, undone, before.last)
    what = [] if reverted is None else [_what(reverted)]
    return conflict(before, context.now(), context.limits, by=by, what=what)


def noted(
    record: Record,
    untouched: frozenset[PolicyId],
    decisions: Mapping[PolicyId, Decision],
    workload: Workload,
    context: Context,
) -> Record:
    """Return *record*, about to be written, with what it should say of being undone; *untouched* entries stay."""
    recorded = record_of(workload.record).entries
    entries = dict(record.entries)
    for policy, entry in record.entries.items():
        if policy in untouched or not entry.revision:
            continue
        undone = _next(policy, recorded.get(policy), decisions, workload, context)
        if undone != entry.note.undone:
            entries[policy] = replace(entry, note=replace(entry.note, undone=undone))
    return replace(record, entries=entries)


def remember(
    record: Record,
    untouched: frozenset[PolicyId],
    decisions: Mapping[PolicyId, Decision],
    workload: Workload,
    answer: Json,
    context: Context,
) -> None:
    """Keep in mind what has just been written on *workload*, as it was before, and what the server made of it."""
    recorded = record_of(workload.record).entries
    stored = record_of(at(answer, "metadata", "annotations").get(names.RECORD)).entries
    live = frozenset(template_items(at(answer, *workload.template)))
    kept = context.memory.of(workload.id).written
    for policy in {*recorded, *record.entries} - untouched:
        entry = record.entries.get(policy, NO_ENTRY)
        kept[policy] = Written(
            uid=workload.uid,
            revision=entry.revision,
            items=entry.items,
            undone=_next(policy, recorded.get(policy), decisions, workload, context),
            restart=entry.config.restart,
            by_admission=not entry.items <= live or (entry.revision != "" and policy not in stored),
        )


def _next(
    policy: PolicyId, entry: Entry | None, decisions: Mapping[PolicyId, Decision], workload: Workload, context: Context
) -> Undone:
    match decisions.get(policy):
        case PutBack(undone=undone):
            return undone
        case _:
            return remembered(_known(policy, entry, workload, context), context.now(), context.limits)


def _known(policy: PolicyId, entry: Entry | None, workload: Workload, context: Context) -> Undone:
    """What is known of earlier times: the newer of what the record says and what we remember.

    The record alone would not do: a writer who puts an old one back would begin the count anew.
    """
    written = _written(workload, context).get(policy)
    noted = entry.note.undone if entry else NOT_UNDONE
    return max(noted, written.undone if written else NOT_UNDONE, key=lambda each: each.last)


def _written(workload: Workload, context: Context) -> Mapping[PolicyId, Written]:
    """What this process wrote last on this very *workload*, not on one of its name before."""
    remembered = context.memory.workloads.get(workload.id)
    found = remembered.written if remembered else {}
    return {policy: each for policy, each in found.items() if each.uid == workload.uid}


def _what(reverted: Reverted) -> str:
    if reverted.removal:
        return "the removal of what was injected"
    return _listed(reverted.items) or f"the annotation {names.RECORD}"


def _listed(undone: Iterable[ItemKey]) -> str:
    named = [str(item) for item in sorted(undone)]
    others = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + others
