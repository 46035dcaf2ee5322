"""Reading a policy: everything that is wrong is said at once, with its path; equal meaning gives an equal revision."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.decode import InvalidPolicy, careful, decode_policy, readable_deletion_policy
from sidecarpolicy.core.injection import eject, inject
from sidecarpolicy.core.policy import Policy, Rollout
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import Record
from sidecarpolicy.core.rendering import canonical_request, offline
from sidecarpolicy.core.revision import revision_name
from sidecarpolicy.core.tree import Json
from sidecarpolicy.names import DeletionPolicy, OnFailure, OptOut, PodReadiness, Position, Removal, Startup
from tests.core.objects import a_cluster_policy, a_policy, a_sidecar


def problems(manifest: Json) -> dict[str, str]:
    """What is wrong with *manifest*, by path."""
    with pytest.raises(InvalidInput) as caught:
        decode_policy(manifest)
    found = caught.value.problems
    assert len(found) == len(set(found)), "each problem is said once"
    return {problem.path: problem.message for problem in found}


def of(spec: Json) -> str:
    """The name of the revision that *spec* makes."""
    policy = decode_policy(a_policy() | {"spec": spec})
    return revision_name(policy.id, policy.words)


LABEL = "must be a DNS label"
PORT = {"containerPort": 80}
MOUNT = {"name": "logs", "mountPath": "/logs"}
LOGS = {"name": "logs", "emptyDir": {}}

REFUSED: list[tuple[Json, str, str]] = [
    # The whole.
    (a_policy(selectr={}), "spec.selectr", "must be one of"),
    (a_policy(namespaceSelector={}), "spec.namespaceSelector", "must be one of"),
    (a_policy(priority="high"), "spec.priority", "must be a whole number, not a string ('high')"),
    (a_policy(priority=2**31), "spec.priority", "must be between -2147483648 and 2147483647, not 2147483648"),
    (a_policy(priority=True), "spec.priority", "must be a whole number, not a boolean (True)"),
    (a_policy(deletionPolicy="Keep"), "spec.deletionPolicy", "must be one of Remove, Orphan, not 'Keep'"),
    (a_policy() | {"metadata": {"namespace": "shop"}}, "metadata.name", "must be given"),
    (
        a_policy() | {"kind": "Deployment"},
        "kind",
        "must be SidecarPolicy or ClusterSidecarPolicy of sidecars.dev/v1alpha1",
    ),
    (a_policy() | {"apiVersion": "sidecars.dev/v9"}, "kind", "must be SidecarPolicy or"),
    (a_policy() | {"spec": "x"}, "spec", "must be a mapping, not a string ('x')"),
    # Selectors.
    (a_policy(selector=None), "spec.selector", "must be given; {} selects everything"),
    (a_cluster_policy(namespaceSelector=None), "spec.namespaceSelector", "must be given; {} selects everything"),
    (a_policy(selector={"matchLabel": {}}), "spec.selector.matchLabel", "must be one of matchExpressions, matchLabels"),
    (a_policy(selector={"matchLabels": []}), "spec.selector.matchLabels", "must be a mapping, not a list"),
    (
        a_policy(selector={"matchLabels": {"tier": 1}}),
        "spec.selector.matchLabels.tier",
        "must be a string, not a number (1)",
    ),
    (
        a_policy(selector={"matchLabels": {"tier": None}}),
        "spec.selector.matchLabels.tier",
        "must be the value of a label",
    ),
    (
        a_policy(selector={"matchLabels": {"tier": "a b"}}),
        "spec.selector.matchLabels.tier",
        "must be the value of a label",
    ),
    (
        a_policy(selector={"matchLabels": {"a b": "x"}}),
        "spec.selector.matchLabels",
        "must be the key of a label, not 'a b'",
    ),
    (
        a_policy(selector={"matchExpressions": [{"key": "tier"}]}),
        "spec.selector.matchExpressions[0].operator",
        "must be one of In, NotIn, Exists, DoesNotExist",
    ),
    (
        a_policy(selector={"matchExpressions": [{"key": "tier", "operator": "Is"}]}),
        "spec.selector.matchExpressions[0].operator",
        "must be one of In, NotIn, Exists, DoesNotExist, not 'Is'",
    ),
    (
        a_policy(selector={"matchExpressions": [{"key": "tier", "operator": "NotIn"}]}),
        "spec.selector.matchExpressions[0].values",
        "must not be empty when the operator is NotIn",
    ),
    (
        a_policy(selector={"matchExpressions": [{"key": "tier", "operator": "Exists", "values": ["x"]}]}),
        "spec.selector.matchExpressions[0].values",
        "must be empty when the operator is Exists",
    ),
    (
        a_policy(selector={"matchExpressions": [{"operator": "Exists"}]}),
        "spec.selector.matchExpressions[0].key",
        "must be the key of a label",
    ),
    # Sidecars.
    (a_policy(sidecars=None), "spec.sidecars", "must hold between 1 and 16 sidecars, not 0"),
    (a_policy(sidecars="proxy"), "spec.sidecars", "must hold between 1 and 16 sidecars"),
    (
        a_policy(sidecars=[a_sidecar(f"s{n}") for n in range(17)]),
        "spec.sidecars",
        "must hold between 1 and 16 sidecars, not 17",
    ),
    (a_policy(sidecars=[None]), "spec.sidecars[0].name", LABEL),
    (a_policy(sidecars=["proxy"]), "spec.sidecars[0]", "must be a mapping, not a string ('proxy')"),
    (a_policy(sidecars=[a_sidecar("Proxy")]), "spec.sidecars[0].name", f"{LABEL} (lower-case letters"),
    (a_policy(sidecars=[a_sidecar("p" * 64)]), "spec.sidecars[0].name", LABEL),
    (a_policy(sidecars=[a_sidecar("-proxy")]), "spec.sidecars[0].name", LABEL),
    (a_policy(sidecars=[a_sidecar("proxy\n")]), "spec.sidecars[0].name", LABEL),
    (a_policy(sidecars=[a_sidecar(), a_sidecar()]), "spec.sidecars[1].name", "must not appear twice: 'proxy'"),
    (a_policy(sidecars=[a_sidecar(rol="Proxy")]), "spec.sidecars[0].rol", "must be one of container, name"),
    (
        a_policy(sidecars=[a_sidecar(role="Mesh")]),
        "spec.sidecars[0].role",
        "must be one of Proxy, Logger, Monitor, Custom",
    ),
    (a_policy(sidecars=[a_sidecar(role=["Proxy"])]), "spec.sidecars[0].role", "must be one of Proxy"),
    (
        a_policy(sidecars=[a_sidecar(position="First")]),
        "spec.sidecars[0].position",
        "must be one of BeforeInit, AfterInit",
    ),
    (a_policy(sidecars=[a_sidecar(startup="Never")]), "spec.sidecars[0].startup", "must be one of WaitUntilReady"),
    (
        a_policy(sidecars=[a_sidecar(podReadiness=True)]),
        "spec.sidecars[0].podReadiness",
        "must be one of Include, Exclude",
    ),
    # Containers.
    (a_policy(sidecars=[{"name": "proxy"}]), "spec.sidecars[0].container.image", "must be given"),
    (a_policy(sidecars=[a_sidecar(container={"image": ""})]), "spec.sidecars[0].container.image", "must be given"),
    (
        a_policy(sidecars=[a_sidecar(container={"image": "proxy:1 "})]),
        "spec.sidecars[0].container.image",
        "must have no white space, not 'proxy:1 '",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"name": "x"})]),
        "spec.sidecars[0].container.name",
        "must not be set: the policy",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"restartPolicy": "Always"})]),
        "spec.sidecars[0].container.restartPolicy",
        "must not be set: the policy sets it",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"restartPolicyRules": []})]),
        "spec.sidecars[0].container.restartPolicyRules",
        "must not be set: the policy sets it",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"ports": 80})]),
        "spec.sidecars[0].container.ports",
        "must be a list, not a number",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"ports": ["80"]})]),
        "spec.sidecars[0].container.ports[0]",
        "must be a mapping, not a string ('80')",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"ports": [{"containerPort": "80"}]})]),
        "spec.sidecars[0].container.ports[0].containerPort",
        "must be a whole number",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"ports": [PORT, PORT | {"protocol": "TCP"}]})]),
        "spec.sidecars[0].container.ports[1]",
        "must not repeat containerPort 80/TCP",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"ports": [PORT | {"protocol": ["TCP"]}]})]),
        "spec.sidecars[0].container.ports[0].protocol",
        "must be a string",
    ),
    (
        a_policy(sidecars=[a_sidecar("a", container={"ports": [PORT]}), a_sidecar("b", container={"ports": [PORT]})]),
        "spec.sidecars[1].container.ports",
        "must not repeat containerPort 80/TCP of sidecar 'a': all containers of a Pod share its network",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"readinessProbe": {"timeoutSeconds": "1s"}})]),
        "spec.sidecars[0].container.readinessProbe.timeoutSeconds",
        "must be a whole number",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"readinessProbe": "tcp"})]),
        "spec.sidecars[0].container.readinessProbe",
        "must be a mapping",
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"volumeMounts": [MOUNT]})]),
        "spec.sidecars[0].container.volumeMounts[0].name",
        "must be a volume of spec.volumes (there is none), not 'logs'",
    ),
    *(
        (
            a_policy(volumes=[LOGS], sidecars=[a_sidecar(container={listed: [entry]})]),
            f"spec.sidecars[0].container.{listed}[0]{path}",
            message,
        )
        for listed, entry, path, message in (
            ("volumeMounts", {"name": "logs"}, ".mountPath", "must be given"),
            ("volumeMounts", {"name": "logs", "mountPath": ""}, ".mountPath", "must be given"),
            ("volumeMounts", {"name": "logs", "mountPath": ["/logs"]}, ".mountPath", "must be a string, not a list"),
            ("volumeDevices", {"name": "logs", "devicePath": {}}, ".devicePath", "must be a string, not a mapping"),
            ("env", {"value": "x"}, ".name", "must be given"),
            ("env", {"name": 1}, ".name", "must be a string, not a number (1)"),
            ("env", "A=x", "", "must be a mapping, not a string ('A=x')"),
        )
    ),
    *(
        (
            a_policy(sidecars=[a_sidecar(container={field: ["x"]})]),
            f"spec.sidecars[0].container.{field}",
            "must be a mapping, not a list",
        )
        for field in ("lifecycle", "livenessProbe", "resources", "securityContext", "startupProbe")
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"resources": {"claims": ["gpu"]}})]),
        "spec.sidecars[0].container.resources.claims[0]",
        "must be a mapping, not a string ('gpu')",
    ),
    # What UTF-8 cannot hold.
    *(
        (
            a_policy(sidecars=[a_sidecar(container={"resources": {"requests": requests}})]),
            f"spec.sidecars[0].container.resources.requests{path}",
            message,
        )
        for requests, path, message in (
            ({"cpu": "\ud800"}, ".cpu", "must be Unicode, not half a surrogate pair"),
            ({"\ud800": "1"}, "", "must have Unicode as keys, not half a surrogate pair"),
        )
    ),
    (
        a_policy(sidecars=[a_sidecar(container={"args": ["-v", "\udc00"]})]),
        "spec.sidecars[0].container.args[1]",
        "must",
    ),
    (a_policy("\ud800"), "metadata.name", "must be Unicode"),
    # Order.
    (
        a_policy(sidecars=[a_sidecar(startAfter="x")]),
        "spec.sidecars[0].startAfter",
        "must be a list, not a string ('x')",
    ),
    (a_policy(sidecars=[a_sidecar(startAfter=[None])]), "spec.sidecars[0].startAfter[0]", LABEL),
    (
        a_policy(sidecars=[a_sidecar(startAfter=["x", "x"])]),
        "spec.sidecars[0].startAfter[1]",
        "must not appear twice: 'x'",
    ),
    (
        a_policy(sidecars=[a_sidecar(startAfter=["proxy"])]),
        "spec.sidecars[0].startAfter[0]",
        "must not name 'proxy' itself",
    ),
    (
        a_policy(sidecars=[a_sidecar("a", role="Proxy", startAfter=["b"]), a_sidecar("b", role="Monitor")]),
        "spec.sidecars[0].startAfter[0]",
        "must not name 'b', which is AfterInit, while 'a' is BeforeInit",
    ),
    (
        a_policy(sidecars=[a_sidecar("a", startAfter=["b"]), a_sidecar("b", startAfter=["a"])]),
        "spec.sidecars",
        "must not start after each other: a after b after a",
    ),
    # Volumes.
    (a_policy(volumes={"logs": {}}), "spec.volumes", "must be a list, not a mapping"),
    (a_policy(volumes=["logs"]), "spec.volumes[0]", "must have exactly one of"),
    (
        a_policy(volumes=[{"name": "l", "hostPath": {"path": "/"}}]),
        "spec.volumes[0]",
        "must have exactly one of configMap, csi",
    ),
    (a_policy(volumes=[{"name": "l"}]), "spec.volumes[0]", "must have exactly one of"),
    (a_policy(volumes=[{"name": "l", "emptyDir": None}]), "spec.volumes[0]", "must have exactly one of"),
    (a_policy(volumes=[LOGS | {"secret": {}}]), "spec.volumes[0]", "must have exactly one of"),
    (a_policy(volumes=[{"name": "Logs", "emptyDir": {}}]), "spec.volumes[0].name", LABEL),
    (a_policy(volumes=[LOGS, LOGS]), "spec.volumes[1].name", "must not appear twice: 'logs'"),
    # The application.
    (a_policy(application={"envs": []}), "spec.application.envs", "must be one of containers, env"),
    (
        a_policy(application={"initContainers": "Some"}),
        "spec.application.initContainers",
        "must be one of None, All, not 'Some'",
    ),
    (a_policy(application={"containers": ["App"]}), "spec.application.containers[0]", LABEL),
    (a_policy(application={"containers": ["a", "a"]}), "spec.application.containers[1]", "must not appear twice: 'a'"),
    (a_policy(application={"env": [{"value": "x"}]}), "spec.application.env[0].name", "must be given"),
    (
        a_policy(application={"env": [{"name": "A"}, {"name": "A"}]}),
        "spec.application.env[1].name",
        "must not appear twice: 'A'",
    ),
    (
        a_policy(application={"volumeMounts": [MOUNT]}),
        "spec.application.volumeMounts[0].name",
        "must be a volume of spec.volumes (there is none), not 'logs'",
    ),
    (
        a_policy(volumes=[LOGS], application={"volumeMounts": [{"name": "logs"}]}),
        "spec.application.volumeMounts[0].mountPath",
        "must be given",
    ),
    (
        a_policy(volumes=[LOGS], application={"volumeMounts": [MOUNT, MOUNT]}),
        "spec.application.volumeMounts[1].mountPath",
        "must not appear twice: '/logs'",
    ),
    # The rollout.
    (a_policy(rollout={"canary": [{"name": "early"}]}), "spec.rollout.canary[0]", "must have exactly one of"),
    (
        a_policy(rollout={"canary": [{"name": "early", "max": 1, "selector": {}}]}),
        "spec.rollout.canary[0]",
        "must have exactly one of selector and max",
    ),
    (a_policy(rollout={"canary": [{"name": "early", "max": 0}]}), "spec.rollout.canary[0].max", "must be"),
    (a_policy(rollout={"canary": [{"name": "A", "max": 1}]}), "spec.rollout.canary[0].name", "must be a DNS label"),
    (
        a_policy(rollout={"canary": [{"name": "a", "max": 1}, {"name": "a", "max": 2}]}),
        "spec.rollout.canary[1].name",
        "must not appear twice",
    ),
    (
        a_policy(rollout={"canary": [{"name": "a", "selector": {}, "namespaceSelector": {}}]}),
        "spec.rollout.canary[0].namespaceSelector",
        "must be one of",
    ),
    (
        a_policy(rollout={"canary": [{"name": "a", "max": 1, "approval": "Later"}]}),
        "spec.rollout.canary[0].approval",
        "must be one of Automatic, Manual",
    ),
    (a_policy(rollout={"removal": "Never"}), "spec.rollout.removal", "must be one of Automatic, Manual"),
    (a_policy(rollout={"maxFailed": 0}), "spec.rollout.maxFailed", "must be one of canary"),
    (a_policy(rollout={"maxFailures": -1}), "spec.rollout.maxFailures", "must be between 0 and 2147483647, not -1"),
    (a_policy(rollout={"onFailure": "Ignore"}), "spec.rollout.onFailure", "must be one of Rollback, Halt"),
    (
        a_policy(rollout={"strategy": "Slowly"}),
        "spec.rollout.strategy",
        "must be one of Progressive, AllAtOnce, OnNextChange",
    ),
    (a_policy(rollout={"paused": "yes"}), "spec.rollout.paused", "must be true or false, not a string ('yes')"),
    (a_policy(rollout={"maxConcurrent": 0}), "spec.rollout.maxConcurrent", "must be between 1 and 2147483647, not 0"),
    (
        a_policy(rollout={"maxConcurrent": "0%"}),
        "spec.rollout.maxConcurrent",
        "must be a positive number of workloads or a",
    ),
    (
        a_policy(rollout={"maxConcurrent": "101%"}),
        "spec.rollout.maxConcurrent",
        "must be a positive number of workloads or a",
    ),
    (
        a_policy(rollout={"maxConcurrent": "5"}),
        "spec.rollout.maxConcurrent",
        "must be a positive number of workloads or a",
    ),
    (
        a_policy(rollout={"maxConcurrent": 1.5}),
        "spec.rollout.maxConcurrent",
        "must be a whole number, not a number (1.5)",
    ),
    (a_policy(rollout={"minReadySeconds": -1}), "spec.rollout.minReadySeconds", "must be between 0 and 86400, not -1"),
    (
        a_policy(rollout={"progressDeadlineSeconds": 86401}),
        "spec.rollout.progressDeadlineSeconds",
        "must be between 1 and 86400, not 86401",
    ),
    (
        a_policy(rollout={"progressDeadlineSeconds": 30, "minReadySeconds": 30}),
        "spec.rollout.progressDeadlineSeconds",
        "must be more than minReadySeconds (30), not 30",
    ),
    # YAML that is no JSON.
    (a_policy(selector={"matchLabels": {1: "x", "a": "y"}}), "spec.selector.matchLabels", "must have strings as keys"),
    (a_policy() | {"spec": {True: 1, "sidecars": [a_sidecar()], "selector": {}}}, "spec", "must have strings as keys"),
]


@pytest.mark.parametrize(
    ("manifest", "path", "message"), REFUSED, ids=[f"{path}-{n}" for n, (_, path, _) in enumerate(REFUSED)]
)
def test_what_is_refused(manifest: Json, path: str, message: str) -> None:
    found = problems(manifest)
    assert path in found, found
    assert found[path].startswith(message), found[path]
    assert all(each.startswith("must ") for each in found.values())


def test_everything_that_is_wrong_is_said_at_once() -> None:
    manifest = a_policy(
        priority="high",
        sidecars=[
            a_sidecar("Proxy", container={"image": ""}, startAfter=["Proxy"]),
            a_sidecar("a", startAfter=["a", "b"]),
            a_sidecar("b", startAfter=["a"]),
        ],
        volumes=[{"name": "logs"}],
        application={"env": "none"},
        rollout={"maxConcurrent": "lots", "paused": 1},
    )
    assert problems(manifest).keys() == {
        "spec.priority",
        "spec.sidecars[0].name",
        "spec.sidecars[0].container.image",
        "spec.sidecars[0].startAfter[0]",
        "spec.sidecars[1].startAfter[0]",
        "spec.sidecars",
        "spec.volumes[0]",
        "spec.application.env",
        "spec.rollout.maxConcurrent",
        "spec.rollout.paused",
    }


def test_the_message_of_invalid_input_has_every_problem() -> None:
    with pytest.raises(InvalidInput, match=r"^spec\.selector: must be given.*; spec\.sidecars: must hold"):
        decode_policy(a_policy(selector=None, sidecars=[]))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 99999)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "x y", "logs", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "image", "ports", "a", "claims", "mountPath"]), inner)
    ),
    max_leaves=6,
)
TEMPLATE: Json = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "example.test/app:1"}]}}
PATHS = [
    ("selector",),
    ("selector", "matchLabels"),
    ("selector", "matchExpressions"),
    ("priority",),
    ("sidecars",),
    ("sidecars", 0),
    ("sidecars", 0, "role"),
    ("sidecars", 0, "startAfter"),
    ("sidecars", 0, "container"),
    ("sidecars", 0, "container", "ports"),
    ("sidecars", 0, "container", "ports", 0),
    ("sidecars", 0, "container", "readinessProbe"),
    ("sidecars", 0, "container", "env"),
    ("sidecars", 0, "container", "volumeMounts"),
    ("sidecars", 0, "container", "volumeMounts", 0),
    ("sidecars", 0, "container", "volumeMounts", 0, "mountPath"),
    ("sidecars", 0, "container", "lifecycle"),
    ("sidecars", 0, "container", "resources"),
    ("sidecars", 0, "container", "resources", "requests"),
    ("sidecars", 0, "container", "securityContext"),
    ("volumes",),
    ("volumes", 0),
    ("application",),
    ("application", "env"),
    ("application", "volumeMounts"),
    ("application", "containers"),
    ("rollout",),
    ("rollout", "maxConcurrent"),
]


@given(st.sampled_from(PATHS), JSON)
def test_anything_anywhere_can_be_injected_or_is_invalid_input(path: tuple[str | int, ...], value: Any) -> None:
    manifest = a_policy(
        selector={"matchLabels": {}, "matchExpressions": []},
        sidecars=[
            a_sidecar(
                role="Proxy",
                container={
                    "ports": [PORT],
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                    "volumeMounts": [dict(MOUNT)],
                    "resources": {"requests": {"cpu": "1m"}},
                },
            )
        ],
        volumes=[LOGS],
        application={"env": []},
        rollout={"paused": False},
    )
    *parents, last = path
    place: Any = manifest["spec"]
    for step in parents:
        place = place[step]
    place[last] = value
    try:
        policy = decode_policy(manifest)
    except InvalidInput as error:
        assert error.problems
    else:
        canonical_request(policy, "shop")
        revision = offline(policy)
        template, record = inject(TEMPLATE, [revision], Record())
        assert inject(template, [revision], record) == (template, record)
        assert eject(template, record) == TEMPLATE


# What is read.


def test_a_policy_is_read_with_the_defaults_of_its_roles() -> None:
    policy = decode_policy(
        a_policy(
            sidecars=[
                a_sidecar("p", role="Proxy"),
                a_sidecar("l", role="Logger"),
                a_sidecar("m", role="Monitor"),
                a_sidecar("c"),
            ]
        )
    )
    ready, started = Startup.WAIT_UNTIL_READY, Startup.WAIT_UNTIL_STARTED
    assert [(each.rank, each.position, each.startup, each.pod_readiness) for each in policy.sidecars] == [
        (0, Position.BEFORE_INIT, ready, PodReadiness.INCLUDE),
        (1, Position.BEFORE_INIT, started, PodReadiness.EXCLUDE),
        (2, Position.AFTER_INIT, started, PodReadiness.EXCLUDE),
        (3, Position.AFTER_INIT, ready, PodReadiness.INCLUDE),
    ]
    assert policy.rollout == Rollout()


def test_a_namespaced_policy_without_namespace_is_in_default() -> None:
    manifest = a_policy()
    del manifest["metadata"]["namespace"]
    assert decode_policy(manifest).id.namespace == "default"


@pytest.mark.parametrize(
    ("share", "workloads", "budget"),
    [
        ("10%", 30, 3),
        ("10%", 9, 1),
        ("10%", 0, 1),
        ("29%", 100, 29),
        ("100%", 7, 7),
        ("1%", 99, 1),
        (5, 3, 5),
        (None, 120, 12),
    ]
    + [(f"{percent}%", 100, percent) for percent in range(1, 101)],
)
def test_the_budget_is_rounded_down_and_at_least_one(share: str | int | None, workloads: int, budget: int) -> None:
    rollout = decode_policy(a_policy(rollout={"maxConcurrent": share})).rollout
    assert rollout.budget(workloads) == budget


# Words and the name of a revision.

FULL: Json = {
    "selector": {"matchLabels": {"tier": "web"}},
    "priority": 0,
    "sidecars": [
        {
            "name": "proxy",
            "role": "Proxy",
            "position": "BeforeInit",
            "startup": "WaitUntilReady",
            "podReadiness": "Include",
            "startAfter": [],
            "container": {
                "image": "example.test/proxy:1",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}],
                "resources": {"requests": {"cpu": "50m"}},
            },
        },
        {"name": "other", "role": "Custom", "container": {"image": "example.test/other:1"}},
    ],
    "volumes": [{"name": "logs", "emptyDir": {}}],
    "application": {
        "containers": [],
        "initContainers": "None",
        "env": [{"name": "B", "value": "2"}],
        "volumeMounts": [],
    },
    "rollout": {"strategy": "Progressive", "paused": False},
    "deletionPolicy": "Remove",
}

SAME: Json = {
    "selector": {},
    "sidecars": [
        {
            "name": "proxy",
            "role": "Proxy",
            "container": {
                "resources": {"requests": {"cpu": "50m"}},
                "env": [{"value": "1", "name": "A", "valueFrom": None}],
                "ports": [{"containerPort": 80}],
                "image": "example.test/proxy:1",
                "command": None,
                "livenessProbe": None,
            },
        },
        {"name": "other", "startAfter": None, "container": {"image": "example.test/other:1"}},
    ],
    "volumes": [{"name": "logs", "emptyDir": {}, "configMap": None}],
    "application": {"env": [{"name": "B", "value": "2"}]},
    "rollout": {"maxConcurrent": 7, "paused": True},
    "deletionPolicy": "Orphan",
}


def test_equal_meaning_gives_an_equal_revision() -> None:
    assert of(FULL) == of(SAME)


def test_null_is_absent_in_what_is_injected_as_well() -> None:
    def injected(spec: Json) -> Any:
        revision = offline(decode_policy(a_policy() | {"spec": spec}))
        return revision.sidecars, revision.volumes, revision.application

    with_tcp = deepcopy(SAME)
    with_tcp["sidecars"][0]["container"]["ports"][0]["protocol"] = "TCP"
    assert injected(FULL) == injected(with_tcp)


def changed(path: tuple[str | int, ...], value: Any) -> Json:
    spec = deepcopy(FULL)
    *parents, last = path
    place: Any = spec
    for step in parents:
        place = place[step]
    place[last] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("priority",), 1),
        (("sidecars",), FULL["sidecars"][::-1]),
        (("sidecars",), FULL["sidecars"][:1]),
        (("sidecars", 0, "name"), "edge"),
        (("sidecars", 0, "role"), "Logger"),
        (("sidecars", 0, "position"), "AfterInit"),
        (("sidecars", 0, "startup"), "WaitUntilStarted"),
        (("sidecars", 0, "podReadiness"), "Exclude"),
        (("sidecars", 0, "startAfter"), ["vault"]),
        (("sidecars", 0, "container", "image"), "example.test/proxy:2"),
        (("sidecars", 0, "container", "ports", 0, "protocol"), "UDP"),
        (("sidecars", 0, "container", "env", 0, "value"), "2"),
        (("sidecars", 0, "container", "resources", "requests", "cpu"), "51m"),
        (("volumes", 0, "emptyDir"), {"medium": "Memory"}),
        (("volumes",), []),
        (("application", "containers"), ["app"]),
        (("application", "initContainers"), "All"),
        (("application", "env", 0, "value"), "3"),
        (("application", "env"), []),
    ],
)
def test_a_real_change_gives_another_revision(path: tuple[str | int, ...], value: Any) -> None:
    assert of(changed(path, value)) != of(FULL)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("selector",), {"matchLabels": {"tier": "other"}}),
        (("rollout",), {"paused": True}),
        (("rollout",), None),
        (("deletionPolicy",), "Orphan"),
        (("sidecars", 1, "role"), None),
        (("application", "containers"), None),
    ],
)
def test_what_shapes_no_template_makes_no_revision(path: tuple[str | int, ...], value: Any) -> None:
    assert of(changed(path, value)) == of(FULL)


def test_the_name_is_that_of_the_policy_and_does_not_change_between_releases() -> None:
    """The hashes are in the annotations of users' clusters: whoever changes this rolls every fleet."""
    policy = decode_policy(a_policy() | {"spec": FULL})
    assert revision_name(policy.id, policy.words) == "web-20f1643acf"


# What a cluster holds, whose CRD may be newer than the operator.

NEWER = [
    (("rollout", "sessionAffinity"), "None"),
    (("newField",), {"a": 1}),
    (("sidecars", 0, "restarts"), "Never"),
    (("application", "ephemeralContainers"), "None"),
    (("rollout", "canary"), [{"name": "early", "max": 1, "pause": "1h"}]),
]


def newer(path: tuple[str | int, ...], value: Any) -> Json:
    """A policy with a field that only a newer CRD knows."""
    spec = deepcopy(FULL)
    *parents, last = path
    place: Any = spec
    for step in parents:
        place = place[step]
    place[last] = value
    return a_policy() | {"spec": spec}


@pytest.mark.parametrize(("path", "value"), NEWER, ids=[str(path[-1]) for path, _ in NEWER])
def test_an_unknown_field_of_a_stored_policy_changes_nothing_and_is_told(
    path: tuple[str | int, ...], value: Any
) -> None:
    manifest = newer(path, value)
    assert problems(manifest), "where a person types it is a problem"
    found, known = decode_policy(manifest, strict=False), decode_policy(a_policy() | {"spec": FULL}, strict=False)
    assert len(found.unknown) == 1 and found.unknown[0].startswith(f"spec.{path[0]}")
    assert known.unknown == ()
    assert revision_name(found.id, found.words) == revision_name(known.id, known.words)
    assert offline(found).sidecars == offline(known).sidecars


def test_a_selector_that_is_half_understood_selects_nothing() -> None:
    group = {"name": "early", "selector": {"matchAnnotations": {}}}
    assert unreadable(selector={"matchAnnotations": {}}) is None
    found = unreadable(rollout={"canary": [group]})
    assert found is not None and found.rollout.paused


def unreadable(**spec: Any) -> Policy | None:
    """What can be read of a stored policy that cannot be used."""
    with pytest.raises(InvalidPolicy) as caught:
        decode_policy(a_policy(**spec), strict=False)
    return caught.value.readable


def test_where_the_rollout_cannot_be_read_nothing_moves_by_itself() -> None:
    for spec in ({"rollout": {"strategy": "BlueGreen"}}, {"deletionPolicy": "Archive"}):
        found = unreadable(**spec)
        assert found is not None and found.rollout == careful(found.rollout)
        rollout = found.rollout
        assert (rollout.paused, rollout.on_failure, rollout.removal) == (True, OnFailure.HALT, Removal.MANUAL)
    found = unreadable(sidecars=[])
    assert found is not None and found.rollout == Rollout()
    assert found.opt_out is OptOut.ALLOWED
    found = unreadable(optOut="Never")
    assert found is not None and found.rollout == careful(found.rollout)
    assert found.opt_out is OptOut.FORBIDDEN
    assert unreadable(selector={"matchLabels": 1}) is None


def test_what_becomes_of_the_sidecars_is_read_whatever_else_is_wrong() -> None:
    orphaned = a_policy(deletionPolicy="Orphan", selector=7, rollout="x", sidecars=None)
    assert readable_deletion_policy(orphaned) is DeletionPolicy.ORPHAN
    assert readable_deletion_policy(a_policy()) is DeletionPolicy.REMOVE
    for manifest in (a_policy(deletionPolicy="Archive"), a_policy(deletionPolicy=1), {**a_policy(), "spec": None}):
        assert readable_deletion_policy(manifest) is None


@pytest.mark.parametrize("spelling", ["/logs/", "//logs", "/./logs"])
def test_one_place_is_not_mounted_twice_in_two_spellings(spelling: str) -> None:
    volumes = [{"name": "logs", "emptyDir": {}}]
    mounts = [{"name": "logs", "mountPath": "/logs"}, {"name": "logs", "mountPath": spelling}]
    for manifest, path in (
        (a_policy(volumes=volumes, application={"volumeMounts": mounts}), "spec.application"),
        (
            a_policy(volumes=volumes, sidecars=[a_sidecar(container={"volumeMounts": mounts})]),
            "spec.sidecars[0].container",
        ),
    ):
        with pytest.raises(InvalidInput) as caught:
            decode_policy(manifest)
        assert str(caught.value) == f"{path}.volumeMounts[1].mountPath: must not be the same place as '/logs'"
