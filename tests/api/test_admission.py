"""Admission at work: a real API server calls `sidecarpolicy webhook`, with the shipped configurations.

What counts is what an owner sees: how many ReplicaSets a Deployment makes (each is a rollout), and what the operator
writes afterwards, by the API server's own audit log.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pykube
import pytest
from click.testing import CliRunner

import localcluster
from localcluster.errors import KubectlError
from sidecarpolicy import names
from sidecarpolicy.admission.certificates import AUTHORITY_DAYS, SERVING_DAYS, data_of, material_from, new_authority
from sidecarpolicy.cli.main import main
from sidecarpolicy.core.workload import record_of
from tests import kube
from tests.audit import Audit
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.conftest import kubeconfig_of
from tests.fleet import Fleet, image_of, init_names
from tests.polling import poll
from tests.running import Operator
from tests.webhook import (
    CONFIGURATIONS,
    NAME,
    SECRET,
    SYSTEM,
    Webhook,
    configurations,
    free_port,
    grant,
    install,
    uninstall,
)

WEBHOOK_USER = f"system:serviceaccount:{SYSTEM}:sidecarpolicy-webhook"
QUICK = {"minReadySeconds": 0}
VARIABLE = {"name": "HTTP_PROXY", "value": "http://localhost:15001"}
MIGRATE = {"name": "migrate", "image": "example.test/migrate:1"}
APP = {"name": "app", "image": "example.test/app:1"}


@pytest.fixture(scope="module")
def namespace(api: pykube.HTTPClient) -> Iterator[str]:
    """One for all tests here: configurations are the cluster's, and name it."""
    with kube.a_namespace(api, "admission") as name:
        yield name


@pytest.fixture(scope="module")
def operator_with_certificates(
    cluster: localcluster.Cluster, operator_kubeconfig: Path, operator_of_the_session: Operator
) -> Iterator[Operator]:
    """An operator that makes the certificates, with the right to."""
    grant(cluster)
    operator_of_the_session.stop()
    with Operator(operator_kubeconfig, "--admission-certificates") as running:
        yield running


@pytest.fixture(scope="module")
def webhook(
    cluster: localcluster.Cluster,
    namespace: str,
    tmp_path_factory: pytest.TempPathFactory,
    operator_with_certificates: Operator,
) -> Iterator[Webhook]:
    """The webhook, ready, under its own ServiceAccount; a test that ends it starts it again."""
    port = free_port()
    install(cluster, port, namespace)
    kubeconfig = kubeconfig_of("sidecarpolicy-webhook", cluster, tmp_path_factory.mktemp("webhook"))
    try:
        with Webhook(kubeconfig, port) as running:
            poll(partial(authorities, cluster), until=all, timeout=60)
            yield running
    finally:
        uninstall(cluster)


@pytest.fixture
def fleet(cluster: localcluster.Cluster, namespace: str, webhook: Webhook) -> Iterator[Fleet]:
    """The namespace, empty, and the policy web rolled out completely on a Deployment `first`."""
    found = Fleet(cluster, namespace)
    found.apply(a_policy("web", namespace, rollout=QUICK), a_deployment("first", namespace))
    found.wait("RolloutComplete")
    poll(partial(is_cached, found), timeout=30)
    yield found
    found.kubectl("delete", "deployments", "--all", "--wait=true", "--cascade=foreground")
    found.kubectl("delete", "sidecarpolicies", "--all", "--timeout=60s")


def is_cached(fleet: Fleet) -> bool:
    """Whether the webhook has seen that the policy is complete: a dry run gets its sidecars."""
    probe = a_deployment("probe", fleet.namespace)
    return init_names(kube.create(kube.client(fleet.cluster.kubeconfig), probe, dry_run=True)) == ["proxy"]


def authorities(cluster: localcluster.Cluster) -> list[str]:
    """The caBundle of each webhook."""
    path = "jsonpath={.webhooks[*].clientConfig.caBundle}"
    return [cluster.kubectl("get", kind, NAME, f"-o{path}").stdout for kind in CONFIGURATIONS]


def replica_sets(fleet: Fleet, name: str = "cart") -> list[Manifest]:
    """The ReplicaSets that a Deployment has made, the oldest first: one for each rollout."""
    found = fleet.get("replicasets", version="apps/v1")["items"]
    own = [each for each in found if each["metadata"]["ownerReferences"][0]["name"] == name]
    return sorted(own, key=lambda each: int(each["metadata"]["annotations"]["deployment.kubernetes.io/revision"]))


def carried(fleet: Fleet, name: str = "cart") -> list[list[str]]:
    """The init containers of each of them."""
    return [init_names(each) for each in replica_sets(fleet, name)]


def is_complete(deployment: Manifest) -> bool:
    """The rule of `kubectl rollout status`."""
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == replicas
        and status.get("replicas", 0) == replicas
    )


def settled(fleet: Fleet, name: str = "cart") -> Manifest:
    """Wait until the Deployment is complete and the policy says so; return it."""
    fleet.wait_for(is_complete, name, timeout=60)
    fleet.wait("RolloutComplete")
    return fleet.deployment(name)


def test_a_variable_that_its_owner_takes_over_and_gives_up_is_the_policys_again(fleet: Fleet) -> None:
    """By server-side apply, of a Deployment that the operator has written: nothing of ours may hold a part of it."""

    def applied(*env: Manifest) -> None:
        manifest = a_deployment("cart", fleet.namespace, pod={"containers": [APP | {"env": list(env)}]})
        fleet.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=json.dumps(manifest))

    def value() -> str:
        (app,) = fleet.deployment()["spec"]["template"]["spec"]["containers"]
        return next((each.get("value", "") for each in app.get("env", [])), "absent")

    def owns_a_part() -> bool:
        managed = fleet.deployment()["metadata"]["managedFields"]
        return any("f:env" in json.dumps(each) for each in managed if each["manager"] == names.FIELD_MANAGER)

    applied()
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, application={"env": [VARIABLE]}))
    poll(value, until=lambda found: found == VARIABLE["value"])
    settled(fleet)
    applied(VARIABLE | {"value": "mine"})
    poll(owns_a_part, until=lambda found: not found)
    assert value() == "mine"
    applied()
    poll(value, until=lambda found: found == VARIABLE["value"])


# Created


def test_a_new_deployment_makes_one_replica_set_and_the_operator_writes_nothing(
    fleet: Fleet, cluster: localcluster.Cluster
) -> None:
    audit, reader = Audit.begin(cluster), Audit.begin(cluster, WEBHOOK_USER)
    fleet.apply(a_deployment("cart", fleet.namespace, pod={"initContainers": [MIGRATE], "containers": [APP]}))
    settled(fleet)
    poll(lambda: fleet.status()["targets"], until=lambda targets: targets["updated"] == 2)
    assert carried(fleet) == [["migrate", "proxy"]]
    assert audit.patches_of(fleet.namespace) == {}
    assert reader.writes() == []


def test_one_that_is_created_paused_has_them_before_it_is_resumed(fleet: Fleet) -> None:
    created = kube.create(kube.client(fleet.cluster.kubeconfig), a_deployment("cart", fleet.namespace, paused=True))
    assert init_names(created) == ["proxy"]
    fleet.kubectl("rollout", "resume", "deployment/cart")
    fleet.wait_for(is_complete)
    assert carried(fleet) == [["proxy"]]


def test_a_dry_run_shows_the_sidecars_and_leaves_nothing(fleet: Fleet) -> None:
    manifest = json.dumps(a_deployment("cart", fleet.namespace))
    made = fleet.kubectl("create", "--dry-run=server", "-ojson", "-f-", input=manifest).stdout
    assert init_names(json.loads(made)) == ["proxy"]
    assert "cart" not in fleet.deployments()


def test_what_is_there_has_no_difference_to_what_its_owner_applies(fleet: Fleet) -> None:
    manifest = a_deployment("cart", fleet.namespace)
    fleet.apply(manifest)
    settled(fleet)
    assert fleet.kubectl("diff", "-f-", input=json.dumps(manifest)).stdout == ""


def test_one_that_its_owner_keeps_out_is_left_as_it_is(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace, labels={names.INJECT: "false"}))
    fleet.wait_for(is_complete)
    assert carried(fleet) == [[]]


def test_a_conflict_is_told_to_who_applies(fleet: Fleet) -> None:
    own = {"name": "proxy", "image": "example.test/own:1"}
    manifest = a_deployment("cart", fleet.namespace, pod={"initContainers": [own], "containers": [APP]})
    told = fleet.kubectl("apply", "-f-", input=json.dumps(manifest)).stderr
    assert "Warning: SidecarPolicy" in told
    assert "skips this Deployment (NameConflict)" in told


def test_nobody_is_asked_about_what_is_nothing_to_us(fleet: Fleet, webhook: Webhook) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    settled(fleet)
    before = webhook.reviews()
    fleet.kubectl("scale", "deployment", "cart", "--replicas=2")
    fleet.kubectl("patch", "deployment", "cart", "--type=merge", '-p={"spec":{"minReadySeconds":1}}')
    sidecars = [a_sidecar(container={"image": "example.test/proxy:2"})]
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=sidecars))
    settled(fleet)
    # The policy itself was reviewed; its rollout, written by the operator, was not.
    assert webhook.reviews() == before + 1


# Changed

Write = Callable[[Fleet], object]


def edited(fleet: Fleet, image: str = "example.test/app:2") -> Manifest:
    """The owner's manifest with another image."""
    return a_deployment("cart", fleet.namespace, pod={"containers": [APP | {"image": image}]})


def replace(fleet: Fleet) -> None:
    """`kubectl replace`, which knows nothing of our items and annotation."""
    fleet.kubectl("replace", "-f-", input=json.dumps(edited(fleet)))


def replace_unchanged(fleet: Fleet) -> None:
    """The same, of what is there."""
    fleet.kubectl("replace", "-f-", input=json.dumps(edited(fleet, APP["image"])))


def apply_that_wipes(fleet: Fleet) -> None:
    """Git adds an init container and drops it again: `initContainers: null`, which takes ours too."""
    with_init = a_deployment("cart", fleet.namespace, pod={"initContainers": [MIGRATE], "containers": [APP]})
    fleet.apply(with_init)
    settled(fleet)
    fleet.apply(a_deployment("cart", fleet.namespace))


def undo(fleet: Fleet) -> None:
    """A rollout and its undoing, which puts template and annotations of the older ReplicaSet back."""
    fleet.kubectl("set", "image", "deployment/cart", "app=example.test/app:2")
    settled(fleet)
    fleet.kubectl("rollout", "undo", "deployment/cart")


def restart(fleet: Fleet) -> None:
    """`kubectl rollout restart`."""
    fleet.kubectl("rollout", "restart", "deployment/cart")


def edit_of_ours(fleet: Fleet) -> None:
    """Somebody gives our sidecar another image."""
    change = {"spec": {"template": {"spec": {"initContainers": [{"name": "proxy", "image": "example.test/mine:1"}]}}}}
    fleet.kubectl("patch", "deployment", "cart", f"-p={json.dumps(change)}")


@pytest.mark.parametrize(
    ("write", "rollouts"),
    [(replace, 2), (replace_unchanged, 1), (apply_that_wipes, 2), (undo, 2), (restart, 2), (edit_of_ours, 1)],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_what_a_write_drops_is_put_back_in_the_same_write(
    fleet: Fleet, cluster: localcluster.Cluster, write: Write, rollouts: int
) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    before = settled(fleet)
    audit = Audit.begin(cluster)
    write(fleet)
    after = settled(fleet)
    assert init_names(after) == ["proxy"]
    assert record(after) == record(before)
    assert len(replica_sets(fleet)) == rollouts
    assert all("proxy" in each for each in carried(fleet))
    assert audit.patches_of(fleet.namespace) == {}


def record(deployment: Manifest) -> object:
    """What of it is ours."""
    return record_of(deployment["metadata"]["annotations"].get(names.RECORD))


def test_undoing_to_before_the_policy_starts_no_rollout(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace, labels={names.INJECT: "false"}))
    fleet.wait_for(is_complete)
    fleet.kubectl("label", "deployment", "cart", f"{names.INJECT}-")
    fleet.wait_for(lambda found: init_names(found) == ["proxy"])
    before = settled(fleet)
    audit = Audit.begin(cluster)
    fleet.kubectl("rollout", "undo", "deployment/cart")
    after = settled(fleet)
    assert (init_names(after), record(after)) == (["proxy"], record(before))
    assert len(replica_sets(fleet)) == 2
    assert audit.patches_of(fleet.namespace) == {}


def test_the_recorded_revision_comes_back_and_not_a_newer_one(fleet: Fleet) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    settled(fleet)
    sidecars = [a_sidecar(container={"image": "example.test/proxy:2"})]
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK | {"paused": True}, sidecars=sidecars))
    fleet.wait("Paused")
    replace(fleet)
    assert image_of(fleet.deployment(), "proxy") == "example.test/proxy:1"


def test_a_list_that_every_apply_empties_makes_no_rollout(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    volumes = [{"name": "logs", "emptyDir": {}}]
    mounts = [{"name": "logs", "mountPath": "/logs"}]
    sidecars = [a_sidecar(container={"volumeMounts": mounts})]
    fleet.apply(
        a_policy(
            "web",
            fleet.namespace,
            rollout=QUICK,
            sidecars=sidecars,
            volumes=volumes,
            application={"env": [{"name": "PROXY", "value": "1"}], "volumeMounts": mounts},
        )
    )
    manifest = a_deployment("cart", fleet.namespace, pod={"containers": [APP | {"env": None}]})
    fleet.wait("RolloutComplete")
    fleet.apply(manifest)
    before = settled(fleet)
    audit = Audit.begin(cluster)
    told = fleet.kubectl("apply", "-f-", input=json.dumps(manifest)).stderr
    after = fleet.deployment()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert "the manifest has `env:` without a value of container 'app'" in told
    assert audit.patches_of(fleet.namespace) == {}


# With the owner's next change


def test_on_next_change_a_revision_comes_with_its_owners_own_rollout(
    fleet: Fleet, cluster: localcluster.Cluster
) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace))
    settled(fleet)
    sidecars = [a_sidecar(container={"image": "example.test/proxy:2"})]
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK | {"strategy": "OnNextChange"}, sidecars=sidecars))
    status = fleet.wait("AwaitingOwners")
    assert [each for each in status.get("warnings", ()) if each["reason"] == "NeedsAdmission"] == []
    audit = Audit.begin(cluster)
    before = {name: len(replica_sets(fleet, name)) for name in ("cart", "first")}
    for name in before:
        fleet.kubectl("set", "image", f"deployment/{name}", "app=example.test/app:2")
    found = settled(fleet)
    assert image_of(found, "proxy") == "example.test/proxy:2"
    assert {name: len(replica_sets(fleet, name)) - 1 for name in before} == before
    assert audit.patches_of(fleet.namespace) == {}


def test_what_recreates_its_pods_joins_with_its_owners_own_change(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    labels = {names.INJECT: "false"}
    fleet.apply(a_deployment("cart", fleet.namespace, labels=labels, strategy={"type": "Recreate"}))
    fleet.wait_for(is_complete)
    audit = Audit.begin(cluster)
    fleet.kubectl("label", "deployment", "cart", f"{names.INJECT}-")
    poll(lambda: fleet.status()["skipped"], until=lambda skipped: [each["reason"] for each in skipped] == ["Downtime"])
    fleet.kubectl("set", "image", "deployment/cart", "app=example.test/app:2")
    settled(fleet)
    assert carried(fleet) == [[], ["proxy"]]
    assert audit.patches_of(fleet.namespace) == {}


def test_what_recreates_its_pods_loses_a_deleted_policys_with_its_owners_own_change(
    fleet: Fleet, cluster: localcluster.Cluster
) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace, strategy={"type": "Recreate"}))
    settled(fleet)
    audit = Audit.begin(cluster)
    fleet.kubectl("delete", "sidecarpolicy", "web", "--wait=false")
    poll(lambda: str(fleet.status()), until=lambda told: "its next change by its owner" in told)
    fleet.kubectl("set", "image", "deployment/cart", "app=example.test/app:2")
    fleet.kubectl("wait", "--for=delete", "sidecarpolicy/web", "--timeout=60s")
    assert carried(fleet) == [["proxy"], []]
    assert "cart" not in audit.patches_of(fleet.namespace)
    assert names.RECORD not in fleet.deployment()["metadata"]["annotations"]


# Policies


# The rules of the kind itself find circles of two and three.
CYCLE = [a_sidecar(name, startAfter=[after]) for name, after in ("ab", "bc", "cd", "da")]


@pytest.mark.parametrize("arguments", [(), ("--dry-run=server",)], ids=["written", "dry-run"])
def test_a_policy_is_refused_with_the_words_of_its_status(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    policy = a_policy("cycle", fleet.namespace, sidecars=CYCLE)
    with pytest.raises(KubectlError) as refused:
        fleet.kubectl("apply", *arguments, "-f-", input=json.dumps(policy))
    told = str(refused.value)
    assert 'admission webhook "policies.sidecars.dev" denied the request: spec.sidecars' in told


def test_what_a_status_says_is_what_admission_says(
    fleet: Fleet, cluster: localcluster.Cluster, webhook: Webhook
) -> None:
    policy = a_policy("cycle", fleet.namespace, sidecars=CYCLE)
    with pytest.raises(KubectlError) as refused:
        fleet.kubectl("apply", "-f-", input=json.dumps(policy))
    webhook.stop()
    try:
        fleet.apply(policy)
        message = poll(lambda: fleet.condition("Accepted", "cycle"))["message"]
    finally:
        webhook.start()
    assert message in str(refused.value)
    fleet.delete_policy("cycle")


def test_what_depends_on_others_is_a_warning(fleet: Fleet) -> None:
    policy = a_policy("late", fleet.namespace, sidecars=[a_sidecar("late", startAfter=["unheard-of"])])
    told = fleet.kubectl("apply", "--dry-run=server", "-f-", input=json.dumps(policy)).stderr
    assert "startAfter[0]: names 'unheard-of', which no policy provides" in told


# When it is away


def test_without_an_answer_everything_converges_by_the_second_rollout(fleet: Fleet, webhook: Webhook) -> None:
    webhook.stop()
    try:
        fleet.apply(a_deployment("cart", fleet.namespace))
        fleet.wait_for(lambda found: init_names(found) == ["proxy"], timeout=60)
        settled(fleet)
    finally:
        webhook.start()
    assert carried(fleet) == [[], ["proxy"]]


def test_killed_in_the_middle_of_two_hundred_creations_none_is_refused_and_all_converge(
    fleet: Fleet, webhook: Webhook, cluster: localcluster.Cluster
) -> None:
    made = threading.Semaphore(0)

    def create(number: int) -> list[str]:
        api = kube.client(cluster.kubeconfig)
        created = kube.create(api, a_deployment(f"d{number}", fleet.namespace, replicas=0))
        made.release()
        return init_names(created)

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(create, number) for number in range(200)]
        for _ in range(60):
            assert made.acquire(timeout=60)
        webhook.stop(signal.SIGKILL)
        answered = [each.result() for each in found]
    try:
        assert answered.count(["proxy"]) >= 50
        assert answered.count([]) >= 50, "it was not killed in the middle"
        poll(
            lambda: [name for name, each in fleet.deployments().items() if init_names(each) != ["proxy"]],
            until=lambda without: not without,
            timeout=120,
        )
        fleet.wait("RolloutComplete", timeout=60)
    finally:
        webhook.start()


def test_check_says_how_long_the_certificate_is_good(fleet: Fleet) -> None:
    where = [f"--kubeconfig={fleet.cluster.kubeconfig}", f"--operator-namespace={SYSTEM}"]
    found = json.loads(CliRunner().invoke(main, ["check", "--output=json", *where]).stdout)["checks"]
    (said,) = (each for each in found if "the webhook's certificate" in each["message"])
    assert (said["section"], said["result"]) == ("admission", "ok")
    assert re.match(
        rf"the webhook's certificate is good for ({SERVING_DAYS - 1}|{SERVING_DAYS}) more days \(", said["message"]
    )
    nobody = json.loads(CliRunner().invoke(main, ["check", "--output=json", "--as=eve", *where]).stdout)["checks"]
    assert {each["result"] for each in nobody if each["section"] == "admission"} == {"skipped"}


def test_at_the_end_it_is_not_ready_and_still_answers(fleet: Fleet, webhook: Webhook) -> None:
    webhook.send(signal.SIGTERM)
    try:
        poll(webhook.readiness, until=lambda found: found == (503, "the webhooks are ending\n"), timeout=3)
        assert is_cached(fleet), "a review after SIGTERM"
        assert webhook.wait() == 0
    finally:
        webhook.start()


def test_a_rotation_under_fifty_reviews_a_second_fails_none(
    fleet: Fleet, webhook: Webhook, cluster: localcluster.Cluster, operator_with_certificates: Operator
) -> None:
    # An authority that is about to run out, with a certificate that is good: as after three years.
    now = datetime.now(UTC)
    authority, key = new_authority(now - timedelta(days=AUTHORITY_DAYS * 0.7))
    old = data_of(material_from(authority, key, ["127.0.0.1"], now))
    told = poll(partial(authorities, cluster), until=all)
    operator_with_certificates.stop()
    secret = {"stringData": {name: value.decode() for name, value in old.items()}}
    cluster.kubectl("patch", "secret", SECRET, f"--namespace={SYSTEM}", f"-p={json.dumps(secret)}")
    with_old = configurations(webhook.port, fleet.namespace)
    for each in with_old:
        each["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(old["ca.crt"]).decode()
    applied = {"apiVersion": "v1", "kind": "List", "items": with_old}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f-", input=json.dumps(applied))
    poll(lambda: webhook.log.count("serving with the certificate"), until=lambda count: count >= 2, timeout=30)
    poll(partial(is_cached, fleet), timeout=30)

    stop, missed = threading.Event(), []

    def review(offset: float) -> int:
        api, count, begun = kube.client(cluster.kubeconfig), 0, time.monotonic() + offset
        while not stop.is_set():
            found = kube.create(
                api, a_deployment(f"probe-{offset:g}-{count}".replace(".", "-"), fleet.namespace), dry_run=True
            )
            if init_names(found) != ["proxy"]:
                missed.append(datetime.now(UTC).isoformat())
            count += 1
            stop.wait(max(0.0, begun + count * 0.16 - time.monotonic()))
        return count

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        counts = [pool.submit(review, number * 0.02) for number in range(8)]
        try:
            operator_with_certificates.start()
            poll(lambda: "a successor of the serving certificate" in operator_with_certificates.log, timeout=60)
            poll(lambda: webhook.log.count("serving with the certificate"), until=lambda count: count >= 3, timeout=30)
            stop.wait(3)
        finally:
            stop.set()
    reviews, seconds = sum(each.result() for each in counts), time.monotonic() - began
    print(f"{reviews} reviews in {seconds:.1f} s: {reviews / seconds:.0f} a second")
    assert missed == []
    assert reviews > 500
    assert authorities(cluster) != told
    assert "a successor of the authority" in operator_with_certificates.log


# In the operator's own process


def test_the_operator_itself_answers_with_webhook(
    fleet: Fleet, webhook: Webhook, operator_with_certificates: Operator, operator_kubeconfig: Path
) -> None:
    webhook.stop()
    operator_with_certificates.stop()
    try:
        arguments = ("--webhook", f"--webhook-bind-address=127.0.0.1:{webhook.port}")
        with Operator(operator_kubeconfig, *arguments) as both:
            poll(partial(is_cached, fleet), timeout=30)
            fleet.apply(a_deployment("cart", fleet.namespace))
            settled(fleet)
            assert carried(fleet) == [["proxy"]]
            assert both.stop() == 0
    finally:
        operator_with_certificates.start()
        webhook.start()
