"""The model of the API server that the simulation runs on, held against the real one.

Each script goes through both by the same port; what it notes must be equal, once uids, times and versions are masked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import localcluster
from sidecarpolicy import names
from sidecarpolicy.core.claims import claims_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import Api, ApiError, Resource
from sidecarpolicy.engine.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    POD_TEMPLATES,
    POLICIES,
    REVISIONS,
)
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from sidecarpolicy.kube.lease import LEASES
from tests import kube
from tests.builders import a_deployment, a_policy
from tests.core.objects import START
from tests.simulation.client import Client, Clock
from tests.simulation.faults import Faults
from tests.simulation.loop import VirtualLoop
from tests.simulation.server import Server

POLICY = POLICIES[names.POLICY]
ABSENT = Resource(group="sidecars.dev", version="v1alpha1", plural="absences", kind="Absence")
ROOT = Path(__file__).parent.parent.parent
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

_numbers = itertools.count(1)


class Notes:
    """What a script sees."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.seen: list[Any] = []

    def note(self, what: str, value: Any) -> None:
        """Keep what can be compared."""
        self.seen.append((what, masked(value, self.namespace)))

    async def tried(self, what: str, request: Awaitable[Any]) -> Any:
        """Note what a request answers, or how it fails."""
        try:
            answer = await request
        except ApiError as error:
            self.note(what, (type(error).__name__, error.status, error.reason))
            return None
        self.note(what, answer)
        return answer


def masked(value: Any, namespace: str) -> Any:
    """*value* without what differs from run to run."""
    match value:
        case dict():
            result = {key: masked(each, namespace) for key, each in value.items() if key not in ("uid", "selfLink")}
            if "resourceVersion" in result:
                result["resourceVersion"] = "…"
            # Of who owns what is modelled what is read.
            if (entries := result.pop("managedFields", None)) and entries[0]["apiVersion"] == "apps/v1":
                claims = claims_of({**value, "managedFields": entries})
                result["claims"] = [sorted(claims.ours), sorted(claims.touched.items()), sorted(claims.owners.items())]
                result["managers"] = sorted(
                    (each["manager"], each["operation"], "f:template" in at(each, "fieldsV1", "f:spec"))
                    for each in entries
                    if not each.get("subresource")
                )
            if result.get("name", "").startswith("dry-run-"):
                result["name"] = "dry-run-…"
            return result
        case list() | tuple():
            return [masked(each, namespace) for each in value]
        case str():
            return TIME.sub("…", value.replace(namespace, "shop"))
        case _:
            return value


def a_replace(path: str, value: Any) -> Json:
    return {"op": "replace", "path": path, "value": value}


def an_add(path: str, value: Any) -> Json:
    return {"op": "add", "path": path, "value": value}


def a_test(path: str, value: Any) -> Json:
    return {"op": "test", "path": path, "value": value}


async def names_and_places(notes: Notes) -> None:
    api, shop = notes.api, notes.namespace
    await notes.tried("created", api.create(DEPLOYMENTS, shop, a_deployment("cart", shop)))
    await notes.tried("taken", api.create(DEPLOYMENTS, shop, a_deployment("cart", shop)))
    await notes.tried("absent", api.get(DEPLOYMENTS, shop, "none"))
    await notes.tried("no such namespace", api.create(DEPLOYMENTS, "nowhere", a_deployment("cart", "nowhere")))
    await notes.tried("no such kind", _pages(api, ABSENT))
    await notes.tried("deleting nothing", api.delete(DEPLOYMENTS, shop, "none"))


async def generations_of_deployments(notes: Notes) -> None:
    api, shop = notes.api, notes.namespace
    made = await api.create(DEPLOYMENTS, shop, a_deployment("cart", shop))
    patch = partial(api.json_patch, DEPLOYMENTS, shop, "cart")
    for what, operations, subresource in (
        ("nothing", [a_replace("/spec/replicas", 1)], ""),
        ("replicas", [a_replace("/spec/replicas", 3)], ""),
        ("label", [an_add("/metadata/labels", {"a": "b"})], ""),
        ("annotation", [an_add("/metadata/annotations", {"a": "b"})], ""),
        ("status", [an_add("/status/observedGeneration", 2)], "status"),
        ("spec by status", [a_replace("/spec/replicas", 7), an_add("/status/replicas", 3)], "status"),
        ("annotation by status", [an_add("/metadata/annotations/c", "d")], "status"),
        ("label by status", [an_add("/metadata/labels/c", "d")], "status"),
        ("status by spec", [an_add("/status/replicas", 9)], ""),
        ("template", [a_replace("/spec/template/spec/containers/0/image", "example.test/app:2")], ""),
    ):
        before = made["metadata"]["resourceVersion"]
        made = await patch(operations, subresource=subresource)
        there = made["metadata"]
        notes.note(what, [there["generation"], there["resourceVersion"] == before, made])


async def preconditions(notes: Notes) -> None:
    api, shop = notes.api, notes.namespace
    made = await api.create(DEPLOYMENTS, shop, a_deployment("cart", shop))
    stale, uid = made["metadata"]["resourceVersion"], made["metadata"]["uid"]
    patch = partial(api.json_patch, DEPLOYMENTS, shop, "cart")
    await patch([a_replace("/spec/replicas", 2)])
    for what, operations in (
        ("generation fits", [a_test("/metadata/generation", 2), a_replace("/spec/replicas", 3)]),
        ("generation is stale", [a_test("/metadata/generation", 2), a_replace("/spec/replicas", 4)]),
        ("uid fits", [a_test("/metadata/uid", uid), a_replace("/spec/replicas", 5)]),
        ("uid is another", [a_test("/metadata/uid", "x"), a_replace("/spec/replicas", 6)]),
        ("version is tested, and stale", [a_test("/metadata/resourceVersion", stale), a_replace("/spec/replicas", 7)]),
        ("version is replaced, and stale", [a_replace("/metadata/resourceVersion", stale)]),
        ("a path is not there", [{"op": "remove", "path": "/spec/template/spec/volumes"}]),
        ("an index is not there", [a_replace("/spec/template/spec/containers/3", {})]),
    ):
        await notes.tried(what, patch(operations))
    body = {"metadata": {"resourceVersion": stale, "annotations": {"a": "b"}}}
    await notes.tried("merge at a stale version", api.merge_patch(DEPLOYMENTS, shop, "cart", body))
    body["metadata"]["resourceVersion"] = (await api.get(DEPLOYMENTS, shop, "cart"))["metadata"]["resourceVersion"]
    await notes.tried("merge at this version", api.merge_patch(DEPLOYMENTS, shop, "cart", body))
    body = {"metadata": {"annotations": {"a": None, "c": "d"}}}
    await notes.tried("merge without a version", api.merge_patch(DEPLOYMENTS, shop, "cart", body))
    await notes.tried(
        "delete another", api.delete(DEPLOYMENTS, shop, "cart", uid="00000000-0000-0000-0000-000000000000")
    )
    await notes.tried("delete a stale one", api.delete(DEPLOYMENTS, shop, "cart", uid=uid, resource_version=stale))
    await notes.tried("delete this one", api.delete(DEPLOYMENTS, shop, "cart", uid=uid))
    await notes.tried("it is gone", api.get(DEPLOYMENTS, shop, "cart"))


async def policies_and_finalizers(notes: Notes) -> None:
    api, shop = notes.api, notes.namespace
    await notes.tried("created", api.create(POLICY, shop, a_policy("web", shop)))
    patch = partial(api.json_patch, POLICY, shop, "web")
    await notes.tried("finalizer", patch([an_add("/metadata/finalizers", [names.FINALIZER])]))
    await notes.tried("annotation", api.merge_patch(POLICY, shop, "web", {"metadata": {"annotations": {"a": "b"}}}))
    status = {"observedGeneration": 1, "conditions": []}
    await notes.tried("status", patch([an_add("/status", status)], subresource="status"))
    await notes.tried("spec", patch([a_replace("/spec/sidecars/0/container/image", "example.test/proxy:2")]))
    await notes.tried("spec by status", patch([a_replace("/spec/priority", 3)], subresource="status"))
    await notes.tried("deleted", api.delete(POLICY, shop, "web"))
    held = await notes.tried("held", api.get(POLICY, shop, "web"))
    notes.note("held", ["deletionTimestamp" in held["metadata"], held["metadata"]["generation"]])
    await notes.tried("deleted again", api.delete(POLICY, shop, "web"))
    await notes.tried("let go", patch([{"op": "remove", "path": "/metadata/finalizers/0"}]))
    await notes.tried("gone", api.get(POLICY, shop, "web"))


async def what_is_injected(notes: Notes) -> None:
    """Who owns what after our patch, and the canonical form of a sidecar."""
    api, shop = notes.api, notes.namespace
    await api.create(DEPLOYMENTS, shop, a_deployment("cart", shop))
    sidecar = {"name": "proxy", "image": "example.test/proxy:1", "restartPolicy": "Always", "lifecycle": {}}
    patch = partial(api.json_patch, DEPLOYMENTS, shop, "cart")
    base = "/spec/template/spec"
    await notes.tried("injected", patch([an_add(f"{base}/initContainers", [sidecar])]))
    moved = [{**sidecar, "image": "example.test/proxy:2"}]
    await notes.tried("updated", patch([a_replace(f"{base}/initContainers", moved)]))
    await notes.tried("dry run", patch([a_replace("/spec/replicas", 9)], dry_run=True))
    await notes.tried("after it", api.get(DEPLOYMENTS, shop, "cart"))
    template = {
        "metadata": {"generateName": "dry-run-"},
        "template": {
            "metadata": {},
            "spec": {"initContainers": [sidecar], "containers": [{"name": "app", "image": "x"}], "volumes": []},
        },
    }
    body = {"apiVersion": "v1", "kind": "PodTemplate", **template}
    await notes.tried("canonical", api.create(POD_TEMPLATES, shop, body, dry_run=True))


async def leases(notes: Notes) -> None:
    api, shop = notes.api, notes.namespace
    body = {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": "one", "namespace": shop},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15},
    }
    made = await notes.tried("created", api.create(LEASES, shop, body))
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"holderIdentity": "b"}}
    await notes.tried("taken", api.merge_patch(LEASES, shop, "one", patch))
    await notes.tried("taken too late", api.merge_patch(LEASES, shop, "one", patch))


async def watches(notes: Notes) -> None:
    """What a watch from a version tells, by selector too."""
    api, shop = notes.api, notes.namespace
    selector = f"{names.POLICY_NAME_LABEL}={shop}"

    def a_revision(name: str, **labels: str) -> Json:
        return {
            "apiVersion": REVISIONS.api_version,
            "kind": REVISIONS.kind,
            "metadata": {"name": name, "namespace": shop, "labels": labels},
            "data": {"a": "b"},
            "revision": 1,
        }

    ours = {names.POLICY_NAME_LABEL: shop}
    await api.create(REVISIONS, shop, a_revision("before", **ours))
    pages = [page async for page in api.list(REVISIONS, label_selector=selector)]
    notes.note("listed", [[each["metadata"]["name"] for each in page.items] for page in pages])
    version = pages[-1].resource_version
    await api.create(REVISIONS, shop, a_revision("ours", **ours))
    await api.create(REVISIONS, shop, a_revision("theirs"))
    annotations = {"metadata": {"annotations": {"a": "b"}}}
    await api.merge_patch(REVISIONS, shop, "before", annotations)
    await api.merge_patch(REVISIONS, shop, "before", annotations)  # changes nothing, and is not told
    await api.merge_patch(REVISIONS, shop, "theirs", {"metadata": {"labels": ours}})
    await api.merge_patch(REVISIONS, shop, "ours", {"metadata": {"labels": {names.POLICY_NAME_LABEL: None}}})
    await api.delete(REVISIONS, shop, "before")
    stream = api.watch(REVISIONS, label_selector=selector, resource_version=version)
    told = 0
    async with contextlib.aclosing(stream) as events:
        async for event in events:
            if event.type == "BOOKMARK":
                continue  # they come when the server likes
            metadata = event.object["metadata"]
            notes.note(event.type, [metadata.get("name"), metadata.get("labels"), metadata.get("annotations")])
            told += 1
            if told == 5:
                return


async def _pages(api: Api, resource: Resource) -> list[Any]:
    return [page.items async for page in api.list(resource)]


Script = Callable[[Notes], Awaitable[None]]
SCRIPTS: tuple[Script, ...] = (
    names_and_places,
    generations_of_deployments,
    preconditions,
    policies_and_finalizers,
    what_is_injected,
    leases,
    watches,
)


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A control plane without controllers: nobody but the scripts writes."""
    with localcluster.start(f"model-{os.getpid()}", controllers=False) as running:
        kube.install_kinds(running, rights=False)
        yield running


@pytest_asyncio.fixture
async def real(server: localcluster.Cluster) -> AsyncIterator[HttpApi]:
    async with HttpApi(Login(str(server.kubeconfig)), timeout=10) as opened:
        yield opened


def a_namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def by_the_model(script: Script) -> list[Any]:
    """What *script* notes on the model."""
    loop = VirtualLoop()
    model = Server(lambda: START + loop.now)
    client = Client(server=model, loop=loop, faults=Faults(), clock=Clock(model), process="script")

    async def run() -> list[Any]:
        await client.create(NAMESPACES, "", a_namespace("shop-0"))
        notes = Notes(client, "shop-0")
        await asyncio.wait_for(script(notes), 100)
        return notes.seen

    try:
        return loop.run_until_complete(run())
    finally:
        loop.end()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_the_model_answers_as_the_server_does(script: Script, real: HttpApi) -> None:
    name = f"shop-{next(_numbers)}"
    await real.create(NAMESPACES, "", a_namespace(name))
    notes = Notes(real, name)
    await asyncio.wait_for(script(notes), 60)
    told = await asyncio.to_thread(by_the_model, script)
    for (what, answer), (same, modelled) in zip(notes.seen, told, strict=True):
        assert what == same
        assert modelled == answer, what
