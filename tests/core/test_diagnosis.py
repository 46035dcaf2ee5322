"""Why a rollout makes no progress, told from Pods, Events and conditions as a cluster has them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecarpolicy.core.diagnosis import UNSEEN, Diagnosis, diagnose, probe_limits
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import NO_CONDITION, Condition
from tests.core.objects import at_second

OURS = ("proxy", "logger")
NO_LIMITS: dict[str, int] = {}
LATE = 'ReplicaSet "cart-7d9" has timed out progressing.'


def a_status(name: str, state: Json, *, ready: bool = False, started: bool = False, **fields: Any) -> Json:
    """What the kubelet tells of one container."""
    return {
        "name": name,
        "image": f"example.test/{name}:1",
        "imageID": "",
        "ready": ready,
        "started": started,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    } | fields


def waiting(reason: str, message: str = "") -> Json:
    """A container that waits."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def exited(code: int, reason: str = "Error", message: str = "") -> Json:
    """A container that has exited."""
    ended = {"exitCode": code, "reason": reason, "startedAt": at_second(10), "finishedAt": at_second(12)}
    return {"terminated": {**ended, "containerID": "containerd://1", **({"message": message} if message else {})}}


RUNNING: Json = {"running": {"startedAt": at_second(10)}}
WELL = {"ready": True, "started": True}
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at_second(0)}


def a_pod(
    *init: Json, containers: tuple[Json, ...] = (), name: str = "cart-7d9-x2x4z", second: int = 0, **status: Any
) -> Json:
    """A Pod with these container statuses."""
    return {
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": at_second(second)},
        "spec": {"initContainers": [{"name": each["name"]} for each in init], "containers": [{"name": "app"}]},
        "status": {
            "phase": "Pending",
            "conditions": [SCHEDULED],
            "initContainerStatuses": list(init),
            "containerStatuses": list(containers or (a_status("app", waiting("PodInitializing")),)),
        }
        | status,
    }


def an_event(note: str, *, pod: str = "cart-7d9-x2x4z", reason: str = "FailedMount") -> Json:
    """An Event about a Pod, as events.k8s.io/v1 has it."""
    return {
        "type": "Warning",
        "reason": reason,
        "note": note,
        "regarding": {"kind": "Pod", "namespace": "shop", "name": pod},
        "reportingController": "kubelet",
    }


def of(*pods: Json, events: tuple[Json, ...] = (), limits: dict[str, int] = NO_LIMITS) -> Diagnosis:
    """The diagnosis of a Deployment whose deadline has passed."""
    return diagnose(LATE, NO_CONDITION, pods, events, OURS, limits)


PULL = 'Back-off pulling image "example.test/proxy:9": ErrImagePull: example.test/proxy:9: not found'
NO_SECRET = 'secret "proxy-token" not found'
NO_MAP = 'configmap "proxy-config" not found'


@pytest.mark.parametrize(
    ("status", "reason", "message", "of_namespace"),
    [
        (
            a_status("proxy", waiting("ImagePullBackOff", PULL)),
            "ImagePullBackOff",
            f"proxy: ImagePullBackOff: {PULL}",
            False,
        ),
        (
            a_status("proxy", waiting("ErrImagePull", "example.test/proxy:9: not found")),
            "ErrImagePull",
            "proxy: ErrImagePull: example.test/proxy:9: not found",
            False,
        ),
        (
            a_status(
                "proxy",
                waiting("CrashLoopBackOff", "back-off 40s restarting failed container=proxy pod=cart-7d9-x2x4z_shop"),
                restartCount=3,
                lastState=exited(2, message="listen tcp :80: bind: permission denied\n"),
            ),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 2: listen tcp :80: bind: permission denied",
            False,
        ),
        (
            a_status("proxy", waiting("CrashLoopBackOff"), lastState=exited(137, "OOMKilled")),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 137, OOMKilled",
            False,
        ),
        (
            a_status("proxy", waiting("CrashLoopBackOff"), lastState=exited(0, "Completed")),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 0",
            False,
        ),
        (
            a_status("proxy", waiting("CrashLoopBackOff", "back-off 10s restarting failed container=proxy")),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: back-off 10s restarting failed container=proxy",
            False,
        ),
        (
            a_status("proxy", waiting("PodInitializing"), restartCount=1, lastState=exited(1, message="no route")),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 1: no route",
            False,
        ),
        (
            a_status("proxy", exited(3, message="cannot bind"), restartCount=1, lastState=exited(3)),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 3: cannot bind",
            False,
        ),
        (
            a_status("proxy", RUNNING, started=False, restartCount=2, lastState=exited(3, message="cannot bind")),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 3: cannot bind",
            False,
        ),
        (
            a_status("proxy", RUNNING, started=False, restartCount=2, lastState=exited(137)),
            "StartupProbe",
            "proxy: startup probe does not succeed, restarted 2 times",
            False,
        ),
        (
            a_status("proxy", RUNNING, started=True, ready=True, restartCount=2, lastState=exited(3)),
            "CrashLoopBackOff",
            "proxy: CrashLoopBackOff: exit code 3",
            False,
        ),
        (a_status("proxy", exited(137, "OOMKilled")), "Error", "proxy: exit code 137, OOMKilled", False),
        (a_status("proxy", exited(1, message="bad flag")), "Error", "proxy: exit code 1: bad flag", False),
        (
            a_status("proxy", waiting("CreateContainerConfigError", NO_SECRET)),
            "CreateContainerConfigError",
            f"proxy: CreateContainerConfigError: {NO_SECRET}",
            True,
        ),
        (
            a_status("proxy", waiting("CreateContainerConfigError", NO_MAP)),
            "CreateContainerConfigError",
            f"proxy: CreateContainerConfigError: {NO_MAP}",
            True,
        ),
        (
            a_status(
                "proxy",
                waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
            ),
            "CreateContainerConfigError",
            "proxy: CreateContainerConfigError: container has runAsNonRoot and image will run as root",
            False,
        ),
        (a_status("proxy", waiting("InvalidImageName")), "InvalidImageName", "proxy: InvalidImageName", False),
    ],
)
def test_what_is_wrong_with_one_of_our_containers(status: Json, reason: str, message: str, of_namespace: bool) -> None:
    assert of(a_pod(status)) == Diagnosis(
        reason=reason, message=message, container="proxy", ours=True, of_namespace=of_namespace
    )


def test_a_startup_probe_that_does_not_succeed_says_for_how_long_it_may() -> None:
    pod = a_pod(a_status("proxy", RUNNING))
    assert of(pod, limits={"proxy": 120}) == Diagnosis(
        reason="StartupProbe",
        message="proxy: startup probe does not succeed (the kubelet gives up after 120 s)",
        container="proxy",
        ours=True,
    )


def test_a_startup_probe_that_was_given_up_before_says_how_often() -> None:
    found = of(a_pod(a_status("proxy", RUNNING, restartCount=2, lastState=exited(137))))
    assert found.message == "proxy: startup probe does not succeed, restarted 2 times"


def test_a_container_that_runs_and_is_not_ready() -> None:
    proxy, app = a_status("proxy", RUNNING, **WELL), a_status("app", RUNNING, started=True)
    assert of(a_pod(proxy, containers=(app,), phase="Running")) == Diagnosis(
        reason="NotReady", message="app: readiness probe does not succeed", container="app"
    )


def test_ours_come_first_in_their_order_then_the_applications() -> None:
    pull = waiting("ImagePullBackOff", "not found")
    app, migrate = a_status("app", pull), a_status("migrate", exited(3))
    logger, proxy = a_status("logger", pull), a_status("proxy", pull)
    well = a_status("proxy", RUNNING, **WELL)
    assert of(a_pod(migrate, logger, proxy, containers=(app,))).container == "proxy"
    assert of(a_pod(migrate, logger, well, containers=(app,))).container == "logger"
    theirs = of(a_pod(migrate, well, containers=(app,)))
    assert (theirs.container, theirs.ours, theirs.message) == ("migrate", False, "migrate: exit code 3")
    assert of(a_pod(well, containers=(app,))).container == "app"


def test_what_fails_comes_before_what_is_only_not_ready() -> None:
    proxy = a_status("proxy", RUNNING, started=True)
    app = a_status("app", waiting("CrashLoopBackOff"), lastState=exited(1))
    assert of(a_pod(proxy, containers=(app,))).container == "app"


def test_an_init_container_that_is_done_is_no_cause() -> None:
    done = a_status("migrate", exited(0, "Completed"), ready=True)
    app = a_status("app", waiting("ErrImagePull", "denied"))
    assert of(a_pod(done, a_status("proxy", RUNNING, **WELL), containers=(app,))).container == "app"


def test_the_newest_pod_is_looked_at() -> None:
    old = a_pod(a_status("proxy", waiting("ImagePullBackOff", "old")), name="cart-7d9-old", second=1)
    new = a_pod(a_status("logger", waiting("ImagePullBackOff", "new")), name="cart-7d9-new", second=2)
    assert of(old, new) == of(new, old) == of(new)
    assert of(old, new).container == "logger"


WAITS = a_status("proxy", waiting("PodInitializing"))


@pytest.mark.parametrize(
    ("note", "of_namespace"),
    [
        (f'MountVolume.SetUp failed for volume "token" : {NO_SECRET}', True),
        (f'MountVolume.SetUp failed for volume "config" : {NO_MAP}', True),
        ('MountVolume.SetUp failed for volume "config" : configmap references non-existent config key: proxy', False),
        ('MountVolume.MountDevice failed for volume "pvc-1" : rpc error: code = Internal', False),
    ],
)
def test_a_volume_that_cannot_be_mounted_shows_in_an_event(note: str, of_namespace: bool) -> None:
    found = of(a_pod(WAITS), events=(an_event("elsewhere", pod="other"), an_event(note)))
    assert found == Diagnosis(reason="FailedMount", message=note, of_namespace=of_namespace)


def test_an_event_of_the_old_api_and_the_last_one_told() -> None:
    old = {"reason": "FailedMount", "message": NO_SECRET, "involvedObject": {"name": "cart-7d9-x2x4z"}}
    assert of(a_pod(WAITS), events=(an_event("timed out"), old)).message == NO_SECRET
    assert of(a_pod(WAITS), events=(an_event("pulled", reason="Pulled"),)).reason == "ProgressDeadlineExceeded"


def test_a_pod_that_no_node_takes() -> None:
    said = "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available"
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    pod = a_pod(conditions=[unscheduled], containerStatuses=[], initContainerStatuses=[])
    assert of(pod) == Diagnosis(reason="Unschedulable", message=said)


def refused(said: str) -> Condition:
    """The condition of a ReplicaSet that cannot make Pods."""
    return Condition(status="True", reason="FailedCreate", message=said, updated=0.0, changed=0.0)


POD = 'pods "cart-7d9-x2x4z" is forbidden: '


@pytest.mark.parametrize(
    ("said", "of_namespace"),
    [
        (f"{POD}exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2", True),
        (f'{POD}violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false', True),
        ('admission webhook "policy.example.test" denied the request: no such image', True),
        (f"{POD}maximum memory usage per Container is 64Mi, but limit is 128Mi", True),
        ('Pod "cart-7d9-x2x4z" is invalid: spec.initContainers[0].image: Required value', False),
    ],
)
def test_no_pod_is_made(said: str, of_namespace: bool) -> None:
    found = diagnose(LATE, refused(said), [], [], OURS, NO_LIMITS)
    assert found == Diagnosis(reason="FailedCreate", message=said, of_namespace=of_namespace)


def test_no_pod_and_no_word_about_it() -> None:
    for said in (LATE, ""):
        assert diagnose(said, NO_CONDITION, [], [], OURS, NO_LIMITS) == Diagnosis(
            reason="ProgressDeadlineExceeded", message="no Pod was created, and no reason is given"
        )


def test_a_healthy_pod_explains_nothing() -> None:
    pod = a_pod(a_status("proxy", RUNNING, **WELL), containers=(a_status("app", RUNNING, **WELL),), phase="Running")
    expected = Diagnosis(reason="ProgressDeadlineExceeded", message=UNSEEN)
    assert of(pod) == expected
    assert not expected.ours
    assert diagnose("", NO_CONDITION, [pod], [], OURS, NO_LIMITS) == expected


def test_a_pod_of_which_the_kubelet_has_told_nothing_yet() -> None:
    assert of({"metadata": {"name": "cart-7d9-x2x4z"}, "status": {"phase": "Pending"}}).container == ""
    assert of({"metadata": {"name": "cart-7d9-x2x4z"}}).reason == "ProgressDeadlineExceeded"


def test_after_how_long_the_kubelet_gives_up() -> None:
    slow = {"periodSeconds": 2, "failureThreshold": 60, "initialDelaySeconds": 5}
    spec: Json = {
        "initContainers": [{"name": "proxy", "startupProbe": slow}, {"name": "migrate"}],
        "containers": [{"name": "app", "startupProbe": {"httpGet": {"port": 80}}}],
    }
    assert probe_limits({"spec": spec}) == {"proxy": 125, "app": 30}
    assert probe_limits({}) == {}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('persistentvolumeclaim "x" not found. not found', 'persistentvolumeclaim "x" not found'),
        (
            "0/3 nodes are available: 3 Insufficient cpu. no new claims.",
            "0/3 nodes are available: 3 Insufficient cpu. no new claims.",
        ),
        ("one. one. two", "one. two"),
        ("", ""),
    ],
)
def test_what_the_scheduler_says_twice_is_told_once(said: str, told: str) -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    pod = {"metadata": {"name": "cart-1"}, "status": {"conditions": [unscheduled]}}
    assert diagnose("", NO_CONDITION, [pod], [], [], {}).message == told
