"""One first, then a few at a time: seen from outside, by LIST, while real controllers roll the Deployments out."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pykube

import localcluster
from sidecarpolicy import names
from tests.api.sampling import is_complete, revision_on, sampled
from tests.audit import Audit
from tests.builders import Manifest, a_deployment, a_proxy, a_waiting_deployment, an_admission_rule
from tests.fleet import Fleet, delete_admission_rule, image_of, init_names, traces
from tests.polling import poll
from tests.running import Operator
from tests.simulation.controllers import condition_of

MANY = 20
BUDGET = 2  # 10 % of them


def carts(namespace: str, count: int = MANY, **changes: Any) -> list[Manifest]:
    """Deployments of two replicas each."""
    return [a_deployment(f"cart-{number:02}", namespace, replicas=2, **changes) for number in range(count)]


def key(fleet: Fleet) -> str:
    """How the record names the policy."""
    return f"SidecarPolicy/{fleet.namespace}/web"


def ready(fleet: Fleet) -> None:
    """Wait until every Deployment has been rolled out."""
    poll(lambda: all(is_complete(each) for each in fleet.deployments().values()), timeout=60)


def test_every_status_is_true_and_never_more_than_the_budget_is_in_flight(fleet: Fleet, api: pykube.HTTPClient) -> None:
    soak = {"minReadySeconds": 1}
    fleet.apply(*carts(fleet.namespace))
    ready(fleet)
    with sampled(api, fleet.namespace) as samples:
        fleet.apply(a_proxy(fleet.namespace, rollout=soak))
        fleet.kubectl("wait", "--for=condition=Ready", "sidecarpolicy/web", "--timeout=120s")
    said = fleet.kubectl("rollout", "status", *(f"deployment/{name}" for name in fleet.deployments()), "--timeout=5s")
    assert said.stdout.count("successfully rolled out") == MANY
    assert samples.untrue(key(fleet), soak["minReadySeconds"]) == []
    assert len(samples.statuses) > MANY
    in_flight = samples.in_flight()
    assert max(in_flight) == BUDGET
    first_done = next(
        number
        for number, (_, deployments) in enumerate(samples.lists)
        if any(revision_on(each, key(fleet)) and is_complete(each) for each in deployments)
    )
    assert max(in_flight[:first_done]) == 1


def test_what_is_recreated_is_taken_out_one_by_one_though_its_controller_goes_on_calling_it_complete(
    fleet: Fleet, api: pykube.HTTPClient
) -> None:
    """It takes up the ReplicaSet of before the injection, and renews no condition."""
    down: Manifest = {"strategy": {"type": "Recreate"}, "annotations": {names.ALLOW_DOWNTIME: "true"}}
    fleet.apply(*carts(fleet.namespace, 3, minReadySeconds=4, **down))
    ready(fleet)
    fleet.apply(a_proxy(fleet.namespace, rollout={"minReadySeconds": 0, "maxConcurrent": 1}))
    fleet.wait("RolloutComplete", timeout=120)
    complete = {name: condition_of(each, "Progressing") for name, each in fleet.deployments().items()}
    with sampled(api, fleet.namespace) as samples:
        fleet.kubectl("delete", "sidecarpolicy/web", "--timeout=120s")
    assert {name: condition_of(each, "Progressing") for name, each in fleet.deployments().items()} == complete
    assert all(condition_of(each, "Available")["status"] == "True" for each in fleet.deployments().values())
    unavailable = [
        sum(condition_of(each, "Available").get("status") != "True" for each in deployments)
        for _, deployments in samples.lists
    ]
    assert max(unavailable) == 1


def test_an_edit_half_way_frees_no_slot(fleet: Fleet, api: pykube.HTTPClient) -> None:
    fleet.apply(*carts(fleet.namespace))
    ready(fleet)
    with sampled(api, fleet.namespace) as samples:
        fleet.apply(a_proxy(fleet.namespace))
        poll(lambda: fleet.status().get("targets", {}).get("updated", 0) >= MANY / 3, timeout=60)
        fleet.apply(a_proxy(fleet.namespace, "2"))
        fleet.wait("RolloutComplete", timeout=120)
    assert max(samples.in_flight()) == BUDGET
    assert {image_of(each, "proxy") for each in fleet.deployments().values()} == {"example.test/proxy:2"}


def test_new_deployments_with_a_new_policy_do_not_all_get_an_untried_revision(
    fleet: Fleet, api: pykube.HTTPClient
) -> None:
    with sampled(api, fleet.namespace) as samples:
        fleet.apply(a_proxy(fleet.namespace), *carts(fleet.namespace))
        fleet.wait("RolloutComplete", timeout=120)
    carrying = [
        [each for each in deployments if revision_on(each, key(fleet)) is not None] for _, deployments in samples.lists
    ]
    assert max(len([each for each in some if not is_complete(each)]) for some in carrying) <= BUDGET
    before_first = [some for some in carrying if not any(is_complete(each) for each in some)]
    assert max(len(some) for some in before_first) == 1


HUGE = {"resources": {"requests": {"cpu": "100000"}}}


def bad(fleet: Fleet, tag: str = "2", **rollout: Any) -> None:
    """Apply a revision that no node can run."""
    fleet.apply(a_proxy(fleet.namespace, tag, rollout={"progressDeadlineSeconds": 3} | rollout, **HUGE))


def tags(fleet: Fleet) -> list[str]:
    """The tags of all proxies, sorted."""
    return sorted(image_of(each, "proxy").rpartition(":")[2] for each in fleet.deployments().values())


def test_a_bad_revision_reaches_one_workload_and_is_rolled_back(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 6))
    fleet.apply(a_proxy(fleet.namespace))
    good = fleet.wait("RolloutComplete")["updateRevision"]
    bad(fleet)
    status = fleet.wait("RolledBack")
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert (conditions["Ready"], conditions["Stalled"]) == ("False", "True")
    assert (status["targets"]["failed"], status["targets"]["pending"]) == (1, 5)
    assert (status["currentRevision"], status["updateRevision"] != good) == (good, True)
    (failure,) = status["failures"]
    assert failure["revision"] == status["updateRevision"]
    assert "Insufficient cpu" in failure["message"]
    message = fleet.condition("Ready")["message"]
    assert f"{fleet.namespace}/{failure['name']} failed" in message
    assert f"sidecars.dev/resume: {status['updateRevision']}#1" in message
    poll(lambda: tags(fleet) == ["1"] * 6)
    ready(fleet)
    told = poll(lambda: fleet.messages(failure["name"], "RolloutFailed"))
    assert "Insufficient cpu" in told[0]


def test_a_first_injection_that_fails_is_taken_out_again(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 3))
    before = fleet.templates()
    ready(fleet)
    bad(fleet)
    status = fleet.wait("RolledBack")
    assert status["targets"]["failed"] == 1
    poll(lambda: fleet.templates() == before)
    fleet.delete_policy()
    assert traces(fleet.deployments().values()) == []


def test_a_halt_survives_a_restart_and_ends_with_its_own_resume_only(fleet: Fleet, operator: Operator) -> None:
    fleet.apply(*carts(fleet.namespace, 4))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    bad(fleet)
    first = fleet.wait("RolledBack")
    poll(lambda: tags(fleet) == ["1"] * 4)
    operator.restart()
    fleet.apply(a_waiting_deployment("new", fleet.namespace))
    fleet.wait_for(lambda new: image_of(new, "proxy").endswith(":1"), "new")
    again = poll(fleet.status, until=lambda status: status["targets"]["matched"] == 5)
    assert (again["failures"], again["targets"]["failed"]) == (first["failures"], 1)
    fleet.kubectl("annotate", "sidecarpolicy", "web", "sidecars.dev/resume=nonsense#1")
    halt = f"{first['updateRevision']}#1"
    fleet.kubectl("annotate", "--overwrite", "sidecarpolicy", "web", f"sidecars.dev/resume={halt}")
    # It is still bad: it fails again, under another id, which the old annotation does not end.
    poll(lambda: "#2" in fleet.condition("Ready").get("message", ""))
    assert fleet.wait("RolledBack")["targets"]["failed"] == 1
    fleet.kubectl("delete", "deployment", "new")
    fleet.apply(a_proxy(fleet.namespace, "3"))
    fleet.wait("RolloutComplete")
    assert tags(fleet) == ["3"] * 4


def test_a_halt_survives_a_change_of_the_leader(fleet: Fleet, operator: Operator, operator_kubeconfig: Path) -> None:
    fleet.apply(*carts(fleet.namespace, 4))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    bad(fleet)
    before = fleet.wait("RolledBack")
    poll(lambda: tags(fleet) == ["1"] * 4)
    standby = Operator(operator_kubeconfig)
    with ThreadPoolExecutor() as threads:
        leads = threads.submit(standby.start)
        poll(lambda: standby.log)
        operator.stop(signal.SIGKILL)
        leads.result()
    try:
        fleet.apply(a_waiting_deployment("new", fleet.namespace))
        fleet.wait_for(lambda new: image_of(new, "proxy").endswith(":1"), "new")
        after = poll(fleet.status, until=lambda status: status["targets"]["matched"] == 5)
        assert after["failures"] == before["failures"]
        assert fleet.condition("Ready")["reason"] == "RolledBack"
        assert [tag for tag in tags(fleet) if tag != "1"] == []
    finally:
        standby.stop()
        operator.start()


def test_a_turning_back_that_is_refused_is_not_tried_again_at_once(fleet: Fleet, cluster: localcluster.Cluster) -> None:
    fleet.apply(*carts(fleet.namespace, 2))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    from_2 = "oldObject.spec.template.spec.?initContainers.orValue([]).exists(each, each.image.endsWith(':2'))"
    freeze = an_admission_rule("freeze", fleet.namespace, f"!{from_2}", "there is a change freeze")
    fleet.apply(*freeze)
    try:
        audit = Audit.begin(cluster)
        bad(fleet)
        (failure,) = fleet.wait("RolledBack")["failures"]
        poll(lambda: [each for each in audit.requests() if each.name == failure["name"] and each.code == 422])
        # Others are looked at meanwhile, and the policy with them, many times.
        for number in range(3):
            fleet.apply(a_waiting_deployment(f"new-{number}", fleet.namespace))
            fleet.wait_for(lambda new: image_of(new, "proxy").endswith(":1"), f"new-{number}")
        tried = [each for each in audit.requests() if each.name == failure["name"] and each.code == 422]
        assert len(tried) == 1
    finally:
        delete_admission_rule(fleet, freeze)
    over = ("annotate", "--overwrite", "deployment", failure["name"], "the-freeze=is-over")
    poll(lambda: fleet.kubectl(*over, check=False).returncode == 0)
    poll(lambda: set(tags(fleet)) == {"1"})


def test_going_back_to_the_old_spec_ends_a_halt_at_once(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 4))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    bad(fleet)
    fleet.wait("RolledBack")
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    assert tags(fleet) == ["1"] * 4


def test_a_failure_that_is_put_up_with_does_not_halt_the_rest(fleet: Fleet) -> None:
    fleet.apply(
        *carts(fleet.namespace, 4), a_deployment("stuck", fleet.namespace, pod={"nodeSelector": {"no": "node"}})
    )
    fleet.kubectl("scale", "deployment", "stuck", "--replicas=0")
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.kubectl("scale", "deployment", "stuck", "--replicas=1")
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"progressDeadlineSeconds": 3, "maxFailures": 1}))
    poll(lambda: tags(fleet).count("2") >= 4, timeout=60)


def test_a_halted_rollout_leaves_the_failed_one_for_inspection(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 4))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    bad(fleet, onFailure="Halt")
    status = fleet.wait("RolloutHalted")
    assert (status["targets"]["failed"], status["targets"]["pending"]) == (1, 3)
    assert tags(fleet) == ["1", "1", "1", "2"]
    # Its old Pods go on serving, and an edit moves it first.
    (failure,) = status["failures"]
    assert fleet.deployment(failure["name"])["status"]["availableReplicas"] == 2
    fleet.apply(a_proxy(fleet.namespace, "3"))
    fleet.wait("RolloutComplete")
    assert tags(fleet) == ["3"] * 4


def test_old_revisions_go_and_those_in_use_stay(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 1))
    for tag in ("1", "2", "3", "4"):
        policy = a_proxy(fleet.namespace, tag)
        policy["spec"]["revisionHistoryLimit"] = 1
        fleet.apply(policy)
        newest = fleet.wait("RolloutComplete")["updateRevision"]

    def stored() -> list[str]:
        found = fleet.get("controllerrevisions", version="apps/v1")["items"]
        return [each["metadata"]["name"] for each in found]

    kept = poll(stored, until=lambda names: len(names) <= 3)
    assert f"sidepol-{newest}" in kept


def test_all_at_once_waits_for_nobody(fleet: Fleet, api: pykube.HTTPClient) -> None:
    fleet.apply(*carts(fleet.namespace, 8))
    ready(fleet)
    with sampled(api, fleet.namespace) as samples:
        fleet.apply(a_proxy(fleet.namespace, rollout={"strategy": "AllAtOnce"}))
        fleet.wait("RolloutComplete")
    assert max(samples.in_flight()) > 1


def test_a_paused_rollout_changes_nothing_until_it_goes_on(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 3))
    fleet.apply(a_proxy(fleet.namespace, rollout={"paused": True}))
    status = fleet.wait("Paused")
    assert status["targets"]["pending"] == 3
    assert {tuple(init_names(each)) for each in fleet.deployments().values()} == {()}
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"paused": True}))
    fleet.wait("Paused")
    fleet.apply(a_waiting_deployment("new", fleet.namespace))
    fleet.wait_for(lambda new: image_of(new, "proxy") == "example.test/proxy:1", "new")
    assert {image_of(each, "proxy") for each in fleet.deployments().values()} == {"example.test/proxy:1"}


def test_removal_is_under_the_budget_too(fleet: Fleet, api: pykube.HTTPClient) -> None:
    fleet.apply(*carts(fleet.namespace, 10))
    fleet.apply(a_proxy(fleet.namespace, rollout={"maxConcurrent": 2}))
    fleet.wait("RolloutComplete")
    before = {name for name, each in fleet.deployments().items() if init_names(each)}
    assert len(before) == 10
    with sampled(api, fleet.namespace) as samples:
        narrowed = a_proxy(fleet.namespace, rollout={"maxConcurrent": 2})
        narrowed["spec"]["selector"] = {"matchLabels": {"app": "cart-00"}}
        fleet.apply(narrowed)
        fleet.wait("RolloutComplete")
    moving = [sum(not is_complete(each) for each in deployments) for _, deployments in samples.lists]
    assert max(moving) <= 2
    assert [name for name, each in fleet.deployments().items() if init_names(each)] == ["cart-00"]


def test_a_deployment_without_pods_follows_last_and_proves_nothing(fleet: Fleet) -> None:
    fleet.apply(a_deployment("empty", fleet.namespace, replicas=0), *carts(fleet.namespace, 2))
    fleet.apply(a_proxy(fleet.namespace))
    assert fleet.wait("RolloutComplete")["targets"]["updated"] == 3
    assert init_names(fleet.deployment("empty")) == ["proxy"]


def test_no_rollout_starts_on_top_of_the_owners_own(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 2))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    huge = {"resources": {"requests": {"cpu": "100000"}}}
    container = {"name": "app"} | huge
    fleet.kubectl(
        "patch",
        "deployment",
        "cart-00",
        "--patch",
        json.dumps({"spec": {"template": {"spec": {"containers": [container]}}}}),
    )
    fleet.wait_for(lambda cart: not is_complete(cart), "cart-00")
    fleet.apply(a_proxy(fleet.namespace, "2"))
    poll(lambda: fleet.status().get("targets", {}).get("updated") == 1)
    assert image_of(fleet.deployment("cart-01"), "proxy") == "example.test/proxy:2"
    assert image_of(fleet.deployment("cart-00"), "proxy") == "example.test/proxy:1"
    assert fleet.status()["targets"]["pending"] == 1
    fleet.kubectl("set", "resources", "deployment/cart-00", "--containers=app", "--requests=cpu=1m")
    fleet.wait("RolloutComplete")
    assert image_of(fleet.deployment("cart-00"), "proxy") == "example.test/proxy:2"
