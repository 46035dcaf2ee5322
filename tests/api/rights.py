"""What rights a role grants, which of them were used, and a course of events that uses all of an operator's."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import yaml

from sidecarpolicy import names
from tests.audit import Request
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names

Right = tuple[str, str, str]
QUICK = {"minReadySeconds": 0}


def granted(*roles: Path) -> set[Right]:
    """Every (group, resource, verb) of the roles in some files."""
    return {
        (group, resource, verb)
        for path in roles
        for document in yaml.safe_load_all(path.read_text())
        for rule in document.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(requests: Iterable[Request]) -> set[Right]:
    """Every right that was asked for."""
    return {
        (each.group, f"{each.resource}/{each.subresource}" if each.subresource else each.resource, each.verb)
        for each in requests
    }


def streamed(rights: Iterable[Right]) -> set[Right]:
    """The rights to list that nobody uses where the server has WatchList: a watch lists, too."""
    return {(group, resource, "list") for group, resource, verb in rights if verb == "watch"}


def use_rights_on_a_policy(fleet: Fleet) -> None:
    """Have the operator roll a policy out, fail with it, look into the failure, and take it out again."""
    fleet.apply(a_deployment("cart", fleet.namespace))
    metadata = {"name": "default", "namespace": fleet.namespace}
    fleet.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    pulled = [{"name": "vendor"}]  # those of ServiceAccounts are not read before
    for tag in ("1", "2", "3"):  # with no history to keep, the oldest revision is deleted
        sidecars = [a_sidecar(container={"image": f"example.test/proxy:{tag}"})]
        spec = {"rollout": QUICK, "revisionHistoryLimit": 0, "imagePullSecrets": pulled, "sidecars": sidecars}
        fleet.apply(a_policy("web", fleet.namespace, **spec))
        fleet.wait("RolloutComplete")
    # A revision that no node can run is looked into: its Pods and their Events.
    huge = a_sidecar(container={"resources": {"requests": {"cpu": "100000"}}})
    impatient = QUICK | {"progressDeadlineSeconds": 2}
    fleet.apply(a_policy("web", fleet.namespace, rollout=impatient, sidecars=[huge]))
    fleet.wait("RolledBack")
    fleet.delete_policy()


def tell_an_event_again(fleet: Fleet) -> None:
    """An Event that is told again raises the count of the first; that write waits its turn until the operator stops."""
    for label, carries in (("false", []), ("true", ["proxy"]), ("false", [])):
        fleet.kubectl("label", "--overwrite", "deployment", "cart", f"{names.INJECT}={label}")
        fleet.wait_for(partial(_carries, carries))


def _carries(sidecars: list[str], deployment: Manifest) -> bool:
    return init_names(deployment) == sidecars
