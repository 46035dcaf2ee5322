"""What a user does with a fleet, and what he then sees: applying, reading back, waiting for a policy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import localcluster
from sidecarpolicy import names
from tests import kube
from tests.builders import Manifest
from tests.polling import poll

# What the operator may add to a Deployment's metadata; after it has gone nothing of it may be left.
OURS = (names.GROUP, names.FIELD_MANAGER)


class Fleet:
    """The Deployments and policies of one namespace."""

    def __init__(self, cluster: localcluster.Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self._api = kube.client(cluster.kubeconfig)

    def kubectl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply(self, *manifests: Manifest, server_side: bool = False) -> str:
        """`kubectl apply` *manifests* and return what it printed."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return self.kubectl("apply", *(["--server-side"] if server_side else []), "--filename=-", input=text).stdout

    def get(self, path: str, *, version: str = "v1", **query: str) -> Manifest:
        """Read an object (`pods/cart`) or a collection (`pods`) of the namespace, as the API server has it.

        Tests look many times a second, and a kubectl of their own for each look would keep a whole core busy.
        """
        return kube.read(self._api, path, version=version, namespace=self.namespace, **query)

    def deployment(self, name: str = "cart") -> Manifest:
        """One Deployment, with managedFields."""
        return self.get(f"deployments/{name}", version="apps/v1")

    def deployments(self) -> dict[str, Manifest]:
        """All Deployments, by name."""
        return {each["metadata"]["name"]: each for each in self.get("deployments", version="apps/v1")["items"]}

    def templates(self) -> dict[str, Manifest]:
        """The Pod templates of all Deployments, by name."""
        return {name: each["spec"]["template"] for name, each in self.deployments().items()}

    def status(self, policy: str = "web", kind: str = names.POLICY) -> Manifest:
        """The status of a policy, as its observedGeneration says: empty while it is not the newest."""
        where = self.namespace if kind == names.POLICY else None
        path = f"{names.PLURALS[kind]}/{policy}"
        found = kube.read(self._api, path, version=names.API_VERSION, namespace=where)
        status: Manifest = found.get("status", {})
        return status if status.get("observedGeneration") == found["metadata"]["generation"] else {}

    def condition(self, kind: str, policy: str = "web", policy_kind: str = names.POLICY) -> Manifest:
        """One condition of a policy; empty while there is none."""
        conditions = self.status(policy, policy_kind).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def wait(self, reason: str, policy: str = "web", *, kind: str = names.POLICY, timeout: float = 60) -> Manifest:
        """Wait until Ready of *policy* has *reason*; return the whole status."""

        def is_there(status: Manifest) -> bool:
            ready = [each for each in status.get("conditions", []) if each["type"] == "Ready"]
            return bool(ready) and ready[0]["reason"] == reason

        return poll(partial(self.status, policy, kind), until=is_there, timeout=timeout)

    def wait_for(self, holds: Callable[[Manifest], object], name: str = "cart", *, timeout: float = 30) -> Manifest:
        """Wait until the Deployment *name* is as *holds* says; return it."""
        return poll(partial(self.deployment, name), until=holds, timeout=timeout)

    def events(self, about: str) -> list[Manifest]:
        """The Events about the object of that name."""
        found: list[Manifest] = self.get("events", fieldSelector=f"involvedObject.name={about}")["items"]
        return found

    def messages(self, about: str, reason: str) -> list[str]:
        """What the Events about an object with that reason say."""
        return [each["message"] for each in self.events(about) if each["reason"] == reason]

    def delete_policy(self, policy: str = "web", *, wait: bool = True) -> None:
        """Delete a policy and wait until it is gone."""
        self.kubectl("delete", "sidecarpolicy", policy, f"--wait={str(wait).lower()}", "--timeout=60s")


def delete_admission_rule(fleet: Fleet, rule: tuple[Manifest, Manifest]) -> None:
    """Take away what `builders.an_admission_rule` made."""
    name = rule[0]["metadata"]["name"]
    fleet.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def init_names(deployment: Manifest) -> list[str]:
    """The names of its init containers, in their order."""
    return [each["name"] for each in deployment["spec"]["template"]["spec"].get("initContainers", [])]


def image_of(deployment: Manifest, name: str) -> str:
    """The image of one of its init containers."""
    found = deployment["spec"]["template"]["spec"].get("initContainers", [])
    return next((str(each["image"]) for each in found if each["name"] == name), "")


def traces(deployments: Iterable[Manifest]) -> list[str]:
    """What of ours is still on the metadata of *deployments*."""
    return [
        f"{each['metadata']['name']}: {word}"
        for each in deployments
        for word in OURS
        if word in json.dumps(each["metadata"])
    ]
