"""When another writer undoes what is injected: a few attempts, then ever fewer, and everybody told who it is."""

from __future__ import annotations

import calendar
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pykube

import localcluster
from sidecarpolicy import names
from tests.api.conftest import Command
from tests.audit import Audit
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.polling import poll
from tests.running import Operator

QUICK = {"minReadySeconds": 0}
THRESHOLD = 3  # the operator's default
MERGE = {"Content-Type": "application/merge-patch+json"}


class Fighter:
    """A controller of manager `someone` that corrects a Deployment at once, by the merge patch that *correct* returns.

    An empty patch: it is as that controller wants it.
    """

    def __init__(self, api: pykube.HTTPClient, namespace: str, correct: Callable[[Manifest], Manifest]) -> None:
        self._api, self._namespace, self._correct = api, namespace, correct
        self._stopped = threading.Event()
        self.reverts = 0

    def fight(self) -> None:
        """Correct until stopped; like many a controller it notes when it did."""
        where = {"version": "apps/v1", "namespace": self._namespace, "url": "deployments/fought"}
        while not self._stopped.wait(0.02):
            patch = self._correct(self._api.get(**where).json())
            if not patch:
                continue
            annotations = patch.get("metadata", {}).get("annotations", {}) | {"example.test/synced": str(time.time())}
            text = json.dumps(patch | {"metadata": {"annotations": annotations}})
            answer = self._api.patch(**where, data=text, headers=MERGE, params={"fieldManager": "someone"})
            self._api.raise_for_status(answer)
            self.reverts += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Fight, in a thread of its own, for the time of the context."""
        with ThreadPoolExecutor(1) as threads:
            fight = threads.submit(self.fight)
            try:
                yield
            finally:
                self._stopped.set()
            fight.result()


WITHOUT_RECORD: Manifest = {"metadata": {"annotations": {names.RECORD: None}}}
WITHOUT_ITEMS: Manifest = {"spec": {"template": {"spec": {"initContainers": None}}}}


def takes_items(deployment: Manifest) -> Manifest:
    """Take the init containers away."""
    return WITHOUT_ITEMS if init_names(deployment) else {}


def takes_the_record(deployment: Manifest) -> Manifest:
    """Take our annotation away."""
    return WITHOUT_RECORD if names.RECORD in deployment["metadata"]["annotations"] else {}


def takes_everything(deployment: Manifest) -> Manifest:
    """Take both away."""
    return takes_items(deployment) | takes_the_record(deployment)


def brings_back(wanted: Manifest, deployment: Manifest) -> Manifest:
    """Put the record and the init containers of *wanted* back."""
    if init_names(deployment) == init_names(wanted):
        return {}
    containers = wanted["spec"]["template"]["spec"]["initContainers"]
    return {
        "metadata": {"annotations": {names.RECORD: wanted["metadata"]["annotations"][names.RECORD]}},
        "spec": {"template": {"spec": {"initContainers": containers}}},
    }


@contextmanager
def a_fight(fleet: Fleet, fighter: Fighter) -> Iterator[None]:
    """Four Deployments, *fighter* at work on one of them, and a policy that allows no failure."""
    fleet.apply(*(a_deployment(name, fleet.namespace) for name in ("fought", "cart-0", "cart-1", "cart-2")))
    created = int(time.time())  # managedFields have whole seconds: the fight comes later than their creation
    poll(lambda: int(time.time()) > created)
    with fighter.at_work():
        fleet.apply(a_policy("web", fleet.namespace, rollout={"strategy": "AllAtOnce", "maxFailures": 0, **QUICK}))
        yield


def carries(wanted: list[str], deployment: Manifest) -> bool:
    """Whether these are its init containers."""
    return init_names(deployment) == wanted


def let_it_look_at_everything(fleet: Fleet) -> None:
    """Change what the operator has to react to, so that everything before has been looked at."""
    for value, wanted in (("false", []), ("true", ["proxy"])):
        fleet.kubectl("label", "--overwrite", "deployment", "cart-2", f"{names.INJECT}={value}")
        fleet.wait_for(partial(carries, wanted), "cart-2")


def entry_of(deployment: Manifest) -> dict[str, Any]:
    """What the record says of the policy."""
    record = json.loads(deployment["metadata"]["annotations"][names.RECORD])
    (entry,) = record["policies"].values()
    assert isinstance(entry, dict)
    return entry


def let_time_pass(fleet: Fleet, operator: Operator, seconds: float) -> None:
    """Have the record say that things were put back so much longer ago, while an operator that remembers is down."""
    operator.stop()
    deployment = fleet.deployment("fought")
    record = json.loads(deployment["metadata"]["annotations"][names.RECORD])
    (entry,) = record["policies"].values()
    last = time.strptime(entry["undone"]["last"], "%Y-%m-%dT%H:%M:%SZ")
    earlier = time.gmtime(calendar.timegm(last) - seconds)
    entry["undone"]["last"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", earlier)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    fleet.kubectl("annotate", "--overwrite", "deployment", "fought", f"{names.RECORD}={text}")
    operator.start()


def the_conflict(status: Manifest, fleet: Fleet) -> str:
    """The message of the one failure that *status* tells of, which is the conflict."""
    (failure,) = status["failures"]
    assert (failure["namespace"], failure["name"], failure["reason"]) == (fleet.namespace, "fought", "FieldConflict")
    return str(failure["message"])


def test_a_writer_that_undoes_us_is_left_alone_and_named(
    fleet: Fleet, api: pykube.HTTPClient, cluster: localcluster.Cluster, operator: Operator
) -> None:
    audit = Audit.begin(cluster)
    fighter = Fighter(api, fleet.namespace, takes_items)
    with a_fight(fleet, fighter):
        status = fleet.wait("FieldConflict")
        said = the_conflict(status, fleet)
        assert said.startswith("'someone' keeps undoing init container 'proxy', 3 times so far; next attempt at 2")
        assert {kind: status["targets"][kind] for kind in ("updated", "failed")} == {"updated": 3, "failed": 1}
        assert audit.patches_of(fleet.namespace) == {"fought": THRESHOLD, "cart-0": 1, "cart-1": 1, "cart-2": 1}
        for about in ("fought", "web"):
            (told,) = poll(partial(fleet.messages, about, "FieldConflict"))
            assert "'someone' keeps undoing init container 'proxy'" in told
        assert entry_of(fleet.deployment("fought"))["undone"]["count"] == 2

        operator.restart()
        let_it_look_at_everything(fleet)
        assert audit.patches_of(fleet.namespace)["fought"] == THRESHOLD
        assert the_conflict(fleet.wait("FieldConflict"), fleet) == said

        let_time_pass(fleet, operator, 590)  # the next attempt is made when its time has come, by itself
        poll(lambda: "4 times so far" in the_conflict(fleet.wait("FieldConflict"), fleet))
        let_it_look_at_everything(fleet)
        assert audit.patches_of(fleet.namespace)["fought"] == THRESHOLD + 1
    assert fighter.reverts == THRESHOLD + 1

    let_time_pass(fleet, operator, 1200)
    fleet.wait_for(partial(carries, ["proxy"]), "fought")
    poll(lambda: "it is there again" in the_conflict(fleet.wait("FieldConflict"), fleet))
    let_time_pass(fleet, operator, 600)
    assert fleet.wait("RolloutComplete")["targets"]["updated"] == 4
    assert audit.patches_of(fleet.namespace)["fought"] == THRESHOLD + 2
    for about in ("fought", "web"):
        assert len(fleet.messages(about, "FieldConflict")) == 1


def test_a_writer_that_takes_the_record_away_too_is_left_alone_until_a_restart(
    fleet: Fleet, api: pykube.HTTPClient, cluster: localcluster.Cluster, operator: Operator
) -> None:
    audit = Audit.begin(cluster)
    with a_fight(fleet, Fighter(api, fleet.namespace, takes_everything)):
        status = fleet.wait("FieldConflict")
        assert the_conflict(status, fleet).startswith("'someone' keeps undoing init container 'proxy', 3 times so far")
        let_it_look_at_everything(fleet)
        assert audit.patches_of(fleet.namespace)["fought"] == THRESHOLD
        operator.restart()
        poll(lambda: audit.patches_of(fleet.namespace)["fought"] > THRESHOLD)
        fleet.wait("FieldConflict")
        let_it_look_at_everything(fleet)
        assert audit.patches_of(fleet.namespace)["fought"] == 2 * THRESHOLD


def test_a_writer_that_takes_only_the_record_away_is_left_alone_too(
    fleet: Fleet, api: pykube.HTTPClient, cluster: localcluster.Cluster, verb: Command
) -> None:
    audit = Audit.begin(cluster)
    with a_fight(fleet, Fighter(api, fleet.namespace, takes_the_record)):
        status = fleet.wait("FieldConflict")
        assert f"'someone' keeps undoing the annotation {names.RECORD}" in the_conflict(status, fleet)
        (row,) = json.loads(verb("targets", "web", "--state=failed", "--output=json").stdout)["targets"]
        assert (row["name"], row["reason"], row["message"]) == (
            "fought",
            "FieldConflict",
            the_conflict(status, fleet),
        ), "the count went with the record: only the operator and its status know of it"
        let_it_look_at_everything(fleet)
        assert audit.patches_of(fleet.namespace)["fought"] == THRESHOLD
    assert init_names(fleet.deployment("fought")) == ["proxy"]


def test_a_policy_can_be_deleted_and_an_owner_opt_out_in_the_middle_of_a_fight(
    fleet: Fleet, api: pykube.HTTPClient
) -> None:
    with a_fight(fleet, Fighter(api, fleet.namespace, takes_items)):
        fleet.wait("FieldConflict")
        fleet.kubectl("label", "deployment", "fought", f"{names.INJECT}=false")
        fleet.wait("RolloutComplete")
        assert names.RECORD not in fleet.deployment("fought")["metadata"].get("annotations", {})
        fleet.kubectl("label", "deployment", "fought", f"{names.INJECT}-")
        fleet.wait("FieldConflict")
        fleet.delete_policy()
    assert names.RECORD not in json.dumps(fleet.deployments())


def test_a_writer_that_brings_back_what_is_removed_is_left_alone_too(
    fleet: Fleet, api: pykube.HTTPClient, cluster: localcluster.Cluster
) -> None:
    fleet.apply(*(a_deployment(name, fleet.namespace) for name in ("fought", "cart")))
    fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK))
    fleet.wait("RolloutComplete")
    audit = Audit.begin(cluster)
    with Fighter(api, fleet.namespace, partial(brings_back, fleet.deployment("fought"))).at_work():
        others = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["fought"]}]}
        fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, selector=others))

        def told() -> str:
            return str(fleet.condition("Ready").get("message"))

        poll(lambda: "'someone' keeps undoing the removal of what was injected, 3 times so far" in told())
        fleet.kubectl("set", "image", "deployment/cart", "app=example.test/app:2")
        fleet.kubectl("rollout", "status", "deployment/cart", "--timeout=30s")
        assert audit.patches_of(fleet.namespace) == {"fought": THRESHOLD}
    assert fleet.condition("Ready")["reason"] == "RollingOut"


def test_a_webhook_that_takes_sidecars_away_is_named_and_nothing_is_written_again(
    fleet: Fleet, cluster: localcluster.Cluster
) -> None:
    name = f"no-init-{fleet.namespace}"
    strip = (
        'has(object.spec.template.spec.initContainers) ? [JSONPatch{op: "remove", '
        'path: "/spec/template/spec/initContainers"}] : []'
    )
    updates = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    mutate = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [updates], "objectSelector": {"matchLabels": {"plain": "yes"}}},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": strip}}],
        },
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": here},
    }
    fleet.apply(a_deployment("fought", fleet.namespace, labels={"plain": "yes"}), a_deployment("cart", fleet.namespace))
    for manifest in (mutate, binding):
        cluster.kubectl("apply", "--filename=-", input=json.dumps(manifest))
    try:

        def strips() -> bool:
            body = {"spec": {"template": {"spec": {"initContainers": [{"name": "probe", "image": "probe:1"}]}}}}
            trial = fleet.kubectl(
                "patch", "deployment", "fought", "--dry-run=server", f"--patch={json.dumps(body)}", "--output=json"
            )
            return init_names(json.loads(trial.stdout)) == []

        poll(strips)
        audit = Audit.begin(cluster)
        fleet.apply(a_policy("web", fleet.namespace, rollout=QUICK, sidecars=[a_sidecar()]))
        status = fleet.wait("FieldConflict")
        assert the_conflict(status, fleet) == "an admission webhook keeps undoing init container 'proxy'"
        assert status["targets"]["updated"] == 1
        fleet.kubectl("annotate", "deployment", "fought", f"{names.GROUP}/unknown=x")
        poll(lambda: [each for each in fleet.status()["warnings"] if each["reason"] == "InvalidMark"])
        assert audit.patches_of(fleet.namespace) == {"fought": 1, "cart": 1}
    finally:
        cluster.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name)
