"""What is to come, counted before anything moves: the arithmetic of every policy that a workload has or waits for.

A policy's turn may be hours away, or never come while the rollout is paused; what its update revision would cost is
told from the beginning. Each is composed beside what is there now, as its own step would do it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecarpolicy.core.arithmetic.change import Change, Finding
from sidecarpolicy.core.arithmetic.findings import findings
from sidecarpolicy.core.arithmetic.injectors import calling
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import compose
from sidecarpolicy.core.record import INIT_CONTAINERS
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import at
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.adjusted import as_adjusted
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Judgement, Preflight


def preflight(
    workload: Workload,
    judgement: Judgement,
    assigned: Mapping[PolicyId, Revision],
    held: frozenset[PolicyId],
    context: Context,
) -> Preflight:
    """Return what is to be said of each policy that is not refused here; kept until something that matters changes.

    *assigned* and *held*: what the workload is to carry now.
    """
    coming = {
        policy: (
            as_adjusted(stored.revision, judgement.wishes, judgement.record, context),
            cached.policy.rollout.progress_deadline_seconds,
        )
        for policy, skip in judgement.verdicts.items()
        if skip is None
        and (cached := context.cache.policies.get(policy)) is not None
        and cached.policy is not None
        and (stored := context.cache.update_revision(policy)) is not None
    }
    namespace = calling(context.cache.namespace(workload.id.namespace).labels)
    key = (
        workload.body,
        workload.record,
        judgement,
        tuple((policy, revision.name, revision.adjustment) for policy, revision in assigned.items()),
        held,
        tuple((policy, each.name, each.adjustment, deadline) for policy, (each, deadline) in coming.items()),
        (workload.deadline, workload.min_ready),
        namespace,
    )
    remembered = context.memory.of(workload.id)
    kept = remembered.foreseen
    if kept is not None and kept[0] == key:
        return kept[1]

    content = workload.content
    spec = at(content.template, "spec")

    def of(policy: PolicyId, revision: Revision, deadline: int) -> tuple[Finding, ...]:
        overridden = {
            other for other, skip in judgement.verdicts.items() if skip is not None and skip.overridden_by == policy
        }
        there = judgement.record.entries.get(policy)
        as_is = there is not None and (there.revision, there.adjustment) == (revision.name, revision.adjustment)
        if there is not None and as_is and not overridden:
            after, provided = content.template, there.items
        else:
            composed = compose(
                content.template,
                judgement.record,
                {other: each for other, each in assigned.items() if other not in overridden} | {policy: revision},
                known=context.revision,
                claims=content.claims,
                held=held - overridden - {policy},
                abandoned=judgement.missing,
            )
            after, provided = composed.template, composed.record.entries[policy].items
        change = Change(
            now=spec,
            after=at(after, "spec"),
            ours=frozenset(item.name for item in provided if item.list == INIT_CONTAINERS),
            provided=provided,
            annotations=at(after, "metadata", "annotations"),
            labels=at(after, "metadata", "labels"),
            namespace=namespace,
            emptied=content.claims.emptied,
            progress_deadline=deadline,
            own_deadline=workload.deadline,
            own_wait=workload.min_ready,
        )
        return findings(change)

    found = {policy: of(policy, *each) for policy, each in coming.items()}
    remembered.foreseen = (key, found)
    return found
