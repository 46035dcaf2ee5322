"""Events about what is new for a policy: a rejection, a failure, a workload that is skipped.

What the status on the object says already has been told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.plan import Situation
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.undone import Conflict
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.gathering import Memory
from sidecarpolicy.engine.store import SeenPolicy
from sidecarpolicy.engine.workload_pass import policy_reference, reference
from sidecarpolicy.engine.world import World
from sidecarpolicy.names import EventReason, Reason, SkipReason


def tell(seen: SeenPolicy, memory: Memory, situation: Situation, status: Json, world: World) -> None:
    """Events for what is new: a rejection, and workloads that are skipped now and were not before.

    After a restart nothing is known of before; where the status says the same as then, nothing is new.
    """
    about = policy_reference(seen.id, world)
    rejection = memory.rejection
    if rejection is not None and about is not None:
        told = [each["message"] for each in items(seen.status, "conditions") if each["type"] == "Ready"]
        said = next(each["message"] for each in status["conditions"] if each["type"] == "Ready")
        if said not in told:
            world.events.emit(about, reason=EventReason.REJECTED, message=said, warning=True, action="Accept")
    _tell_of_failures(seen, situation, world)
    skipped = {each.workload: each.refusal for each in situation.targets if each.refusal is not None}
    before = memory.skipped
    memory.skipped = {workload: refusal.reason for workload, refusal in skipped.items()}
    if before is None:
        same = _reasons(at(seen.status), "skipped") == _reasons(status, "skipped")
        before = memory.skipped if same else {}
    for workload, refusal in skipped.items():
        if before.get(workload) is refusal.reason or refusal.reason is SkipReason.TERMINATING:
            continue  # told before, or it goes and so would the Event
        message = f"{refusal.reason}: {refusal.message}"
        known = world.store.workloads.get(workload)
        if known is not None:
            world.events.emit(
                reference(known), reason=EventReason.SKIPPED, message=f"{seen.id.label}: {message}", action="Skip"
            )
        if about is not None:
            world.events.emit(about, reason=EventReason.SKIPPED, message=f"{workload}: {message}", action="Skip")


def _tell_of_failures(seen: SeenPolicy, situation: Situation, world: World) -> None:
    """An Event for each failure that the status has not told yet."""
    told = {_failure_key(each) for each in items(seen.status, "failures")}
    about = policy_reference(seen.id, world)
    for each in situation.targets:
        key = (each.workload.namespace, each.workload.name, each.revision or "")
        workload = world.store.workloads.get(each.workload)
        if workload is not None:
            _tell_of_a_conflict(seen, workload, each.conflict, world)
        if not each.failing or key in told or workload is None:
            continue
        message = f"{each.revision} of {seen.id.label}: {each.message}"
        world.events.emit(reference(workload), reason=EventReason.FAILED, message=message, warning=True)
        if about is not None:
            what = f"{each.workload}: {each.revision}: {each.message}"
            world.events.emit(about, reason=EventReason.FAILED, message=what, warning=True)


def _tell_of_a_conflict(seen: SeenPolicy, workload: Workload, conflict: Conflict | None, world: World) -> None:
    """An Event, once for each conflict, on the Deployment and on the policy; what the status tells has been told."""
    key = (workload.uid, seen.id)
    if conflict is None:
        world.told_conflicts.discard(key)
        return
    listed = {
        (each["namespace"], each["name"])
        for each in items(seen.status, "failures")
        if each["reason"] == Reason.FIELD_CONFLICT
    }
    place = (workload.id.namespace, workload.id.name)
    if key in world.told_conflicts or place in listed or conflict.put_back:
        return
    world.told_conflicts.add(key)
    what = f"{conflict.by} keeps undoing {conflict.what}"
    message = f'{what} of {seen.id.label}; the label {names.INJECT}: "false" would keep that out'
    world.events.emit(reference(workload), reason=EventReason.FIELD_CONFLICT, message=message, warning=True)
    if (about := policy_reference(seen.id, world)) is not None:
        message = f"{workload.id}: {what}"
        world.events.emit(about, reason=EventReason.FIELD_CONFLICT, message=message, warning=True)


def _failure_key(each: Mapping[str, Any]) -> tuple[str, str, str]:
    return each["namespace"], each["name"], each["revision"]


def _reasons(status: Json, listed: str) -> Counter[str]:
    return Counter({each["reason"]: each["count"] for each in items(status, listed)})
