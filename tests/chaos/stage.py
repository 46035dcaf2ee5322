"""A cluster, Deployments of many owners, and a policy for them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import pykube

import localcluster
from sidecarpolicy import names
from sidecarpolicy.core.injection import eject
from sidecarpolicy.core.record import parse
from tests import kube
from tests.api.sampling import is_complete
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.chaos.patience import AWAY, steadily
from tests.chaos.replicas import Replicas
from tests.fleet import Fleet
from tests.polling import poll

ROOT = Path(__file__).parents[2]
POLICY = "web"
SHARE = 10
"""Percent of the Deployments that may be in flight."""
HTTP_CLIENTS = 8
KUBERNETES_OWN = "deployment.kubernetes.io/"

Answer = TypeVar("Answer")
Thing = TypeVar("Thing")


@contextmanager
def a_cluster(name: str, *, nodes: int = 4) -> Iterator[localcluster.Cluster]:
    """A control plane with simulated nodes, our kinds and the operator's rights; no operator."""
    with localcluster.start(name, simulated_nodes=nodes) as running:
        kube.install_kinds(running)
        yield running


class Stage:
    """One namespace during one scenario: what its owners and the policy's author do, and what they want."""

    def __init__(
        self, cluster: localcluster.Cluster, namespace: str, replicas: Replicas, *, seed: int, short: bool = False
    ) -> None:
        self.cluster, self.namespace, self.replicas = cluster, namespace, replicas
        self.api = kube.client(cluster.kubeconfig)
        self.fleet = Fleet(cluster, namespace)
        self.chance = random.Random(seed)
        self.short = short
        self.edits = 0
        self.owned: dict[str, Manifest] = {}
        """What each owner wrote, as the API server stores it: what must be left when ours is taken away."""
        self.rolled_before: dict[str, int] = {}
        self.owners_edits: dict[str, int] = {}
        """How often each owner changed a template since."""
        self.undone = 0
        """How many of the edits etcd has forgotten; of as many others it has forgotten that they were carried out."""
        self.told: dict[str, object] = {}
        """What a scenario wants to have on the page."""
        self.rollout: Manifest = {"maxConcurrent": f"{SHARE}%", "minReadySeconds": 0}
        self._numbers = itertools.count()

    @property
    def key(self) -> str:
        """How a record names the policy."""
        return f"{names.POLICY}/{self.namespace}/{POLICY}"

    def measure(self, full: int, *, short: int) -> int:
        """How often, or for how many seconds, harm is done."""
        return short if self.short else full

    # What the owners do

    def create(self, count: int, **spec: object) -> None:
        """Create *count* Deployments; return at once."""
        numbers = [next(self._numbers) for _ in range(count)]
        self.each(self._create, [_an_owners_deployment(number, self.namespace, **spec) for number in numbers])

    def _create(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        kube.create(self.api, manifest)
        self.owned[name] = {}
        self.owners_edits[name] = 0

    def settle(self, *, timeout: float = 180) -> None:
        """Wait until every Deployment is rolled out, and note what their owners have."""
        everything = steadily(self.fleet.deployments)
        found = poll(everything, until=lambda some: all(map(is_complete, some.values())), timeout=timeout)
        self.remember(found)

    def remember(self, found: dict[str, Manifest]) -> None:
        """Take *found* for what the owners want."""
        self.owned = {name: owners_part(each) for name, each in found.items()}
        self.rolled_before = {name: rollouts_of(each) for name, each in found.items()}

    def each(self, do: Callable[[Thing], Answer], some: Iterable[Thing]) -> list[Answer]:
        """Do the same for many, a few at a time."""
        with ThreadPoolExecutor(HTTP_CLIENTS) as threads:
            return list(threads.map(do, some))

    # What the author does

    def edit(self) -> None:
        """Give the policy another image, or create it."""
        self.edits += 1
        policy = a_policy(
            POLICY,
            self.namespace,
            sidecars=[
                a_sidecar(
                    container={
                        "image": f"example.test/proxy:{self.edits}",
                        "ports": [{"containerPort": 15001}],
                        "volumeMounts": [{"name": "sock", "mountPath": "/run/sock"}],
                    },
                    role="Proxy",
                ),
                a_sidecar("logger", role="Logger"),
            ],
            volumes=[{"name": "sock", "emptyDir": {}}],
            application={
                "env": [{"name": "PROXY", "value": "/run/sock/proxy"}],
                "volumeMounts": [{"name": "sock", "mountPath": "/run/sock"}],
            },
            rollout=self.rollout,
        )
        # An API server that restarts is away for seconds; whoever edits tries again.
        poll(steadily(lambda: self.fleet.apply(policy)), timeout=90)

    def status(self) -> Manifest:
        """The policy's status, empty while it is not about the newest spec, or nobody can be asked."""
        try:
            return self.fleet.status(POLICY)
        except AWAY:
            return {}

    def ready(self) -> bool:
        """Whether the policy says that everything has its newest revision."""
        return any((each["type"], each["status"]) == ("Ready", "True") for each in self.status().get("conditions", []))

    def updated(self) -> int:
        """How many Deployments have the newest revision, as the status says."""
        return int(self.status().get("targets", {}).get("updated", 0))

    def await_ready(self, *, patience: float = 90.0) -> None:
        """Return when it is ready; raise AssertionError where *patience* seconds bring the status no further.

        How long a whole rollout takes is the machine's matter.
        """
        updated = -1

        def moves() -> bool:
            return self.ready() or self.updated() != updated

        while not self.ready():
            poll(moves, timeout=patience)
            updated = self.updated()

    def forget(self) -> None:
        """Let the namespace go: nobody is there to take the policy's finalizer off."""
        free = '{"metadata":{"finalizers":null}}'
        self.fleet.kubectl("patch", "sidecarpolicy", POLICY, "--type=merge", f"--patch={free}", check=False)
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)


def owners_part(deployment: Manifest) -> Manifest:
    """What of *deployment* is its owner's: everything but status, bookkeeping and what the record names."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    annotations = metadata.get("annotations", {})
    record = parse(annotations.get(names.RECORD))
    kept = {
        key: value for key, value in annotations.items() if key != names.RECORD and not key.startswith(KUBERNETES_OWN)
    }
    return {
        "labels": metadata.get("labels", {}),
        "annotations": kept,
        "spec": spec | {"template": eject(spec["template"], record)},
    }


def rollouts_of(deployment: Manifest) -> int:
    """How often its template has been rolled out, as the Deployment controller counts."""
    return int(deployment["metadata"].get("annotations", {}).get(f"{KUBERNETES_OWN}revision", 0))


def _an_owners_deployment(number: int, namespace: str, **spec: object) -> Manifest:
    """A Deployment with something of everything that a policy adds to as well."""
    app = {
        "name": "app",
        "image": "example.test/app:1",
        "env": [{"name": "MODE", "value": "live"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "containers": [app, {"name": "helper", "image": "example.test/helper:1"}],
        "initContainers": [{"name": "migrate", "image": "example.test/migrate:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    made = a_deployment(
        f"cart-{number:04}", namespace, labels={"team": "carts"}, annotations={"example.test/contact": "carts"}, pod=pod
    )
    made["spec"] |= spec
    return made


def await_quiet(api: pykube.HTTPClient) -> None:
    """Wait until the API server answers again."""
    poll(steadily(lambda: kube.answer_to(api, names.PLURALS[names.POLICY]) == HTTPStatus.OK), timeout=90)
