"""Why a selected workload is left alone: each reason, their order, and what the sentence says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.adjustment import Account
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler
from sidecarpolicy.core.claims import CLIENT_SIDE_APPLY
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.kinds.deployment import workload_from
from sidecarpolicy.core.nodes import NO_NODE, Eligible, Kubelet
from sidecarpolicy.core.record import Entry, ItemKey, Record
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import Pin, Skip, Subject, invalid_marks, invalid_namespace_marks, judge
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Namespace, namespace_from
from sidecarpolicy.names import SkipReason
from tests.builders import a_deployment
from tests.core.objects import WEB, a_revision, a_sidecar

SHOP = Namespace(name="shop")
PORT = {"ports": [{"containerPort": 15001}]}
REVISION = a_revision(a_sidecar(role="Proxy", container=PORT))
PROXY = ItemKey(list="initContainers", name="proxy")
LOGS = [{"name": "logs", "emptyDir": {}}]


def a_subject(
    *, namespace: Namespace = SHOP, record: Record | None = None, metadata: Json | None = None, **deployment: Any
) -> Subject:
    """A Deployment that nothing is wrong with, as the checks see it."""
    facts = {
        name: deployment.pop(name)
        for name in (
            "owners",
            "missing",
            "pins",
            "inspected",
            "autoscalers",
            "driven_by",
            "operator_namespace",
            "emptied",
            "account",
            "nodes",
            "violations",
        )
        if name in deployment
    }
    body = a_deployment(**deployment)
    body["metadata"] |= {"uid": "uid", "resourceVersion": "1", "generation": 1} | (metadata or {})
    workload = workload_from(body)
    template = workload.content.template
    return Subject(workload=workload, namespace=namespace, template=template, record=record or Record(), **facts)


def carrying(subject: Subject, *revisions: Revision) -> Subject:
    """The same after *revisions* were injected."""
    template, record = inject(subject.template, revisions, subject.record)
    return replace(subject, template=template, record=record)


def verdict(subject: Subject, *others: Revision, revision: Revision = REVISION, leaving: Any = ()) -> Skip | None:
    """What becomes of *revision* beside *others*."""
    return judge(subject, [revision, *others], leaving)[revision.policy]


def refused(subject: Subject, *others: Revision, revision: Revision = REVISION, leaving: Any = ()) -> tuple[str, bool]:
    """The reason, and whether what is there is removed."""
    found = verdict(subject, *others, revision=revision, leaving=leaving)
    assert found is not None
    return found.reason.value, found.removes


def required_on(*systems: list[str]) -> Json:
    """A node affinity with a term for each."""
    terms = [{"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": each}]} for each in systems]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


OWNER = {"ownerReferences": [{"kind": "Shop", "name": "cart", "uid": "1", "controller": True}]}
RECREATE = {"type": "Recreate"}
SCALED_BY_CPU = (Autoscaler(name="cart", scales=WorkloadId(namespace="shop", name="cart"), resources=("cpu",)),)


def test_a_workload_that_nothing_is_wrong_with_is_not_refused() -> None:
    assert verdict(a_subject()) is None
    assert verdict(carrying(a_subject(), REVISION)) is None


KUBE = Namespace(name="kube-system")
CLUSTER_WIDE = a_revision(cluster=True)


def test_what_the_cluster_needs_gets_sidecars_only_where_somebody_asks_for_them_there() -> None:
    for subject in (
        a_subject(namespace=KUBE),
        a_subject(namespace=Namespace(name="sidecars"), operator_namespace="sidecars"),
    ):
        assert refused(subject, revision=CLUSTER_WIDE) == ("ProtectedNamespace", False)
        assert verdict(subject) is None, "the author of a policy in that namespace knows where it is"
        asked = replace(subject, namespace=replace(subject.namespace, labels={names.INJECT: "true"}))
        assert verdict(asked, revision=CLUSTER_WIDE) is None
    assert verdict(a_subject(namespace=KUBE, labels={names.INJECT: "true"}), revision=CLUSTER_WIDE) is None
    assert verdict(a_subject(namespace=Namespace(name="kubernetes")), revision=CLUSTER_WIDE) is None


@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_the_owners_word_in_the_pod_template_counts(where: str) -> None:
    def subject(value: str, **fields: Any) -> Subject:
        found = a_subject(**fields)
        mark = {names.INJECT: value}
        if where == "labels":
            return replace(found, workload=replace(found.workload, pod_labels=mark))
        return replace(found, workload=replace(found.workload, pod_annotations=mark))

    out = Namespace(name="shop", labels={names.INJECT: "false"})
    found = verdict(subject("false"))
    assert found is not None
    assert (found.reason, found.removes) == (SkipReason.OPTED_OUT, True)
    assert "its Pod template has the" in found.message
    assert verdict(subject("false", labels={names.INJECT: "true"})) is None, "the Deployment's own word comes first"
    assert verdict(subject("true", namespace=out)) is None
    assert refused(subject("disabled", namespace=out)) == ("OptedOut", True)
    assert verdict(subject("disabled")) is None, "a value that is not allowed says nothing; it is warned of"


def test_marks_are_read_from_the_pod_template() -> None:
    body = a_deployment()
    body["metadata"] |= {"uid": "uid", "resourceVersion": "1", "generation": 1}
    body["spec"]["template"]["metadata"]["annotations"] = {names.INJECT: "false", "example.test/x": "y"}
    assert workload_from(body).pod_annotations == {names.INJECT: "false"}


WINDOWS: Json = {"nodeSelector": {"kubernetes.io/os": "windows"}}


@pytest.mark.parametrize(
    ("pod", "skipped"),
    [
        (WINDOWS, True),
        ({"os": {"name": "windows"}}, True),
        ({"affinity": required_on(["windows"])}, True),
        ({"affinity": required_on(["windows"], ["linux"])}, False),
        ({"nodeSelector": {"kubernetes.io/os": "linux"}}, False),
        ({"affinity": {"nodeAffinity": {}}}, False),
    ],
)
def test_what_runs_on_windows_gets_no_sidecar_for_linux(pod: Json, skipped: bool) -> None:
    subject = a_subject(pod={"containers": [{"name": "app", "image": "a"}], **pod})
    assert (verdict(subject) is not None) is skipped
    meant = a_revision(a_sidecar(container={"securityContext": {"windowsOptions": {"runAsUserName": "x"}}}))
    assert verdict(subject, revision=meant) is None
    if skipped:
        assert refused(subject) == ("WindowsNode", False)


def test_terminating() -> None:
    assert refused(a_subject(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})) == ("Terminating", False)
    assert refused(a_subject(namespace=Namespace(name="shop", terminating=True))) == ("Terminating", False)


@pytest.mark.parametrize(
    ("own", "namespaces", "out"),
    [
        ("false", None, True),
        ("false", "true", True),
        (None, "false", True),
        ("true", "false", False),
        ("true", None, False),
        (None, "true", False),
        ("no", None, False),
        ("no", "false", True),
    ],
)
def test_the_deployments_label_wins_over_its_namespaces(own: str | None, namespaces: str | None, out: bool) -> None:
    found = verdict(
        a_subject(
            labels={names.INJECT: own} if own else {},
            namespace=Namespace(name="shop", labels={names.INJECT: namespaces} if namespaces else {}),
        )
    )
    assert (found is not None) == out
    if found is not None:
        assert (found.reason, found.removes) == (SkipReason.OPTED_OUT, True)
        assert ("the Deployment" if own == "false" else "namespace shop") in found.message


# Overridden.


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"sidecars": [a_sidecar("proxy")]}, {"sidecars": [a_sidecar("proxy")]}),
        ({"sidecars": [a_sidecar("a", container=PORT)]}, {"sidecars": [a_sidecar("b", container=PORT)]}),
        ({"volumes": LOGS}, {"volumes": [{"name": "logs", "emptyDir": {"medium": "Memory"}}]}),
        ({"application": {"env": [{"name": "A"}]}}, {"application": {"env": [{"name": "A"}]}}),
        (
            {"volumes": LOGS, "application": {"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}},
            {"volumes": LOGS, "application": {"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}},
        ),
    ],
    ids=["name", "port", "volume", "env", "mount"],
)
def test_the_policy_of_lower_precedence_is_overridden(mine: Json, theirs: Json) -> None:
    low = a_revision(**{"sidecars": [a_sidecar("low")], **mine}, name="low")
    high = a_revision(**{"sidecars": [a_sidecar("high")], **theirs}, name="high", priority=1)
    verdicts = judge(a_subject(), [low, high])
    found = verdicts[low.policy]
    assert found is not None
    assert (found.reason, found.removes, found.overridden_by) == (SkipReason.OVERRIDDEN, True, high.policy)
    assert "SidecarPolicy shop/high, which has precedence" in found.message
    assert verdicts[high.policy] is None


def test_equal_volumes_are_shared() -> None:
    one = a_revision(a_sidecar("a"), name="a", volumes=LOGS)
    other = a_revision(a_sidecar("b"), name="b", volumes=LOGS)
    assert judge(a_subject(), [one, other]) == {one.policy: None, other.policy: None}


def test_env_for_different_containers_is_no_conflict() -> None:
    two = {"containers": [{"name": "app", "image": "a"}, {"name": "worker", "image": "b"}]}
    one = a_revision(a_sidecar("a"), name="a", application={"containers": ["app"], "env": [{"name": "A"}]})
    other = a_revision(a_sidecar("b"), name="b", application={"containers": ["worker"], "env": [{"name": "A"}]})
    assert not any(judge(a_subject(pod=two), [one, other]).values())


def test_a_policy_that_is_skipped_overrides_nobody() -> None:
    high = a_revision(a_sidecar("proxy"), a_sidecar("app"), name="high", priority=1)
    verdicts = judge(a_subject(), [REVISION, high])
    assert verdicts[REVISION.policy] is None
    found = verdicts[high.policy]
    assert found is not None
    assert found.reason is SkipReason.NAME_CONFLICT


def test_a_policy_that_does_not_come_overrides_nobody_and_is_not_skipped_itself() -> None:
    high = a_revision(a_sidecar("proxy"), name="high", priority=1)
    verdicts = judge(replace(a_subject(), idle=frozenset({high.policy})), [REVISION, high])
    assert verdicts == {REVISION.policy: None, high.policy: None}


def test_a_policy_that_is_skipped_but_kept_still_overrides() -> None:
    high = a_revision(a_sidecar("proxy"), name="high", priority=1)
    subject = carrying(a_subject(), high)
    subject = replace(subject, owners={PROXY: "argocd"})
    assert refused(subject, high) == ("Overridden", True)


def test_what_a_leaving_policy_has_is_waited_for_and_nothing_is_removed() -> None:
    leaving = a_revision(a_sidecar("proxy"), name="old")
    mine = a_revision(a_sidecar("logger", role="Logger"))
    subject = carrying(a_subject(), leaving, mine)
    for priority in (-1, 1):
        wanted = a_revision(a_sidecar("logger", role="Logger"), a_sidecar("proxy"), priority=priority)
        found = verdict(subject, revision=wanted, leaving=[leaving])
        assert found is not None
        assert (found.reason, found.removes) == (SkipReason.OVERRIDDEN, False)
        assert found.waits_for == {leaving.policy}
        assert "SidecarPolicy shop/old, which is being deleted or does not select it any more" in found.message


def test_who_would_be_skipped_anyway_does_not_wait_for_what_leaves() -> None:
    leaving, high = a_revision(name="old"), a_revision(name="high", priority=1)
    subject = carrying(a_subject(), leaving)
    paused = replace(subject, workload=replace(subject.workload, paused=True))
    found = verdict(paused, leaving=[leaving])
    assert found is not None
    assert (found.reason, found.waits_for) == (SkipReason.DEPLOYMENT_PAUSED, frozenset())
    pinned = replace(subject, pins={REVISION.policy: Pin(asked="web-1", revision="web-1")})
    found = verdict(pinned, leaving=[leaving])
    assert found is not None
    assert (found.pinned_to, found.waits_for) == (None, frozenset()), "nothing moves it while the other one is there"
    verdicts = judge(subject, [REVISION, high], [leaving])
    low, first = verdicts[REVISION.policy], verdicts[high.policy]
    assert low is not None
    assert first is not None
    assert first.waits_for == {leaving.policy}
    assert (low.overridden_by, low.waits_for) == (high.policy, frozenset()), "only one of them takes the place"


def test_everything_that_is_in_the_way_and_leaves_is_waited_for() -> None:
    first, second = a_revision(name="first"), a_revision(a_sidecar("logger"), name="second")
    aside = a_revision(a_sidecar("monitor"), name="aside")
    wanted = a_revision(a_sidecar("proxy"), a_sidecar("logger"))
    found = verdict(carrying(a_subject(), first, second, aside), revision=wanted, leaving=[first, second, aside])
    assert found is not None
    assert found.waits_for == {first.policy, second.policy}


@pytest.mark.parametrize("spelling", ["/logs/", "//logs", "/./logs", "/logs/."])
def test_a_mount_is_where_its_path_leads_however_it_is_spelt(spelling: str) -> None:
    mounts: Json = {"volumes": LOGS, "application": {"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}}
    app = {"name": "app", "image": "a", "volumeMounts": [{"name": "data", "mountPath": spelling}]}
    found = verdict(a_subject(pod={"containers": [app]}), revision=a_revision(**mounts))
    assert found is not None
    assert found.reason is SkipReason.NAME_CONFLICT
    assert f"'data' at {spelling!r}" in found.message
    other: Json = {"volumes": LOGS, "application": {"volumeMounts": [{"name": "logs", "mountPath": spelling}]}}
    high = a_revision(a_sidecar("high"), name="high", priority=1, **other)
    assert refused(a_subject(), high, revision=a_revision(**mounts)) == ("Overridden", True)


# The application's own.


@pytest.mark.parametrize(
    ("pod", "policy", "sides"),
    [
        ({"containers": [{"name": "proxy", "image": "nginx:1"}]}, {}, ["'proxy'", "nginx:1", "example.test/proxy:1"]),
        (
            {"initContainers": [{"name": "proxy", "image": "nginx:1", "restartPolicy": "Always"}]},
            {},
            ["'proxy'", "nginx:1", "example.test/proxy:1"],
        ),
        (
            {"volumes": [{"name": "logs", "hostPath": {"path": "/"}}]},
            {"volumes": LOGS},
            ["'logs'", "hostPath", "emptyDir"],
        ),
        (
            {"containers": [{"name": "app", "image": "a", "volumeMounts": [{"name": "data", "mountPath": "/logs"}]}]},
            {"volumes": LOGS, "application": {"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}},
            ["'app'", "'data'", "'/logs'", "'logs'"],
        ),
    ],
    ids=["container", "init container", "volume", "mount"],
)
def test_a_name_conflict_names_both_sides(pod: Json, policy: Json, sides: list[str]) -> None:
    found = verdict(
        a_subject(pod={"containers": [{"name": "app", "image": "a"}], **pod}), revision=a_revision(**policy)
    )
    assert found is not None
    assert (found.reason, found.removes) == (SkipReason.NAME_CONFLICT, False)
    assert all(side in found.message for side in sides), found.message


def test_an_env_variable_of_the_applications_is_no_conflict() -> None:
    pod = {"containers": [{"name": "app", "image": "a", "env": [{"name": "A", "value": "mine"}]}]}
    assert verdict(a_subject(pod=pod), revision=a_revision(application={"env": [{"name": "A"}]})) is None


ADOPTABLE = {"name": "proxy", "image": "example.test/proxy:1", "restartPolicy": "Always", "lifecycle": {}}


def test_an_equal_native_container_is_adopted_until_one_side_changes() -> None:
    plain = a_revision()
    pod = {"initContainers": [ADOPTABLE], "containers": [{"name": "app", "image": "a"}]}
    assert verdict(a_subject(pod=pod), revision=plain) is None
    adopted = carrying(a_subject(pod=pod), plain)
    assert adopted.record.entries[WEB].adopted == {"proxy"}
    assert verdict(adopted, revision=plain) is None
    moved_on = a_revision(a_sidecar(container={"image": "example.test/proxy:2"}))
    assert refused(adopted, revision=moved_on) == ("NameConflict", False)
    dropped = replace(adopted, template={"spec": {"containers": [{"name": "app", "image": "a"}]}})
    assert verdict(dropped, revision=moved_on) is None


def test_an_adopted_containers_ports_are_no_conflict() -> None:
    subject = a_subject(pod={"initContainers": [{**ADOPTABLE, **PORT}], "containers": [{"name": "app", "image": "a"}]})
    assert verdict(subject, revision=a_revision(a_sidecar(container=PORT))) is None


def test_what_a_deleted_policy_left_is_the_owners() -> None:
    subject = a_subject(
        pod={"initContainers": [ADOPTABLE], "containers": [{"name": "app", "image": "a"}]},
        record=Record(orphaned=frozenset({PROXY})),
    )
    found = verdict(subject, revision=a_revision())
    assert found is not None
    assert found.reason is SkipReason.NAME_CONFLICT
    equal = "'proxy' (left by a deleted policy), equal to the policy's; take it out there to get the policy's own"
    assert found.message.endswith(equal)


def test_an_item_that_somebody_else_declares_is_contested() -> None:
    subject = replace(carrying(a_subject(), REVISION), owners={PROXY: CLIENT_SIDE_APPLY})
    found = verdict(subject)
    assert found is not None
    assert (found.reason, found.removes) == (SkipReason.NAME_CONFLICT, False)
    assert "'kubectl apply' declares it too" in found.message
    assert found.message.endswith("merged, and the container runs as a sidecar (restartPolicy: Always)")


def test_a_contested_container_that_its_owner_has_made_plain_is_not_said_to_run_as_a_sidecar() -> None:
    carried = carrying(a_subject(), REVISION)
    spec = {**carried.spec, "initContainers": [{"name": "proxy", "image": "my-migrate:7"}]}
    subject = replace(carried, template={**carried.template, "spec": spec}, owners={PROXY: CLIENT_SIDE_APPLY})
    found = verdict(subject)
    assert found is not None
    assert "restartPolicy" not in found.message


def test_an_item_of_a_policy_that_does_not_exist_any_more_is_in_the_way() -> None:
    gone = a_revision(name="gone")
    subject = replace(carrying(a_subject(), gone), missing=frozenset({gone.policy}))
    found = verdict(subject)
    assert found is not None
    assert found.reason is SkipReason.NAME_CONFLICT
    assert "SidecarPolicy shop/gone, which does not exist any more; eject it first" in found.message


def test_what_equals_ours_on_a_copy_from_another_namespace_is_no_conflict() -> None:
    there = replace(REVISION, policy=PolicyId(kind=names.POLICY, namespace="bank", name="web"))
    copied = replace(carrying(a_subject(), there), missing=frozenset({there.policy}))
    assert verdict(copied) is None
    other = a_revision(a_sidecar(container={"image": "example.test/proxy:2"}))
    found = verdict(copied, revision=other)
    assert found is not None
    assert found.reason is SkipReason.NAME_CONFLICT
    assert "SidecarPolicy bank/web, which reaches its own namespace only" in found.message


@pytest.mark.parametrize(
    ("port", "ours", "conflict"),
    [
        ({"containerPort": 15001}, {"containerPort": 15001}, True),
        ({"containerPort": 15001, "protocol": "UDP"}, {"containerPort": 15001}, False),
        ({"containerPort": 15001, "protocol": "TCP"}, {"containerPort": 15001}, True),
        ({"containerPort": 1, "hostPort": 15001}, {"containerPort": 15001}, False),
        ({"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}, True),
    ],
)
def test_a_port_conflict_is_one_of_number_kind_and_protocol(port: Json, ours: Json, conflict: bool) -> None:
    revision = a_revision(a_sidecar(container={"ports": [ours]}))
    for where in ("containers", "initContainers"):
        pod: Json = {"containers": [{"name": "app", "image": "a"}]}
        pod[where] = [{"name": "own", "image": "a", "ports": [port]}]
        found = verdict(a_subject(pod=pod), revision=revision)
        assert (found is not None) == conflict
        if found is not None:
            assert (found.reason, found.removes) == (SkipReason.PORT_CONFLICT, False)
            assert "'proxy'" in found.message
            assert "'own'" in found.message


def test_our_own_ports_are_no_conflict() -> None:
    assert verdict(carrying(a_subject(), REVISION)) is None


# What a change would do.


@pytest.mark.parametrize(
    ("deployment", "reason", "word"),
    [
        ({"metadata": OWNER}, "Controlled", "Shop/cart"),
        ({"paused": True}, "DeploymentPaused", "rollout resume"),
        ({"strategy": RECREATE}, "Downtime", names.ALLOW_DOWNTIME),
        ({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}}, "Downtime", "100%"),
        ({"autoscalers": SCALED_BY_CPU}, "BreaksAutoscaling", "no cpu is requested by 'proxy'"),
    ],
)
def test_a_change_that_would_be_undone_wait_or_hurt_is_not_made(deployment: Json, reason: str, word: str) -> None:
    found = verdict(a_subject(**deployment))
    assert found is not None
    assert (found.reason.value, found.removes) == (reason, False)
    assert word in found.message
    arrived = carrying(a_subject(**deployment), REVISION)
    assert verdict(arrived) is None, "what is there already needs no change"
    older = carrying(a_subject(**deployment), a_revision(a_sidecar("other")))
    assert refused(older) == (reason, False)


@pytest.mark.parametrize("deployment", [{"paused": True}, {"paused": True, "strategy": RECREATE}])
def test_one_that_its_owner_has_paused_before_it_began_begins_with_what_comes(deployment: Json) -> None:
    assert verdict(replace(a_subject(**deployment), not_begun=True)) is None


def test_an_owner_who_allows_downtime() -> None:
    assert verdict(a_subject(strategy=RECREATE, annotations={names.ALLOW_DOWNTIME: "true"})) is None
    assert refused(a_subject(strategy=RECREATE, annotations={names.ALLOW_DOWNTIME: "yes"})) == ("Downtime", False)


@pytest.mark.parametrize(
    ("container", "pod", "scales_on"),
    [
        ({}, {}, False),
        ({"requests": {"memory": "1Mi"}}, {}, False),
        ({"requests": {"cpu": "0"}}, {}, True),
        ({"limits": {"cpu": "10m"}}, {}, True),
        ({}, {"resources": {"requests": {"cpu": "1"}}}, True),
        ({}, {"resources": {"limits": {"cpu": "1"}}}, True),
    ],
)
def test_an_autoscaler_needs_a_request_of_every_container(container: Json, pod: Json, scales_on: bool) -> None:
    subject = a_subject(autoscalers=SCALED_BY_CPU, pod={"containers": [{"name": "app", "image": "a"}], **pod})
    revision = a_revision(a_sidecar(container={"resources": container} if container else {}))
    assert (verdict(subject, revision=revision) is None) is scales_on


def test_a_broken_autoscaler_is_named_with_what_to_do() -> None:
    by_both = replace(SCALED_BY_CPU[0], name="a", resources=("cpu", "memory"))
    cpu = {"resources": {"requests": {"cpu": "10m"}}}
    revision = a_revision(a_sidecar(container=cpu), a_sidecar("vault", container=cpu), a_sidecar("own"))
    own = revision.sidecar("own")
    assert own is not None
    adopted = {"initContainers": [own.container], "containers": [{"name": "app", "image": "a"}]}
    found = verdict(a_subject(autoscalers=(by_both,), pod=adopted), revision=revision)
    assert found is not None
    assert found.message == (
        "HorizontalPodAutoscaler 'a' scales it by memory utilization, and would stop: no memory is requested by "
        "'proxy', 'vault'; give the sidecar a request, or let the autoscaler measure the application's container "
        "alone (type ContainerResource)"
    )


def test_an_owner_reference_that_controls_nothing_is_no_hindrance() -> None:
    assert verdict(a_subject(metadata={"ownerReferences": [{"kind": "App", "name": "x", "uid": "1"}]})) is None


def test_the_first_reason_counts_in_the_order_of_the_api() -> None:
    """Take away one reason after the other; the next one shows."""
    everything: Json = {
        "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", **OWNER},
        "labels": {names.INJECT: "false"},
        "pod": {
            "containers": [{"name": "app", "image": "a", **PORT}],
            "volumes": [{"name": "logs", "hostPath": {"path": "/"}}],
            **WINDOWS,
        },
        "paused": True,
        "strategy": RECREATE,
        "autoscalers": SCALED_BY_CPU,
        "driven_by": "Rollout cart",
        "namespace": KUBE,
        "emptied": frozenset({("volumes", "")}),
        "account": Account(name="default", secrets=None),
        "nodes": Eligible(known=True, oldest=Kubelet("old", "v1.28.15")),
    }
    secrets = [{"name": "vendor"}]
    revision = a_revision(a_sidecar(container=PORT), volumes=LOGS, imagePullSecrets=secrets, cluster=True)
    high = a_revision(name="high", priority=1, cluster=True)
    everything["record"] = Record(entries={high.policy: Entry(revision=high.name)})
    above: tuple[Revision, ...] = (high,)
    everything["violations"] = {revision.policy: 'violates PodSecurity "restricted:latest": privileged'}
    everything["pins"] = {revision.policy: Pin(asked="web-0123456789", revision=None)}
    everything["inspected"] = frozenset({high.policy})
    seen: list[str] = []

    def look() -> None:
        subject = a_subject(**everything)
        found = verdict(subject, *above, revision=revision)
        seen.append(found.reason.value if found else "")

    look()
    everything["metadata"] = OWNER
    look()
    everything["labels"] = {}
    look()
    everything["namespace"] = SHOP
    look()
    above = ()
    look()
    everything["pod"] = {**everything["pod"], "volumes": []}
    look()
    everything["pod"] = {"containers": [{"name": "app", "image": "a"}], **WINDOWS}
    look()
    everything["emptied"] = frozenset()
    look()
    everything["account"] = Account(name="default", secrets=())
    look()
    everything["metadata"] = {}
    look()
    everything["driven_by"] = ""
    look()
    everything["paused"] = False
    look()
    everything["pins"] = {}
    look()
    everything["inspected"] = frozenset()
    look()
    everything["strategy"] = {}
    look()
    everything["autoscalers"] = ()
    look()
    everything["pod"] = {"containers": [{"name": "app", "image": "a"}]}
    look()
    everything["nodes"] = NO_NODE
    look()
    everything["violations"] = {}
    look()
    assert seen == [*(reason.value for reason in SkipReason), ""]


def test_the_order_of_policies_means_nothing() -> None:
    found = [
        a_revision(a_sidecar("proxy"), name="a", priority=2),
        a_revision(a_sidecar("proxy"), name="b", priority=1),
        a_revision(a_sidecar("vault"), name="c"),
    ]
    assert judge(a_subject(), found) == judge(a_subject(), found[::-1])


# Marks.

IN_THE_WRONG_PLACE = f"annotation {names.INJECT}: must be a label; as an annotation it has no effect"


def test_known_marks_with_allowed_values_are_not_mentioned() -> None:
    assert invalid_marks({names.INJECT: "true", "app": "x"}, {names.ALLOW_DOWNTIME: "false", names.RECORD: "{"}) == []


@pytest.mark.parametrize(
    ("labels", "annotations", "said"),
    [
        ({names.INJECT: "disabled"}, {}, [f'label {names.INJECT}: must be "true" or "false", not \'disabled\'']),
        ({names.INJECT: "False"}, {}, [f'label {names.INJECT}: must be "true" or "false", not \'False\'']),
        (
            {},
            {names.INJECT: "false"},
            [f"annotation {names.INJECT}: must be a label; as an annotation it has no effect"],
        ),
        (
            {names.INJECT: "false"},
            {names.INJECT: "true"},
            [f'{IN_THE_WRONG_PLACE}, and the label says "false"'],
        ),
        ({names.INJECT: "true"}, {names.INJECT: "true"}, [f"annotation {names.INJECT}: must be a label"]),
        ({names.ALLOW_DOWNTIME: "true"}, {}, [f"label {names.ALLOW_DOWNTIME}: must be an annotation; as a label it"]),
        (
            {"sidecars.dev/x": "1"},
            {"sidecars.dev/pin": "web@1"},
            ["label sidecars.dev/x: is", "annotation sidecars.dev/pin"],
        ),
    ],
)
def test_other_marks_are_reported(labels: dict[str, str], annotations: dict[str, str], said: list[str]) -> None:
    found = invalid_marks(labels, annotations)
    assert len(found) == len(said)
    assert all(sentence.startswith(start) for sentence, start in zip(found, said, strict=True)), found


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("initContainers", "of the same image; it differs from the policy's in lifecycle, restartPolicy"),
        ("containers", "of the same image, which is no init container"),
    ],
)
def test_an_own_container_of_the_same_image_is_told_by_what_else_it_is(listed: str, said: str) -> None:
    ours = REVISION.sidecars[0].container
    own = {key: value for key, value in ours.items() if key not in ("lifecycle", "restartPolicy")}
    app = {"name": "app", "image": "example.test/app:1"}
    pod = {"containers": [app, own]} if listed == "containers" else {"containers": [app], listed: [own]}
    skip = verdict(a_subject(pod=pod))
    assert skip is not None and skip.message.endswith(said)


def test_a_record_entry_without_items_is_no_conflict() -> None:
    assert verdict(a_subject(record=Record(entries={WEB: Entry(revision="web-0")}))) is None


def test_a_pin_of_a_policy_that_does_not_select_the_workload_is_told() -> None:
    mesh = PolicyId(kind=names.CLUSTER_POLICY, namespace="", name="mesh")
    pins = {names.PIN: "web@7d21c0a9e1,mesh@7d21c0a9e1,nope@7d21c0a9e1"}
    assert invalid_marks({}, pins, policies=[WEB, mesh]) == [
        f"annotation {names.PIN}: names 'mesh', which is no policy that selects this Deployment; 'cluster/mesh' is one",
        f"annotation {names.PIN}: names 'nope', which is no policy that selects this Deployment",
    ]
    assert invalid_marks({}, pins) == [], "a file does not say which policies there are"


def test_a_pin_moves_nothing_that_another_reason_keeps() -> None:
    pinned = {REVISION.policy: Pin(asked="web-0123456789", revision="web-0123456789")}
    moves = verdict(a_subject(pins=pinned))
    assert moves is not None and moves.pinned_to == "web-0123456789"
    stays = verdict(a_subject(pins=pinned, strategy=RECREATE))
    assert stays is not None
    assert (stays.reason, stays.pinned_to) == (SkipReason.PINNED, None)
    assert "it stays as it is, Downtime:" in stays.message


def test_marks_of_the_pod_template_and_of_the_namespace_are_reported_too() -> None:
    said = invalid_marks({}, {}, {names.INJECT: "no", "app": "x"}, {names.PIN: "web@1", names.INJECT: "true"})
    assert [each.partition(":")[0] for each in said] == [
        f"label {names.INJECT} of the Pod template",
        f"annotation {names.PIN} of the Pod template",
    ]
    (unread,) = invalid_marks({}, {}, {}, {names.INJECT: "disabled"})
    assert unread.startswith(f"annotation {names.INJECT} of the Pod template: must be")
    (wrong,) = invalid_namespace_marks(Namespace(name="shop", labels={names.INJECT: "disabled"}))
    assert "'disabled'" in wrong
    assert not list(invalid_namespace_marks(Namespace(name="shop", labels={names.INJECT: "false"})))
    assert not list(invalid_namespace_marks(SHOP))
    misplaced = namespace_from({"metadata": {"name": "shop", "annotations": {names.INJECT: "false"}}})
    assert list(invalid_namespace_marks(misplaced)) == [IN_THE_WRONG_PLACE]


@pytest.mark.parametrize(
    ("labels", "pod_labels", "overruled_by"),
    [
        ({names.INJECT: "false"}, {}, 'the label of the Deployment says "false"'),
        ({}, {names.INJECT: "false"}, 'the label of the Pod template says "false"'),
        ({names.INJECT: "false"}, {names.INJECT: "true"}, 'the label of the Deployment says "false"'),
        ({names.INJECT: "true"}, {names.INJECT: "false"}, ""),
        ({names.INJECT: "no"}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_an_annotation_of_the_pod_template_that_a_label_contradicts_is_reported(
    labels: dict[str, str], pod_labels: dict[str, str], overruled_by: str
) -> None:
    said = invalid_marks(labels, {}, pod_labels, {names.INJECT: "true"})
    found = [each for each in said if "no effect" in each and each.startswith("annotation")]
    wanted = f"annotation {names.INJECT} of the Pod template: has no effect, {overruled_by}"
    assert found == ([wanted] if overruled_by else [])
