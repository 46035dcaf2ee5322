"""Why a rollout makes no progress: which container of which Pod waits for what.

Read on demand, from the newest Pod of the newest template, its Events and what the controller says, once a rollout is
late. Our containers come first, in their order, then the application's. Some causes are the namespace's, not the
revision's (a quota, an absent Secret or ConfigMap, an admission rule): those say nothing about other namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import Condition

PROGRESS_DEADLINE = "ProgressDeadlineExceeded"
POD_REFUSED = "FailedCreate"
UNSCHEDULABLE = "Unschedulable"
STARTUP_PROBE = "StartupProbe"
NOT_READY = "NotReady"
FAILED_MOUNT = "FailedMount"
CRASH_LOOP = "CrashLoopBackOff"

# Of a Pod with which nothing is wrong at this moment.
UNSEEN = "the cause cannot be seen any more: no container of the newest Pod waits or has failed"

# How a process ends that is stopped by TERM or KILL.
STOPPED = (128 + 15, 128 + 9)

# Between two sentences of a message.
SENTENCE_END = re.compile(r"(?<=\.)\s+")

# What a container waits for while nothing is wrong.
ORDINARY_WAITS = frozenset({"", "ContainerCreating", "PodInitializing"})

# Words of the kubelet and of admission that blame the namespace.
ABSENT = ("secret", "configmap")
REFUSED_BY_NAMESPACE = ("exceeded quota", "violates podsecurity", "denied the request", "is forbidden", "limitrange")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """*container* is empty where no container is to blame. *ours*: it is one of our sidecars.

    *of_namespace*: the cause lies in the namespace, and another workload elsewhere may well succeed.
    """

    reason: str
    message: str
    container: str = ""
    ours: bool = False
    of_namespace: bool = False

    @property
    def ours_crashed(self) -> bool:
        """Whether one of our sidecars has crashed, rather than not being ready yet."""
        return self.ours and self.reason == CRASH_LOOP


def diagnose(
    said: str,
    refused: Condition,
    pods: Sequence[Json],
    events: Sequence[Json],
    ours: Sequence[str],
    limits: Mapping[str, int],
) -> Diagnosis:
    """Return the best explanation for why a workload makes no progress.

    *said*: its controller's words about that. *refused*: whether its newest template cannot make Pods, and why. *pods*
    are those of its newest template, *events* those about them. *ours*: our sidecars in start order. *limits*: for a
    container with a startup probe, the seconds after which the kubelet gives up.
    """
    pod = max(pods, key=lambda each: str(at(each, "metadata").get("creationTimestamp")), default=None)
    if pod is None:
        return _without_pods(said, refused)
    found = next(_of_containers(pod, ours, limits), None) or _of_volumes(pod, events) or _of_scheduling(pod)
    # What the controller says of its progress ("ReplicaSet … is progressing.") is no cause.
    return found or Diagnosis(reason=PROGRESS_DEADLINE, message=UNSEEN)


def _without_pods(said: str, refused: Condition) -> Diagnosis:
    """No Pod was made: a quota, PodSecurity or a webhook refuses it, in the words that the controller passes on."""
    if refused.status != "True":
        return Diagnosis(reason=PROGRESS_DEADLINE, message="no Pod was created, and no reason is given")
    blamed = refused.message.lower()
    return Diagnosis(
        reason=refused.reason or POD_REFUSED,
        message=refused.message,
        of_namespace=any(words in blamed for words in REFUSED_BY_NAMESPACE),
    )


def _of_containers(pod: Json, ours: Sequence[str], limits: Mapping[str, int]) -> Iterator[Diagnosis]:
    statuses = {
        each["name"]: each
        for listed in ("initContainerStatuses", "containerStatuses")
        for each in items(at(pod, "status"), listed)
    }
    names = [*(name for name in ours if name in statuses), *(name for name in statuses if name not in ours)]
    for name in names:
        found = _of_container(statuses[name], limits.get(name))
        if found is not None:
            reason, message, of_namespace = found
            yield Diagnosis(
                reason=reason,
                message=f"{name}: {message}",
                container=name,
                ours=name in ours,
                of_namespace=of_namespace,
            )
    # Nothing waits: then something runs that has crashed again and again, or is not ready.
    for name in names:
        if (statuses[name].get("restartCount") or 0) > 1 and _has_crashed(statuses[name]):
            message = f"{name}: {CRASH_LOOP}: {_crash(statuses[name])}"
            yield Diagnosis(reason=CRASH_LOOP, message=message, container=name, ours=name in ours)
    for name in names:
        running = at(statuses[name], "state").get("running")
        if running is not None and statuses[name].get("started") and not statuses[name].get("ready"):
            message = f"{name}: readiness probe does not succeed"
            yield Diagnosis(reason=NOT_READY, message=message, container=name, ours=name in ours)


def _of_container(status: Json, limit: int | None) -> tuple[str, str, bool] | None:
    """Return reason, sentence, and whether the namespace is to blame; None where the container is well or done."""
    waiting = at(status, "state", "waiting")
    reason = str(waiting.get("reason") or "")
    said = str(waiting.get("message") or "")
    exited = at(status, "state", "terminated")
    restarts = status.get("restartCount") or 0
    starts = at(status, "state").get("running") is not None and status.get("started") is False
    if reason == CRASH_LOOP or (waiting and reason in ORDINARY_WAITS and _crash(status)):
        return CRASH_LOOP, f"{CRASH_LOOP}: {_crash(status) or said}", False
    if exited.get("exitCode") and restarts:  # between a crash and the next start, which comes at once at first
        return CRASH_LOOP, f"{CRASH_LOOP}: {_exit(exited)}", False
    if starts and restarts and _has_crashed(status):
        return CRASH_LOOP, f"{CRASH_LOOP}: {_crash(status)}", False
    if waiting and reason not in ORDINARY_WAITS:
        absent = reason == "CreateContainerConfigError" and any(f"{kind} " in said for kind in ABSENT)
        return reason, f"{reason}: {said}" if said else reason, absent
    if exited.get("exitCode"):
        return "Error", _exit(exited), False
    if starts:
        given_up = f" (the kubelet gives up after {limit} s)" if limit else ""
        times = f", restarted {restarts} times" if restarts else ""
        return STARTUP_PROBE, f"startup probe does not succeed{given_up}{times}", False
    return None


def _has_crashed(status: Json) -> bool:
    """Whether it ended by itself the last time, with an error: the kubelet stops with TERM and KILL."""
    return at(status, "lastState", "terminated").get("exitCode", 0) not in (0, *STOPPED)


def _crash(status: Json) -> str:
    exited = at(status, "lastState", "terminated")
    return _exit(exited) if exited else ""


def _exit(exited: Json) -> str:
    """`exit code 137, OOMKilled: <the container's last words>`."""
    reason = exited.get("reason") or ""
    named = f", {reason}" if reason not in ("", "Error", "Completed") else ""
    last_words = str(exited.get("message") or "").strip()
    return f"exit code {exited.get('exitCode')}{named}" + (f": {last_words}" if last_words else "")


def _of_volumes(pod: Json, events: Sequence[Json]) -> Diagnosis | None:
    """A volume that cannot be mounted shows in Events alone; the containers only say ContainerCreating."""
    name = at(pod, "metadata").get("name")
    told = [
        str(each.get("note") or each.get("message") or "")
        for each in events
        if each.get("reason") == FAILED_MOUNT
        and (at(each, "regarding") or at(each, "involvedObject")).get("name") == name
    ]
    if not told:
        return None
    absent = any(f"{kind} " in told[-1] and "not found" in told[-1] for kind in ABSENT)
    return Diagnosis(reason=FAILED_MOUNT, message=told[-1], of_namespace=absent)


def _of_scheduling(pod: Json) -> Diagnosis | None:
    for condition in items(at(pod, "status"), "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = _said_once(str(condition.get("message") or ""))
            return Diagnosis(reason=str(condition.get("reason") or UNSCHEDULABLE), message=said)
    return None


def _said_once(message: str) -> str:
    """Return the scheduler's *message* without sentences that end as one before them (`"x" not found. not found`)."""
    kept: list[str] = []
    for sentence in SENTENCE_END.split(message):
        plain = sentence.strip().rstrip(".")
        if plain and not any(before.endswith(plain) for before in kept):
            kept.append(plain)
    return ". ".join(kept) + ("." if message.rstrip().endswith(".") else "")


def probe_limits(template: Mapping[str, Any]) -> dict[str, int]:
    """For each container of *template* with a startup probe: after how many seconds the kubelet gives up on it."""
    spec = at(template, "spec")
    limits = {}
    for container in (*items(spec, "initContainers"), *items(spec, "containers")):
        probe = at(container, "startupProbe")
        if probe:
            period, times = probe.get("periodSeconds") or 10, probe.get("failureThreshold") or 3
            limits[container["name"]] = (probe.get("initialDelaySeconds") or 0) + period * times
    return limits
