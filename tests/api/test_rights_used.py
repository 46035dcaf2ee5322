"""The operator's rights are what it uses: no request outside of its roles, and no verb in them unused.

It runs last (see conftest), over the audit log of the whole session; what a short run has not used it uses itself.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import yaml

import localcluster
from sidecarpolicy import names
from tests.audit import Audit
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.running import Operator

BASE = Path(__file__).parent.parent.parent / "deploy/base"
ROLES = BASE / "access/operator.yaml"
# The right to create Pods, of which a rule leaves it dry runs.
DRY_RUNS = BASE / "access/dry-runs.yaml"
# What it needs for admission alone; other tests use that, where they run in this session.
ADMISSION = BASE / "admission/access.yaml"
Right = tuple[str, str, str]


def granted(roles: Path = ROLES) -> set[Right]:
    """Every (group, resource, verb) of the roles in a file."""
    return {
        (group, resource, verb)
        for document in yaml.safe_load_all(roles.read_text())
        for rule in document.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _carries(sidecars: list[str], deployment: Manifest) -> bool:
    return init_names(deployment) == sidecars


def test_it_uses_every_right_it_has_and_asks_for_no_other(
    fleet: Fleet, cluster: localcluster.Cluster, operator: Operator
) -> None:
    assert cluster.audit_log is not None
    quick = {"minReadySeconds": 0}
    here = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    cluster_policy = f"rights-{fleet.namespace}"
    fleet.apply(a_deployment("cart", fleet.namespace))
    metadata = {"name": "default", "namespace": fleet.namespace}
    fleet.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    pulled = [{"name": "vendor"}]  # those of ServiceAccounts are not read before
    for tag in ("1", "2", "3"):  # with no history to keep, the oldest revision is deleted
        sidecars = [a_sidecar(container={"image": f"example.test/proxy:{tag}"})]
        spec = {"rollout": quick, "revisionHistoryLimit": 0, "imagePullSecrets": pulled, "sidecars": sidecars}
        fleet.apply(a_policy("web", fleet.namespace, **spec))
        fleet.wait("RolloutComplete")
    # A revision that no node can run is looked into: its Pods and their Events.
    huge = a_sidecar(container={"resources": {"requests": {"cpu": "100000"}}})
    impatient = quick | {"progressDeadlineSeconds": 2}
    fleet.apply(a_policy("web", fleet.namespace, rollout=impatient, sidecars=[huge]))
    fleet.wait("RolledBack")
    fleet.delete_policy()
    fleet.apply(a_cluster_policy(cluster_policy, namespaceSelector=here, rollout=quick))
    fleet.wait("RolloutComplete", cluster_policy, kind=names.CLUSTER_POLICY)
    # An Event that is told again raises the count of the first; that write waits its turn until the operator stops.
    for label, carries in (("false", []), ("true", ["proxy"]), ("false", [])):
        fleet.kubectl("label", "--overwrite", "deployment", "cart", f"{names.INJECT}={label}")
        fleet.wait_for(partial(_carries, carries))
    cluster.kubectl("delete", "clustersidecarpolicy", cluster_policy, "--timeout=60s")
    operator.restart()
    requests = Audit(cluster.audit_log, 0).requests()
    assert [each for each in requests if not each.allowed] == []
    used = {
        (each.group, f"{each.resource}/{each.subresource}" if each.subresource else each.resource, each.verb)
        for each in requests
    }
    mine = granted() | granted(DRY_RUNS)
    assert used - mine - granted(ADMISSION) == set()
    # What is watched is listed by a watch too where the server has WatchList; others take the right to list.
    streamed = {(group, resource, "list") for group, resource, verb in mine if verb == "watch"}
    assert mine - used - streamed == set()
