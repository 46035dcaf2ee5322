"""What an author's sidecar becomes: the gate, the Pod's readiness, the seal; the canonical form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.policy import Policy, Sidecar
from sidecarpolicy.core.rendering import (
    GATE_SECONDS,
    NativeSidecarsUnsupported,
    canonical_request,
    canonical_revision,
    dropped_fields,
    lacks_gate,
    offline,
    render,
    startup_gate,
)
from sidecarpolicy.core.revision import (
    Revision,
    StoredRevision,
    from_controller_revision,
    object_name,
    to_controller_revision,
    words_of,
)
from sidecarpolicy.core.tree import Json
from tests.core.objects import a_cluster_policy, a_policy, a_sidecar, decoded

HTTP_READINESS = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 15000}}}
HTTP = {"httpGet": {"path": "/ready", "port": 15000}}


def rendered(role: str = "Custom", *, container: Json | None = None, **fields: Any) -> Json:
    """The init container of one sidecar."""
    return render(sidecar(role, container=container, **fields))


def sidecar(role: str = "Custom", *, container: Json | None = None, **fields: Any) -> Sidecar:
    """One sidecar, decoded."""
    return decoded(a_policy(sidecars=[a_sidecar(role=role, container=container, **fields)])).sidecars[0]


def test_a_sidecar_is_a_sealed_init_container_that_restarts_always() -> None:
    assert rendered() == {
        "name": "proxy",
        "image": "example.test/proxy:1",
        "restartPolicy": "Always",
        "lifecycle": {},
    }


def test_an_authors_lifecycle_is_kept() -> None:
    hook = {"preStop": {"exec": {"command": ["/bin/drain"]}}}
    assert rendered(container={"lifecycle": hook})["lifecycle"] == hook


@pytest.mark.parametrize("empty", [{}, None])
def test_an_empty_lifecycle_is_the_seal(empty: Json | None) -> None:
    assert rendered(container={"lifecycle": empty})["lifecycle"] == {}


def test_the_gate_is_derived_from_the_readiness_probe() -> None:
    probe = {**HTTP, "initialDelaySeconds": 40, "periodSeconds": 3, "successThreshold": 2, "failureThreshold": 9}
    container = rendered(container={"readinessProbe": probe})
    assert container["readinessProbe"] == probe
    assert container["startupProbe"] == {**HTTP, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 120}


@pytest.mark.parametrize("handler", ["exec", "grpc", "httpGet", "tcpSocket"])
def test_every_handler_is_taken_over(handler: str) -> None:
    gate = startup_gate({handler: {"port": 1}, "timeoutSeconds": 1})
    assert gate[handler] == {"port": 1}


@given(st.integers(0, 3600))
def test_a_gate_that_refuses_or_hangs_ends_after_two_minutes(timeout: int) -> None:
    gate = startup_gate({**HTTP, "timeoutSeconds": timeout})
    assert gate["periodSeconds"] == gate["timeoutSeconds"] == max(1, timeout)
    lasts = gate["failureThreshold"] * gate["periodSeconds"]
    assert GATE_SECONDS <= lasts < GATE_SECONDS + gate["periodSeconds"]


def test_an_own_startup_probe_is_the_gate() -> None:
    own = {"exec": {"command": ["/bin/up"]}}
    for startup in ("WaitUntilReady", "WaitUntilStarted"):
        container = rendered(startup=startup, container={"readinessProbe": HTTP, "startupProbe": own})
        assert container["startupProbe"] == own


def test_wait_until_started_adds_nothing() -> None:
    container = rendered(startup="WaitUntilStarted", container={"readinessProbe": HTTP})
    assert "startupProbe" not in container
    assert container["readinessProbe"] == HTTP


def test_an_excluded_readiness_gates_at_most() -> None:
    gated = rendered(podReadiness="Exclude", container={"readinessProbe": HTTP})
    assert "readinessProbe" not in gated
    assert gated["startupProbe"]["httpGet"] == HTTP["httpGet"]
    ungated = rendered(podReadiness="Exclude", startup="WaitUntilStarted", container={"readinessProbe": HTTP})
    assert not ungated.keys() & {"readinessProbe", "startupProbe"}


@pytest.mark.parametrize(
    ("role", "probes"),
    [
        ("Proxy", {"readinessProbe", "startupProbe"}),
        ("Logger", set()),
        ("Monitor", set()),
        ("Custom", {"readinessProbe", "startupProbe"}),
    ],
)
def test_what_each_role_makes_of_a_readiness_probe(role: str, probes: set[str]) -> None:
    assert rendered(role, container={"readinessProbe": HTTP}).keys() & {"readinessProbe", "startupProbe"} == probes


def test_a_liveness_probe_is_no_gate() -> None:
    assert lacks_gate(sidecar(container={"livenessProbe": HTTP}))
    assert not lacks_gate(sidecar(container={"readinessProbe": HTTP}))
    assert not lacks_gate(sidecar(container={"startupProbe": HTTP}))
    assert not lacks_gate(sidecar(startup="WaitUntilStarted"))


# The canonical form.

POLICY = decoded(
    a_policy(
        sidecars=[a_sidecar(container={"readinessProbe": HTTP}), a_sidecar("application", role="Logger")],
        volumes=[{"name": "logs", "emptyDir": {}}],
        application={
            "containers": ["app"],
            "env": [{"name": "A", "value": "1"}],
            "volumeMounts": [{"name": "logs", "mountPath": "/logs"}],
        },
    )
)


def answered(policy_request: Json, **spec: Any) -> Json:
    """What an API server makes of the request: defaults, and nothing that was asked for changed."""
    template = policy_request["template"]
    defaulted = {**template["spec"], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", **spec}
    return {**policy_request, "template": {**template, "spec": defaulted}}


def test_the_request_holds_everything_that_will_be_injected() -> None:
    request = canonical_request(POLICY, "shop")
    spec = request["template"]["spec"]
    assert request["metadata"]["namespace"] == "shop"
    assert [each["name"] for each in spec["initContainers"]] == ["proxy", "application"]
    (placeholder,) = spec["containers"]
    assert placeholder["name"] not in {"proxy", "application"}
    assert placeholder["env"] == [{"name": "A", "value": "1"}]
    assert placeholder["volumeMounts"] == [{"name": "logs", "mountPath": "/logs"}]


def test_an_answer_without_defaults_is_the_offline_revision() -> None:
    assert canonical_revision(POLICY, answered(canonical_request(POLICY, "shop"))) == offline(POLICY)


def test_defaults_of_the_server_become_part_of_the_revision_but_not_of_its_name() -> None:
    request = canonical_request(POLICY, "shop")
    containers = [{**each, "imagePullPolicy": "Always"} for each in request["template"]["spec"]["initContainers"]]
    revision = canonical_revision(POLICY, answered(request, initContainers=containers))
    assert all(each.container["imagePullPolicy"] == "Always" for each in revision.sidecars)
    assert revision.name == offline(POLICY).name


def test_a_server_that_drops_the_restart_policy_is_too_old() -> None:
    request = canonical_request(POLICY, "shop")
    stripped = [
        {key: value for key, value in each.items() if key != "restartPolicy"}
        for each in request["template"]["spec"]["initContainers"]
    ]
    with pytest.raises(NativeSidecarsUnsupported):
        canonical_revision(POLICY, answered(request, initContainers=stripped))


def test_what_a_webhook_adds_to_the_dry_run_is_not_injected() -> None:
    request = canonical_request(POLICY, "shop")
    spec = request["template"]["spec"]
    (placeholder,) = spec["containers"]
    answer = answered(
        request,
        initContainers=[{"name": "istio", "image": "i", "restartPolicy": "Always"}, *spec["initContainers"]],
        containers=[
            {"name": "istio-proxy", "image": "i"},
            {
                **placeholder,
                "env": [{"name": "ISTIO", "value": "1"}, *placeholder["env"]],
                "volumeMounts": [*placeholder["volumeMounts"], {"name": "token", "mountPath": "/token"}],
            },
        ],
        volumes=[*spec["volumes"], {"name": "token", "emptyDir": {}}],
    )
    assert canonical_revision(POLICY, answer) == offline(POLICY)


# How a revision is stored.


@pytest.mark.parametrize(
    "manifest", [a_policy(), a_cluster_policy(priority=3), a_policy(volumes=[{"name": "v", "emptyDir": {}}])]
)
def test_a_stored_revision_is_read_back(manifest: Json) -> None:
    policy = decoded(manifest)
    revision = offline(policy)
    stored = StoredRevision(
        revision=revision, object_name=object_name(policy.id, revision.name), number=4, since="2026-01-01T00:00:00Z"
    )
    body = to_controller_revision(stored, policy=policy, namespace="shop")
    assert from_controller_revision(body) == stored
    prefix = "csidepol-" if policy.id.cluster_wide else "sidepol-"
    assert body["metadata"]["name"] == f"{prefix}{revision.name}"
    assert all("/" in key and key.startswith("sidecars.dev/") for key in body["metadata"]["labels"])


@pytest.mark.parametrize(
    "mangled",
    [
        {"data": None},
        {"data": {}},
        {"data": {"policy": "x"}},
        {"data": {"policy": 1}},
        {"sidecars": [1]},
        {"sidecars": "x"},
        {"application": None},
        {"application": {"containers": None}},
        {"priority": None, "policy": None},
        {"data": "x"},
        {"data": [1]},
        {"name": "\ud800"},
        {"priority": "1"},
        {"sidecars": [{"name": "proxy", "role": "Proxy", "position": "BeforeInit", "container": {"name": "other"}}]},
        {"sidecars": [{"name": "proxy", "container": {"name": "proxy"}}]},
        {"volumes": [{"emptyDir": {}}]},
        {"application": {"env": {"name": "A"}}},
        {"application": {"volumeMounts": [{"mountPath": 1}]}},
    ],
    ids=str,
)
def test_a_mangled_stored_revision_is_an_error_that_is_announced(mangled: Json) -> None:
    policy = decoded(a_policy())
    revision = offline(policy)
    stored = StoredRevision(revision=revision, object_name="x", number=1, since="")
    body = to_controller_revision(stored, policy=policy, namespace="shop")
    data = mangled["data"] if "data" in mangled else {**body["data"], **mangled}
    with pytest.raises(ValueError, match="data"):
        from_controller_revision({**body, "data": data})
    assert words_of({**body, "data": data}) in (None, policy.words)


def stored_as(policy: Policy, **changed: Any) -> Revision:
    """What the API server makes of *policy* where it stores the sidecar with other fields; None drops one."""
    request = canonical_request(policy, "shop")
    for container in request["template"]["spec"]["initContainers"]:
        for field, value in changed.items():
            container.pop(field, None)
            container.update({field: value} if value is not None else {})
    return canonical_revision(policy, request)


def test_what_the_api_server_does_not_keep_is_named_and_the_seal_is_put_back() -> None:
    policy = decoded(a_policy(sidecars=[a_sidecar(container={"lifecycle": {"stopSignal": "SIGUSR1"}, "tty": False})]))
    revision = stored_as(policy, lifecycle=None, tty=None)
    assert revision.sidecars[0].container["lifecycle"] == {}
    assert dropped_fields(policy, revision) == ("spec.sidecars[0].container.lifecycle.stopSignal",)
    part = stored_as(policy, lifecycle={}, tty=None)
    assert dropped_fields(policy, part) == ("spec.sidecars[0].container.lifecycle.stopSignal",)


def test_what_is_kept_is_not_named() -> None:
    hooks = {"preStop": {"sleep": {"seconds": 5}}}
    container = {"lifecycle": hooks, "env": [{"name": "A", "value": ""}], **HTTP_READINESS}
    policy = decoded(a_policy(sidecars=[a_sidecar(role="Logger", container=container)]))
    defaulted = stored_as(policy, env=[{"name": "A"}], terminationMessagePath="/dev/termination-log")
    assert dropped_fields(policy, defaulted) == ()


@pytest.mark.parametrize(
    ("container", "rest"),
    [
        ({"securityContext": {"procMount": "Unmasked"}}, {"hostUsers": False}),
        ({"resources": {"claims": [{"name": "gpu"}]}}, {"resourceClaims": ["gpu"]}),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}}, {"terminationGracePeriodSeconds": 60}),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 30}}}}, {}),
        ({"lifecycle": {"stopSignal": "SIGUSR1"}}, {"os": {"name": "linux"}}),
        (
            {"lifecycle": {"stopSignal": "SIGTERM"}, "securityContext": {"windowsOptions": {"runAsUserName": "x"}}},
            {"os": {"name": "windows"}},
        ),
        ({}, {}),
    ],
)
def test_what_depends_on_the_rest_of_the_pod_is_not_decided_by_the_dry_run(container: Json, rest: Json) -> None:
    spec = canonical_request(decoded(a_policy(sidecars=[a_sidecar(container=container)])), "shop")["template"]["spec"]
    said = {
        "hostUsers": spec.get("hostUsers"),
        "resourceClaims": [each["name"] for each in spec.get("resourceClaims", [])],
        "terminationGracePeriodSeconds": spec.get("terminationGracePeriodSeconds"),
        "os": spec.get("os"),
    }
    assert {key: value for key, value in said.items() if value not in (None, [])} == rest
