"""Pods of witnesses: the containers, and the folder of the node that they write their records to.

The records are on a PersistentVolume with a hostPath: that may be mounted by a policy, by people who may not mount
hostPaths, and in a `restricted` namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pykube

import localcluster
from localcluster import images
from tests import kube
from tests.builders import Manifest, a_deployment
from tests.fleet import Fleet
from tests.node.lifecycle.records import Record, record_of

IMAGE, OTHER_IMAGE = images.WITNESS
CLAIM = "witness"
MOUNT: Manifest = {"name": "witness", "mountPath": "/witness"}
VOLUME: Manifest = {"name": "witness", "persistentVolumeClaim": {"claimName": CLAIM}}


class Stage(Fleet):
    """The Deployments, policies and Pods of one namespace, and what they have recorded."""

    def __init__(self, cluster: localcluster.Cluster, namespace: str, folder: Path) -> None:
        super().__init__(cluster, namespace)
        self.folder = folder

    def record(self, pod: str) -> Record:
        """What has happened in a Pod so far."""
        file = self.folder / pod
        return record_of(pod, file.read_text() if file.exists() else "")

    def records(self, prefix: str = "") -> list[Record]:
        """What has happened in all Pods whose names begin like that."""
        return [self.record(file.name) for file in sorted(self.folder.iterdir()) if file.name.startswith(prefix)]


@contextmanager
def a_stage(cluster: localcluster.Cluster, api: pykube.HTTPClient, purpose: str, folder: Path) -> Iterator[Stage]:
    """A namespace whose Pods can write to *folder* of the node."""
    folder.chmod(0o777)
    with kube.a_namespace(api, purpose) as name:
        stage = Stage(cluster, name, folder)
        size, shared = {"storage": "1Gi"}, {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": shared
            | {
                "capacity": size,
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": {"namespace": name, "name": CLAIM},
            },
        }
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": name},
            "spec": shared | {"volumeName": name, "resources": {"requests": size}},
        }
        stage.apply(volume, claim)
        try:
            yield stage
        finally:
            stage.kubectl("delete", "persistentvolume", name, "--wait=false")


def a_witness(name: str, *, run: str = "forever", term: str = "exit 0", call: str = "", **fields: Any) -> Manifest:
    """A container that follows scripts (see deploy/witness/script.go); *fields* are its other fields.

    :param call: a URL that it calls from its first instruction to its last.
    """
    calls = ["-call", call] if call else []
    arguments = ["-as", name, "-run", run, "-term", term, *calls]
    return {"name": name, "image": IMAGE, "args": arguments, "volumeMounts": [MOUNT]} | fields


def as_sidecar(container: Manifest, **changes: Any) -> Manifest:
    """That container as an item of a policy's `spec.sidecars`; *changes* are the item's other fields."""
    fields = {key: value for key, value in container.items() if key != "name"}
    return {"name": container["name"], "container": fields} | changes


def a_hook(name: str, run: str) -> Manifest:
    """A hook or probe of a witness that follows a script of its own and records it as *name*."""
    return {"exec": {"command": ["witness", "-as", name, "-run", run]}}


def a_quiet_check(run: str) -> Manifest:
    """A probe that follows a script and records nothing."""
    return {"exec": {"command": ["witness", "-quiet", "-run", run]}}


def a_deployment_of(name: str, namespace: str, *containers: Manifest, **pod: Any) -> Manifest:
    """A Deployment of witnesses, without Pods as yet; *pod* are other fields of its Pod."""
    spec = {"containers": list(containers), "volumes": [VOLUME]} | pod
    return a_deployment(name, namespace, pod=spec, replicas=0)
