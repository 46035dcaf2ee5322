"""The tests' way to the API server: pykube, and nothing of the operator's own client."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pykube
from pykube.objects import APIObject, NamespacedAPIObject

import localcluster
from sidecarpolicy import names
from tests.builders import Manifest
from tests.polling import poll

ROOT = Path(__file__).parents[1]
_numbers = itertools.count(1)


class SidecarPolicy(NamespacedAPIObject):  # type: ignore[misc]
    """A policy of one namespace."""

    version = names.API_VERSION
    kind = names.POLICY
    endpoint = names.PLURALS[names.POLICY]


class ClusterSidecarPolicy(APIObject):  # type: ignore[misc]
    """A policy of the whole cluster."""

    version = names.API_VERSION
    kind = names.CLUSTER_POLICY
    endpoint = names.PLURALS[names.CLUSTER_POLICY]


KINDS: dict[str, type[APIObject]] = {
    kind.kind: kind for kind in (SidecarPolicy, ClusterSidecarPolicy, pykube.Deployment, pykube.Namespace)
}


def client(kubeconfig: Path) -> pykube.HTTPClient:
    """Return a client for the cluster and user of *kubeconfig*."""
    return pykube.HTTPClient(pykube.KubeConfig.from_file(str(kubeconfig)))


@contextmanager
def a_namespace(api: pykube.HTTPClient, purpose: str) -> Iterator[str]:
    """Create a namespace named after *purpose* and nobody else's; delete it in the background."""
    name = f"{purpose}-{os.getpid()}-{next(_numbers)}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    namespace = pykube.Namespace(api, create(api, manifest))
    try:
        yield name
    finally:
        namespace.delete()


def install_kinds(cluster: localcluster.Cluster, *, rights: bool = True) -> None:
    """Bring our kinds into *cluster*, and with *rights* the operator's too; return when every kind is served."""
    cluster.kubectl("apply", "--filename", str(ROOT / "crds"))
    if rights:
        cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy/base/access"))
    cluster.await_definitions()
    api = client(cluster.kubeconfig)
    for plural in names.PLURALS.values():
        poll(partial(answer_to, api, plural), until=lambda status: status == HTTPStatus.OK)


def answer_to(api: pykube.HTTPClient, plural: str) -> int:
    """Return the HTTP status of a LIST of one of our kinds."""
    status: int = api.get(version=names.API_VERSION, url=plural).status_code
    return status


def read(api: pykube.HTTPClient, path: str, *, version: str, namespace: str | None, **query: str) -> Manifest:
    """Return an object or a collection as the API server has it.

    Raises pykube.exceptions.HTTPError with the server's message.
    """
    response = api.get(version=version, namespace=namespace, url=path, params=query)
    api.raise_for_status(response)
    found: Manifest = response.json()
    return found


def create(api: pykube.HTTPClient, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
    """Create what *manifest* says, unknown fields refused, and return what the server made of it.

    Raises pykube.exceptions.HTTPError with the server's message.
    """
    thing = KINDS[manifest["kind"]](api, manifest)
    params = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
    response = api.post(**thing.api_kwargs(obj_list=True, params=params, data=json.dumps(manifest)))
    api.raise_for_status(response)
    made: Manifest = response.json()
    return made


def skip(api: pykube.HTTPClient, manifest: Manifest) -> str:
    """Return why the server would not create *manifest*; empty if it would."""
    try:
        create(api, manifest, dry_run=True)
    except pykube.exceptions.HTTPError as error:
        return str(error)
    return ""
