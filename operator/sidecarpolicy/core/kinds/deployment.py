"""Deployments, and the ReplicaSets that their controller makes of them. No other module knows how they roll out.

**Whose rollout it is.** A ReplicaSet carries a copy of the Deployment's annotations, so each shows which revision of
each policy its Pods bear. A rollout is ours while the Pods before the change bear another revision of the policy, or
the same before its last restart for a changed configuration. Revisions are compared, not items, so an owner's hotfix on
top of our unfinished rollout ends nothing. The controller never takes an annotation off a ReplicaSet. One of Pods that
somebody has stripped of what is ours keeps the record of before, though the Deployment has lost it; then what was
brought again shows by the time of its step, and what its owner does meanwhile is no removal: the Pods have nothing of
it. Where the record alone was wiped nothing is rolled out.

**A ReplicaSet that is not seen.** A Deployment tells the number of its newest ReplicaSet. Where that is higher than any
that is seen, the watch of ReplicaSets is behind that of Deployments: it may be silent for the whole of a rollout. Where
the record names nothing of a policy, ours may be on its way out: that holds its slot, and is not late, until the
ReplicaSet is seen, which is after the next LIST at the latest. For other policies the Deployment is busy until then.

**A hotfix in our soak.** When its old Pods are gone ReplicaSets do not show any more whether our rollout was over when
the owner's began. So one that began within `patience`, the Deployment's own wait and the soak after our step counts as
*on top* of ours (a rollout that goes on for longer than that without being over shows by its old Pods). Nothing of
this is remembered, so a restart changes nothing; the step's time stands in the record.

**Created paused.** As long as a new Deployment is paused its controller makes no ReplicaSet (`sync`,
pkg/controller/deployment): it is as one without replicas, and still new however long that takes.

**What has never come up.** Where no old Pods are left (strategy Recreate, a Deployment that was unhealthy before) or
there never were any (a Deployment that its owner has restored), whatever somebody changes looks like a rollout of
theirs on top of one of ours that is over. The condition Available tells better: where it is False since before the
first ReplicaSet of our step, nothing of ours has come up yet.

**Taken up again.** Where all Pods go before others come and the template is one of before, as with most removals, the
counts jump from those of one ReplicaSet to those of the other, and the controller leaves the condition Progressing at
complete (`syncRolloutStatus`). When the Pods before had gone, which the status of their ReplicaSet shows, tells then
what the condition is of, to whomever asks and whether or not a step is left in the record.

**Without the condition Progressing.** Where progressDeadlineSeconds is 2147483647 the controller writes none
(`HasProgressDeadline`, pkg/controller/deployment/util). Then
- it is complete when all its Pods are of the newest template, and either all are available (the rule of `kubectl
  rollout status`) or the Deployment is, or was after the last old Pod had gone: a scale-up or a lost Pod later is no
  rollout.
- it was complete when its last old Pod went, which is when the status of the old ReplicaSets changed last; or later,
  when the Deployment became available; never before our step. That is the earliest, not exact.
- its last step forward is the last change of its status. Both times are those at which the controller's entry in
  managedFields changed; the API server stamps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, floor
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.addresses import DEPLOYMENTS, REPLICA_SETS
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds.facts import Facts
from sidecarpolicy.core.record import INIT_CONTAINERS
from sidecarpolicy.core.sharing import shared, shared_labels, shared_text
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import at, items
from sidecarpolicy.core.workload import (
    NO_CONDITION,
    Child,
    Condition,
    Workload,
    conditions_of,
    labels_of_owner,
    record_of,
    rolled,
    status_written,
    workload_parts,
)

ADDRESS, CHILDREN = DEPLOYMENTS, REPLICA_SETS
TEMPLATE = ("spec", "template")

# What the controller tells the Pods of one ReplicaSet by.
POD_LABEL = "pod-template-hash"

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
RECREATE = "Recreate"
COMPLETE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"

# This progressDeadlineSeconds means none.
NO_DEADLINE = 2**31 - 1

# The first status that tells of availability is written right after a ReplicaSet is made: within so many seconds.
FIRST_STATUS = 2.0

# So many digits any number of 64 bits may have.
MOST_DIGITS = 18

# What the API server fills in (SetDefaults_Deployment).
DEFAULT_DEADLINE = 600
DEFAULT_SHARE = "25%"
DEFAULT_GRACE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What matters of a Deployment alone.

    *revision*: the number of the ReplicaSet that its controller told last, 0 for none; *status_changed*: when it
    changed the status last. *recreates*: all its Pods go before another comes; *grace*: how long the end of one may
    take, in seconds.
    """

    deadline: int
    min_ready: int
    replicas: int
    observed_generation: int
    status_replicas: int
    updated_replicas: int
    available_replicas: int
    progressing: Condition
    available: Condition
    revision: int = 0
    status_changed: float = 0.0
    recreates: bool = False
    grace: int = DEFAULT_GRACE


def workload_from(body: Mapping[str, Any], known: Workload | None = None) -> Workload:
    """Return what matters of the Deployment *body*; *known*: as it was before."""
    metadata, spec, status = at(body, "metadata"), at(body, "spec"), at(body, "status")
    conditions = conditions_of(body)
    deadline = _or(spec.get("progressDeadlineSeconds"), DEFAULT_DEADLINE)
    return workload_parts(
        body,
        WorkloadId(namespace=shared_text(metadata["namespace"]), name=metadata["name"]),
        TEMPLATE,
        paused=bool(spec.get("paused")),
        takes_down=takes_down(spec),
        deadline=None if deadline == NO_DEADLINE else deadline,
        min_ready=spec.get("minReadySeconds") or 0,
        own=Own(
            deadline=deadline,
            min_ready=spec.get("minReadySeconds") or 0,
            replicas=_or(spec.get("replicas"), 1),
            observed_generation=status.get("observedGeneration", 0),
            status_replicas=status.get("replicas", 0),
            updated_replicas=status.get("updatedReplicas", 0),
            available_replicas=status.get("availableReplicas", 0),
            progressing=conditions.get("Progressing", NO_CONDITION),
            available=conditions.get("Available", NO_CONDITION),
            revision=_revision_of(metadata),
            status_changed=status_written(metadata),
            recreates=at(spec, "strategy").get("type") == RECREATE,
            grace=_or(at(body, *TEMPLATE, "spec").get("terminationGracePeriodSeconds"), DEFAULT_GRACE),
        ),
        known=known,
    )


def child_from(body: Mapping[str, Any]) -> Child | None:
    """Return what matters of the ReplicaSet *body*, or None where no Deployment controls it."""
    metadata = at(body, "metadata")
    owner = next(
        (
            each["uid"]
            for each in items(metadata, "ownerReferences")
            if each.get("controller") and each["kind"] == ADDRESS.kind
        ),
        None,
    )
    if owner is None:
        return None
    annotations, labels = at(metadata, "annotations"), at(metadata, "labels")
    record = shared_text(annotations.get(names.RECORD, ""))
    pods = labels.get(POD_LABEL, "")
    others = {key: value for key, value in labels.items() if key != POD_LABEL}
    return Child(
        name=metadata["name"],
        namespace=shared_text(metadata["namespace"]),
        owner=shared_text(owner),
        uid=metadata["uid"],
        pods=f"{POD_LABEL}={pods}" if pods else "",
        number=_revision_of(metadata),
        replicas=max(at(body, "spec").get("replicas") or 0, at(body, "status").get("replicas") or 0),
        record=record,
        stripped=_stripped(body, record),
        labels=shared_labels(labels_of_owner(others, record)),
        created=seconds_of(metadata.get("creationTimestamp")),
        status_changed=status_written(metadata),
        refused=conditions_of(body).get("ReplicaFailure", NO_CONDITION),
    )


def _stripped(body: Mapping[str, Any], record: str) -> frozenset[PolicyId]:
    """The policies that *record* names on the ReplicaSet *body*, and of whose sidecars its Pods have none."""
    pod = at(body, *TEMPLATE, "spec")
    if not record or not pod:
        return frozenset()
    there = {each["name"] for each in items(pod, INIT_CONTAINERS)}
    named = {policy: entry.names(INIT_CONTAINERS) for policy, entry in record_of(record).entries.items()}
    return shared(frozenset(policy for policy, ours in named.items() if ours and there.isdisjoint(ours)))


def takes_down(spec: Mapping[str, Any]) -> str:
    """Why a change of the template takes all Pods of a Deployment with *spec* down at once; empty where it does not.

    Kubernetes' own resolution of both numbers against the replicas (`ResolveFenceposts`, pkg/controller/deployment/
    util): maxUnavailable is rounded down and maxSurge up, and where both come out as 0 maxUnavailable is 1.
    """
    strategy, replicas = at(spec, "strategy"), _or(spec.get("replicas"), 1)
    if strategy.get("type") == RECREATE:
        return f"strategy {RECREATE}"
    rolling = at(strategy, "rollingUpdate")
    surge = ceil(_share(rolling.get("maxSurge"), replicas))
    unavailable = floor(_share(rolling.get("maxUnavailable"), replicas))
    if not surge and not unavailable:
        unavailable = 1
    if replicas and unavailable >= replicas:
        written = rolling.get("maxUnavailable", DEFAULT_SHARE)
        pods = "its only replica" if replicas == 1 else f"all {replicas} replicas"
        return f"maxUnavailable {written} and maxSurge {rolling.get('maxSurge', DEFAULT_SHARE)} allow {pods} to be down"
    return ""


def observe(
    workload: Workload, children: Sequence[Child], policy: PolicyId, /, *, now: float, patience: int, soak: int
) -> Facts:
    """Return the facts about a Deployment for *policy* at *now*."""
    own = own_of(workload)
    ordered = sorted(children, key=lambda each: each.number)
    newest = ordered[-1] if ordered else None
    run = _run(ordered, workload.record, policy)
    before = ordered[-len(run) - 1] if len(run) < len(ordered) else None
    stepped = _stepped(workload, run, before, policy)
    if stepped > now + patience:  # not believed: somebody wrote it, or a clock was wrong
        stepped = 0.0
    replaced = _replaced(ordered, stepped)
    not_begun = workload.paused and not (ordered or own.revision or own.status_replicas)
    down = _down_since_step(workload, run, before, policy, stepped)
    # Where an old ReplicaSet is taken up again its controller renews nothing; the one before it has gone since then.
    went = _went(workload, ordered[-1], ordered[-2]) if len(ordered) > 1 else 0.0
    begun = max(stepped, went)
    older = own.progressing.reason == COMPLETE and 0 < own.progressing.updated < begun
    stale = older and any(each.status_changed >= begun for each in ordered[:-1])
    exact = _tells(own) and not (stale or _tells_of_another(own, newest))
    never_up = older and _never_up(workload, down, went, stepped, stale=stale)
    behind = newest is not None and _is_behind(newest, own)
    unknown = behind and rolled(workload.record, policy) is None  # what of ours its Pods bear
    complete = (is_complete(workload, replaced, exact=exact) and not (never_up or unknown)) or not_begun
    made = newest is not None and _bears(newest, workload.record, policy)
    bound = patience + own.min_ready + soak
    new_until = None if not_begun else _new_until(workload, ordered, patience)
    new = _never_available(own, ordered) and (new_until is None or now < new_until)
    progressed = None if unknown else _progressed(workload, newest, stepped, complete=complete)
    silent = not _tells(own) or own.progressing.reason == COMPLETE
    gives_up = None if not silent or complete or progressed is None else progressed + patience + own.min_ready
    given_up = own.progressing.status == "False" or (gives_up is not None and now >= gives_up)
    stands = given_up or workload.paused
    changes = _owners_changes(workload, run, policy, stepped, now)
    since = max(newest.refused.changed, newest.created, stepped) if newest is not None and made else 0.0
    refused = newest.refused if newest is not None and made else NO_CONDITION
    return Facts(
        ours=is_ours(workload, ordered, policy),
        arrived=complete and (made or newest is None or rolled(workload.record, policy) is None),
        moving=(behind or not complete) and not stands,
        empty=own.replicas == 0 or not_begun,
        paused=workload.paused,
        not_begun=not_begun,
        was_complete=made and _was_complete(workload, ordered),
        new=new,
        available=own.available.status == "True",
        unhealthy=own.available.status == "False" or given_up,
        completed=own.progressing.updated if exact else _earliest(own, replaced),
        exact=exact,
        availability_changed=own.available.changed,
        progressed=progressed,
        gives_up=None if stands else gives_up,
        refused=refused,
        refused_since=since if refused.status == "True" else None,
        new_until=new_until if new else None,
        own_wait=own.min_ready,
        on_top=len(changes) > 1 and all(later < earlier + bound for earlier, later in pairwise(changes)),
        amended=len(changes) > (2 if own.observed_generation < workload.generation else 1),
        down_since_step=down,
        behind=behind,
        said=own.progressing.message,
        said_of_availability=own.available.message,
    )


def own_of(workload: Workload) -> Own:
    """Return what is kept of a Deployment beside what is kept of every workload."""
    assert isinstance(workload.own, Own)
    return workload.own


def is_complete(workload: Workload, replaced: float = 0.0, *, exact: bool = True) -> bool:
    """Whether the newest template has been rolled out: the rule of `kubectl rollout status`, or once was.

    Complete once is complete: a Pod or node lost later changes availability, not this. The reason alone does not do:
    the controller may have seen the newest generation (of a scaling, say) before it made the ReplicaSet for it. Without
    the condition *replaced* tells when the last old Pod went (seconds since the epoch): available since, or made
    unavailable only afterwards, is once complete. Likewise where the condition is not *exact*: it means another.
    """
    own = own_of(workload)
    if own.observed_generation < workload.generation or own.updated_replicas != own.status_replicas:
        return False
    told = exact and own.progressing.reason == COMPLETE
    if told or own.replicas <= own.updated_replicas <= own.available_replicas:
        return True
    once = own.available.status == "True" or (own.available.status == "False" and own.available.changed > replaced > 0)
    return not (exact and _tells(own)) and own.updated_replicas > 0 and once


def is_ours(workload: Workload, children: Sequence[Child], policy: PolicyId) -> bool:
    """Whether the last change of the workload's Pods was *policy*'s: those before it bear another revision.

    Those before it are the older ReplicaSets that still have replicas; where none has, the one before the newest.
    Where the newest ReplicaSet bears another revision than the Deployment the controller has not made, or not taken
    up again, the one for it: the change is under way, be it that all Pods bear its revision because they have never
    left it (an `undo` in our soak that was put right at once). Where all replicas are in one with that revision, a
    change that the controller has not seen yet is another's; so it is where there never was another ReplicaSet. A
    ReplicaSet of a higher number than the Deployment's is seen ahead of it: the controller has seen the change, and
    its ReplicaSet is this one. With no history to compare (revisionHistoryLimit 0) the change counts as ours. Where
    somebody has taken away the record alone there is no change at all. Where the newest ReplicaSet is not seen yet
    nobody knows what its Pods bear: ours may be among that, and on its way out where the record names none.
    """
    revision = rolled(workload.record, policy)
    ordered = sorted(children, key=lambda each: each.number)
    older = ordered[:-1]
    own = own_of(workload)
    ahead = bool(ordered) and ordered[-1].number > own.revision > 0
    unseen = own.observed_generation < workload.generation and not ahead
    gathered = bool(ordered) and ordered[-1].replicas >= own.replicas and not any(each.replicas for each in older)
    if ordered and revision is None and _is_behind(ordered[-1], own):
        return True
    if ordered and not _bears(ordered[-1], workload.record, policy):
        return revision is not None or not _is_newest(ordered[-1], workload)
    if unseen and gathered and (older or ordered[0].number == 1):
        return False
    before = [each for each in older if each.replicas > 0] or older[-1:]
    if not before:
        return revision is not None
    return any(not _bears(each, workload.record, policy) for each in before)


def _bears(child: Child, record: str | None, policy: PolicyId) -> bool:
    """Whether a ReplicaSet was made for the revision of *policy* in *record*, and not before the step told there."""
    if child.record == (record or ""):
        return True
    revision = rolled(record, policy)
    if revision is None and policy in child.stripped:
        return True
    same = rolled(child.record, policy) == revision
    return same and (revision is None or _step(child.record, policy) >= _step(record, policy))


def _is_behind(newest: Child, own: Own) -> bool:
    """Whether the *newest* ReplicaSet that is seen is not the one that the Deployment tells of."""
    return own.revision > newest.number


def _is_newest(child: Child, workload: Workload) -> bool:
    """Whether *child* is of the template as it is: its controller has seen that, and all Pods are of its newest."""
    own = own_of(workload)
    is_seen = own.observed_generation >= workload.generation and own.revision == child.number
    return is_seen and own.updated_replicas == own.status_replicas > 0


def _step(record: str | None, policy: PolicyId) -> float:
    """When *policy*'s step was written, as *record* says (seconds since the epoch); 0 where it does not."""
    entry = record_of(record).entries.get(policy)
    return entry.note.stepped if entry is not None else 0.0


def _was_complete(workload: Workload, ordered: Sequence[Child]) -> bool:
    """Whether a change is not seen yet, and what was rolled out before it is complete: in the newest of *ordered*.

    That has to be the ReplicaSet that the status tells of: one that is seen ahead of it is of another rollout.
    """
    own = own_of(workload)
    unseen = own.observed_generation < workload.generation
    told = own.progressing.reason == COMPLETE and own.updated_replicas == own.status_replicas > 0
    same = bool(ordered) and ordered[-1].number == own.revision
    return unseen and told and same and not any(each.replicas for each in ordered[:-1])


def _revision_of(metadata: Mapping[str, Any]) -> int:
    return _number(at(metadata, "annotations").get(REVISION_ANNOTATION, ""))


def _number(text: str) -> int:
    """The number that *text* is; 0 where it is none, or more than any controller counts to: anybody may have set it."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else 0


def _tells(own: Own) -> bool:
    """Whether the controller writes the condition Progressing."""
    return own.progressing is not NO_CONDITION


def _never_up(workload: Workload, down: float | None, went: float, stepped: float, *, stale: bool) -> bool:
    """Whether all Pods went down with a step and none is up, where the condition that it is complete is older.

    *down*: it has not been available since our step; where the step was another's, since the Pods before *went*.
    *stale*: the condition is of the template before it. Where no Pod has to be available a Deployment always counts as
    available, and the numbers have to do.
    """
    own = own_of(workload)
    if down is not None:
        return own.available.changed >= stepped - FIRST_STATUS
    if own.available.status == "False":
        return own.available.changed <= went + FIRST_STATUS
    is_available = own.available.status == "True"
    return stale and bool(workload.takes_down) and is_available and own.available_replicas < own.replicas


def _went(workload: Workload, again: Child, before: Child) -> float:
    """When the Pods *before* had gone where an older ReplicaSet was taken up *again*, and all go at once; 0 elsewhere.

    A condition that was written earlier is of the template before. With Recreate no Pod of this one was made before
    that. Without it the old ones may be there for as long as their end may take, whether these are up or not (since
    Kubernetes 1.35 the status of a ReplicaSet tells when the last one has ended).
    """
    own = own_of(workload)
    if not workload.takes_down or not 0 < again.created < before.created:
        return 0.0
    return before.status_changed - (0 if own.recreates else own.grace)


def _tells_of_another(own: Own, newest: Child | None) -> bool:
    """Whether the condition says complete, and means the template before the newest.

    Its controller writes it anew where it makes a ReplicaSet, but not once more where that write has met a conflict.
    With Recreate, where the counts are right as soon as the new Pods are made, it stays so.
    """
    return own.progressing.reason == COMPLETE and newest is not None and own.progressing.updated < newest.created


def _run(ordered: Sequence[Child], record: str | None, policy: PolicyId) -> list[Child]:
    """The run of a step: the newest *ordered* ReplicaSets that bear what *record* says, the oldest of them first."""
    found: list[Child] = []
    for each in reversed(ordered):
        if not _bears(each, record, policy):
            break
        found.insert(0, each)
    return found


def _stepped(workload: Workload, run: Sequence[Child], before: Child | None, policy: PolicyId) -> float:
    """When our step was written, as the record says, or else when its first ReplicaSet was begun with; 0 unknown."""
    if step := _step(workload.record, policy):
        return step
    return _begun(workload, run[0], before) if run and before is not None else 0.0


def _begun(workload: Workload, first: Child, before: Child | None) -> float:
    """When the *first* ReplicaSet of a step was made, or the Pods *before* it had gone where it was taken up again."""
    return max(first.created, _went(workload, first, before) if before is not None else 0.0)


def _down_since_step(
    workload: Workload, run: Sequence[Child], before: Child | None, policy: PolicyId, stepped: float
) -> float | None:
    """When our step was made, where the Deployment has not been available since; None where it has, or nothing tells.

    The first ReplicaSet of the step is known where one *before* it is left, or where there never was one. Of what was
    taken out there was one. Its controller may have begun with it long after the step was written.
    """
    available, revision = own_of(workload).available, rolled(workload.record, policy)
    if available.status != "False":
        return None
    is_first = bool(run) and (before is not None or (run[0].number == 1 and revision is not None))
    began = max(stepped, _begun(workload, run[0], before) if is_first else 0.0)
    return began if 0.0 < available.changed <= began + FIRST_STATUS else None


def _owners_changes(
    workload: Workload, run: Sequence[Child], policy: PolicyId, stepped: float, now: float
) -> Sequence[float]:
    """When our step was made, and each change since then; empty where another policy's is among them, or none of ours.

    Each is a ReplicaSet. A change that the controller has not seen yet began just *now*, be it of the template or not.
    Another policy's step is none of them: it waits until ours is over. When a ReplicaSet was taken up again nothing
    tells (it was made before the one before it): as soon after that as can be.
    """
    revision = rolled(workload.record, policy)
    if revision is None or not run or not stepped:
        return ()
    records = [each.record for each in run]
    times = list(accumulate((stepped, *(each.created for each in run[1:])), max))
    if own_of(workload).observed_generation < workload.generation:
        records.append(workload.record or "")
        times.append(now)
    owners = all(_revisions(before) == _revisions(after) for before, after in pairwise(records))
    return times if owners else ()


def _revisions(record: str) -> dict[PolicyId, tuple[str, str] | None]:
    """What Pods with that record were rolled out for, of every policy."""
    return {policy: found for policy in record_of(record).entries if (found := rolled(record, policy)) is not None}


def _replaced(ordered: Sequence[Child], stepped: float) -> float:
    """The earliest that the last old Pod can have gone (seconds since the epoch); 0 where nothing tells."""
    moments = [stepped, *(each.created for each in ordered[-1:]), *(each.status_changed for each in ordered[:-1])]
    return max(moments)


def _earliest(own: Own, replaced: float) -> float:
    """When a Deployment without the condition was complete, at the earliest."""
    return max(replaced, own.available.changed if own.available.status == "True" else 0.0)


def _progressed(workload: Workload, newest: Child | None, stepped: float, *, complete: bool) -> float | None:
    """When a rollout under way last made a step forward (seconds since the epoch), None where that is not known yet.

    Giving up (ProgressDeadlineExceeded) is no step: the last one was the Deployment's own deadline earlier. Our own
    step is one: where the newest ReplicaSet is again the one that failed before, its controller renews nothing. It may
    even leave the condition at complete then, and never give up: where its counts have jumped, from those of one
    template to those of the other, it sees no step and, having been complete, no time-out.
    """
    own = own_of(workload)
    if own.observed_generation < workload.generation:
        return None
    if own.progressing.reason == COMPLETE:
        return max(own.status_changed, stepped) if own.status_changed and not complete else None
    if own.progressing.reason == TIMED_OUT:
        return max(own.progressing.updated - own.deadline, stepped)
    if _tells(own):
        return max(own.progressing.updated, stepped) or None
    return max(own.status_changed, newest.created if newest else 0.0, stepped) or None


def _never_available(own: Own, ordered: Sequence[Child]) -> bool:
    """Whether it is still in its first rollout, however long that takes."""
    return (
        len(ordered) <= 1
        and own.available.status != "True"
        and own.progressing.reason not in (COMPLETE, TIMED_OUT)
        and own.replicas > 0
    )


def _new_until(workload: Workload, ordered: Sequence[Child], patience: int) -> float | None:
    """When the time is over that a first rollout may take, None where nothing tells when it began.

    That is the Deployment's own progressDeadlineSeconds; where it has none, the policy's *patience*, in seconds.
    """
    own = own_of(workload)
    began = max([workload.created, *(each.created for each in ordered)])
    limit = patience if own.deadline == NO_DEADLINE else own.deadline
    return began + limit + own.min_ready if began else None


def _share(value: int | str | None, replicas: int) -> float:
    """How many of *replicas* a number or a percentage stands for, not rounded."""
    value = DEFAULT_SHARE if value is None else value
    if isinstance(value, str):
        return _number(value[:-1]) * replicas / 100 if value.endswith("%") else 0
    return value


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
