"""The client against a real API server: what goes over the wire, and every fault it can be provoked to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import localcluster
from sidecarpolicy import names
from sidecarpolicy.engine.port import (
    NAMESPACE_TERMINATING,
    PATCH_DOES_NOT_FIT,
    ApiError,
    Conflict,
    NotFound,
    Page,
    Rejected,
    Resource,
    Transient,
)
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from sidecarpolicy.kube.wire import PAGE

CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace")
DEPLOYMENTS = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
CLUSTER_ROLES = Resource(group="rbac.authorization.k8s.io", version="v1", plural="clusterroles", kind="ClusterRole")
WEBHOOKS = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="validatingwebhookconfigurations",
    kind="ValidatingWebhookConfiguration",
)
FLOW = "flowcontrol.apiserver.k8s.io"
PRIORITIES = Resource(group=FLOW, version="v1", plural="prioritylevelconfigurations", kind="PriorityLevelConfiguration")
FLOW_SCHEMAS = Resource(group=FLOW, version="v1", plural="flowschemas", kind="FlowSchema")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A control plane of its own: these tests stop it, throttle it and break its admission."""
    with localcluster.start(f"kube-client-{os.getpid()}", controllers=False) as running:
        yield running


@pytest_asyncio.fixture
async def api(server: localcluster.Cluster) -> AsyncIterator[HttpApi]:
    async with HttpApi(Login(str(server.kubeconfig)), timeout=5) as opened:
        yield opened


@pytest_asyncio.fixture
async def shop(api: HttpApi) -> str:
    """A namespace."""
    name = f"shop-{next(_numbers)}"
    await api.create(NAMESPACES, "", an(NAMESPACES, name))
    return name


def an(resource: Resource, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}} | fields


def a_deployment(name: str = "cart", **container: Any) -> dict[str, Any]:
    labels = {"app": name}
    return an(
        DEPLOYMENTS,
        name,
        spec={
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "app:1"} | container]},
            },
        },
    )


async def test_an_object_is_created_read_patched_and_deleted(api: HttpApi, shop: str) -> None:
    made = await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a", data={"x": "1"}))
    assert await api.get(CONFIG_MAPS, shop, "a") == made
    patched = await api.json_patch(CONFIG_MAPS, shop, "a", [{"op": "replace", "path": "/data/x", "value": "2"}])
    assert patched["data"] == {"x": "2"}
    patched = await api.merge_patch(CONFIG_MAPS, shop, "a", {"data": {"y": "3"}})
    assert patched["data"] == {"x": "2", "y": "3"}
    assert {entry["manager"] for entry in patched["metadata"]["managedFields"]} == {names.FIELD_MANAGER}
    await api.delete(CONFIG_MAPS, shop, "a")
    await api.delete(CONFIG_MAPS, shop, "a")
    with pytest.raises(NotFound, match=f"get configmaps {shop}/a: "):
        await api.get(CONFIG_MAPS, shop, "a")


async def test_cluster_scoped_objects_and_subresources_have_their_paths(api: HttpApi, shop: str) -> None:
    await api.create(CLUSTER_ROLES, "", an(CLUSTER_ROLES, "lab:reader", rules=[]))
    assert (await api.get(CLUSTER_ROLES, "", "lab:reader"))["metadata"]["name"] == "lab:reader"
    await api.delete(CLUSTER_ROLES, "", "lab:reader")
    await api.create(DEPLOYMENTS, shop, a_deployment())
    scale = await api.merge_patch(DEPLOYMENTS, shop, "cart", {"spec": {"replicas": 3}}, subresource="scale")
    assert scale["kind"] == "Scale"
    operations = [{"op": "add", "path": "/status/observedGeneration", "value": 7}]
    done = await api.json_patch(DEPLOYMENTS, shop, "cart", operations, subresource="status")
    assert (done["spec"]["replicas"], done["status"]["observedGeneration"]) == (3, 7)


async def test_a_dry_run_writes_nothing(api: HttpApi, shop: str) -> None:
    await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"), dry_run=True)
    with pytest.raises(NotFound):
        await api.get(CONFIG_MAPS, shop, "a")
    await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"))
    operations = [{"op": "add", "path": "/data", "value": {"x": "1"}}]
    answer = await api.json_patch(CONFIG_MAPS, shop, "a", operations, dry_run=True)
    assert answer["data"] == {"x": "1"}
    assert "data" not in await api.get(CONFIG_MAPS, shop, "a")


async def test_a_list_comes_as_a_stream_or_in_pages_and_takes_a_selector(
    api: HttpApi, shop: str, server: localcluster.Cluster
) -> None:
    count = 2 * PAGE + 1

    async def make(number: int) -> None:
        body = an(CONFIG_MAPS, f"c{number}")
        body["metadata"]["labels"] = {"in": shop}
        await api.create(CONFIG_MAPS, shop, body)

    for begin in range(0, count, 100):
        await asyncio.gather(*(make(number) for number in range(begin, min(begin + 100, count))))
    streamed = [page async for page in api.list(CONFIG_MAPS, label_selector=f"in={shop}")]
    assert [page.resource_version for page in streamed if page.resource_version] == [streamed[-1].resource_version]
    async with HttpApi(Login(str(server.kubeconfig)), streams_lists=False) as api:
        pages = [page async for page in api.list(CONFIG_MAPS, label_selector=f"in={shop}")]
        assert [len(page.items) for page in pages] == [PAGE, PAGE, 1]
        assert len({page.resource_version for page in pages}) == 1
        assert [len(page.items) async for page in api.list(CONFIG_MAPS, label_selector="in=none")] == [0]

    def versions(listed: list[Page]) -> dict[str, str]:
        found = [item["metadata"] for page in listed for item in page.items]
        assert len(found) == count
        return {metadata["name"]: metadata["resourceVersion"] for metadata in found}

    assert versions(streamed) == versions(pages)


async def test_an_empty_collection_has_a_version_too(api: HttpApi, server: localcluster.Cluster) -> None:
    for streams in (True, False):
        async with HttpApi(Login(str(server.kubeconfig)), streams_lists=streams) as api:
            (page,) = [page async for page in api.list(CONFIG_MAPS, label_selector="in=none")]
            assert (list(page.items), list(page.gone)) == ([], [])
            assert int(page.resource_version) > 0


async def test_what_changes_while_it_is_listed_is_told(api: HttpApi, shop: str) -> None:
    """The stream and the watch that follows it leave no gap, whenever an object is changed or deleted."""
    for number in range(200):
        body = an(CONFIG_MAPS, f"c{number}", data={"x": "0"})
        body["metadata"]["labels"] = {"in": shop}
        await api.create(CONFIG_MAPS, shop, body)

    async def churn() -> None:
        for number in range(100):
            await api.merge_patch(CONFIG_MAPS, shop, f"c{number}", {"data": {"x": "1"}})
            await api.delete(CONFIG_MAPS, shop, f"c{number + 100}")

    seen: dict[str, str] = {}

    async def follow(events_each: int) -> None:
        """List, and watch from there for so many events; again and again."""
        while True:
            seen.clear()
            gone = set()
            version = ""
            async for page in api.list(CONFIG_MAPS, label_selector=f"in={shop}"):
                seen.update({item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in page.items})
                for item in page.gone:
                    gone.add(item["metadata"]["name"])
                    seen.pop(item["metadata"]["name"], None)
                version = page.resource_version
            watch = api.watch(CONFIG_MAPS, label_selector=f"in={shop}", resource_version=version)
            async with contextlib.aclosing(watch) as events:
                left = events_each
                async for event in events:
                    name, new = event.object["metadata"].get("name", ""), event.object["metadata"]["resourceVersion"]
                    if event.type == "DELETED":
                        # Told before, or twice: what the list has told is at times newer than its version.
                        assert seen.pop(name, "") or name in gone
                    elif event.type == "MODIFIED":
                        seen[name] = max(seen.get(name, "0"), new, key=int)
                    left -= event.type != "BOOKMARK"
                    if not left:
                        break

    following = asyncio.create_task(follow(15))
    await churn()
    pages = [page async for page in api.list(CONFIG_MAPS, label_selector=f"in={shop}")]
    truth = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for page in pages for item in page.items}
    assert len(truth) == 100
    deadline = time.monotonic() + 60
    while seen != truth:
        assert not following.done()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_server_without_streamed_lists_is_asked_for_pages(
    api: HttpApi, shop: str, server: localcluster.Cluster
) -> None:
    """Here it is only a user who may not watch; a server without it answers 422."""
    here = f"--namespace={shop}"
    server.kubectl("create", "clusterrole", f"lister-{shop}", "--verb=list", "--resource=configmaps")
    server.kubectl("create", "clusterrolebinding", f"lister-{shop}", f"--clusterrole=lister-{shop}", f"--user={shop}")
    server.kubectl("create", "configmap", "a", here)
    async with HttpApi(Login(str(server.user_kubeconfig(shop)))) as lister:

        async def listed() -> bool:
            with contextlib.suppress(Rejected):
                pages = [page async for page in lister.list(CONFIG_MAPS)]
                return any(item["metadata"]["namespace"] == shop for page in pages for item in page.items)
            return False

        deadline = time.monotonic() + 20
        while not await listed():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_list_that_took_too_long_is_for_later(server: localcluster.Cluster) -> None:
    """The server forgets snapshots after five minutes; here its store is told to forget at once."""
    async with HttpApi(Login(str(server.kubeconfig)), timeout=5, streams_lists=False) as api:
        await _take_too_long(api, server)


async def _take_too_long(api: HttpApi, server: localcluster.Cluster) -> None:
    for number in range(PAGE + 1):
        await api.create(CONFIG_MAPS, "default", an(CONFIG_MAPS, f"old{number}"))
    pages = api.list(CONFIG_MAPS)
    await anext(pages)
    made = await api.create(CONFIG_MAPS, "default", an(CONFIG_MAPS, "newest"))
    (etcd,) = {
        argument.partition("=")[2]
        for argument in server._processes.state.components["kube-apiserver"].command.arguments
        if argument.startswith("--etcd-servers=")
    }
    compaction = {"revision": made["metadata"]["resourceVersion"], "physical": True}
    async with aiohttp.request("POST", f"{etcd}/v3/kv/compaction", json=compaction) as done:
        assert done.status == 200
    server.restart("kube-apiserver")  # it keeps snapshots of its own
    with pytest.raises(Transient) as later:
        await anext(pages)
    assert (later.value.status, later.value.reason) == (410, "Expired")


async def test_a_watch_tells_what_happens_after_a_version(api: HttpApi, shop: str) -> None:
    made = await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"))
    before = made["metadata"]["resourceVersion"]
    patched = await api.merge_patch(CONFIG_MAPS, shop, "a", {"data": {"x": "ü"}})
    await api.delete(CONFIG_MAPS, shop, "a")
    selector = "!nobody-has-this"
    async with contextlib.aclosing(api.watch(CONFIG_MAPS, label_selector=selector, resource_version=before)) as events:
        first, second, third = [await anext(events) for _ in range(3)]
    assert (first.type, first.object) == ("BOOKMARK", {"metadata": {"resourceVersion": before}})
    assert (second.type, second.object["metadata"]) == ("MODIFIED", patched["metadata"])
    assert second.object["data"] == {"x": "ü"}
    assert (third.type, third.object["metadata"]["name"]) == ("DELETED", "a")
    assert int(third.object["metadata"]["resourceVersion"]) > int(patched["metadata"]["resourceVersion"])


async def test_a_watch_brings_objects_that_are_larger_than_any_buffer(api: HttpApi, shop: str) -> None:
    made = await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "large", data={"x": "x" * 900_000}))
    await api.merge_patch(CONFIG_MAPS, shop, "large", {"data": {"y": "1"}})
    version = made["metadata"]["resourceVersion"]
    async with contextlib.aclosing(api.watch(CONFIG_MAPS, resource_version=version)) as events:
        _, told = [await anext(events) for _ in range(2)]
    assert {key: len(value) for key, value in told.object["data"].items()} == {"x": 900_000, "y": 1}


async def test_a_closed_client_ends_its_watches_with_later(server: localcluster.Cluster, api: HttpApi) -> None:
    closing = HttpApi(Login(str(server.kubeconfig)))
    await closing.start()
    (page,) = [page async for page in api.list(CONFIG_MAPS, label_selector="in=none")]
    events = closing.watch(CONFIG_MAPS, resource_version=page.resource_version)
    await anext(events)
    await closing.close()
    with pytest.raises(Transient):
        await anext(events)


async def test_silence_ends_a_watch(
    api: HttpApi, server: localcluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the server had ended it: whoever watches connects again and sees whether it is there."""
    (page,) = [page async for page in api.list(CONFIG_MAPS, label_selector="in=none")]
    monkeypatch.setattr("sidecarpolicy.kube.client.IDLE_SECONDS", 0.5)
    types = [event.type async for event in api.watch(CONFIG_MAPS, resource_version=page.resource_version)]
    assert types[0] == "BOOKMARK"


async def test_a_deletion_may_have_preconditions(api: HttpApi, shop: str) -> None:
    made = await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"))
    uid, stale = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    await api.merge_patch(CONFIG_MAPS, shop, "a", {"data": {"x": "1"}})
    with pytest.raises(Conflict):
        await api.delete(CONFIG_MAPS, shop, "a", uid=uid, resource_version=stale)
    with pytest.raises(Conflict):
        await api.delete(CONFIG_MAPS, shop, "a", uid="another")
    current = (await api.get(CONFIG_MAPS, shop, "a"))["metadata"]["resourceVersion"]
    await api.delete(CONFIG_MAPS, shop, "a", uid=uid, resource_version=current)
    with pytest.raises(NotFound):
        await api.get(CONFIG_MAPS, shop, "a")
    await api.delete(CONFIG_MAPS, shop, "a", uid=uid, resource_version=current)  # once more is nothing


async def test_now_is_the_servers_clock(api: HttpApi, shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's clock shows: the server's answers tell."""
    real = time.time
    assert abs(api.now() - real()) < 3
    for wrong_by in (3600.0, -3600.0, 0.0):
        monkeypatch.setattr("sidecarpolicy.kube.clock.time.time", lambda wrong_by=wrong_by: real() + wrong_by)
        await api.get(NAMESPACES, "", shop)
        assert abs(api.now() - real()) < 3
        assert abs(api.clock_offset + wrong_by) < 3


async def test_clients_that_share_a_clock_learn_from_each_others_answers(
    server: localcluster.Cluster, api: HttpApi, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked for a workload for minutes, while the Lease is renewed with a client of its own."""
    real = time.time
    async with HttpApi(Login(str(server.kubeconfig)), connections=1, clock=api.clock) as renewing:
        monkeypatch.setattr("sidecarpolicy.kube.clock.time.time", lambda: real() - 3600.0)
        await renewing.get(NAMESPACES, "", shop)
        assert abs(api.now() - real()) < 3


async def test_somebody_wrote_first_is_a_conflict(api: HttpApi, shop: str) -> None:
    made = await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"))
    with pytest.raises(Conflict) as taken:
        await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"))
    assert (taken.value.status, taken.value.reason) == (409, "AlreadyExists")
    await api.merge_patch(CONFIG_MAPS, shop, "a", {"data": {"x": "1"}})
    stale = made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await api.merge_patch(CONFIG_MAPS, shop, "a", {"metadata": {"resourceVersion": stale}, "data": None})
    guard = {"op": "replace", "path": "/metadata/resourceVersion", "value": stale}
    with pytest.raises(Conflict):
        await api.json_patch(CONFIG_MAPS, shop, "a", [guard, {"op": "remove", "path": "/data"}])


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/metadata/generation", "value": 7},
        {"op": "remove", "path": "/spec/template/spec/initContainers"},
    ],
)
async def test_a_patch_that_does_not_fit_is_told_from_one_that_is_invalid(
    api: HttpApi, shop: str, operation: dict[str, Any]
) -> None:
    await api.create(DEPLOYMENTS, shop, a_deployment())
    with pytest.raises(Rejected) as misfit:
        await api.json_patch(DEPLOYMENTS, shop, "cart", [operation])
    assert (misfit.value.status, misfit.value.reason) == (422, PATCH_DOES_NOT_FIT)
    with pytest.raises(Rejected, match="must be greater than or equal to 0") as invalid:
        await api.json_patch(DEPLOYMENTS, shop, "cart", [{"op": "replace", "path": "/spec/replicas", "value": -1}])
    assert (invalid.value.status, invalid.value.reason) == (422, "Invalid")


async def test_an_unknown_field_is_refused_without_telling_secrets(api: HttpApi, shop: str) -> None:
    with pytest.raises(Rejected, match=r'unknown field "spec.template.spec.containers\[0\].foo"'):
        await api.create(DEPLOYMENTS, shop, a_deployment(foo="bar"))
    await api.create(DEPLOYMENTS, shop, a_deployment(env=[{"name": "PASSWORD", "value": "hunter2"}]))
    with pytest.raises(Rejected, match=r'unknown field "spec\.foo"') as refused:
        await api.json_patch(DEPLOYMENTS, shop, "cart", [{"op": "add", "path": "/spec/foo", "value": 1}])
    assert "hunter2" not in str(refused.value)


async def test_missing_rights_and_missing_kinds(api: HttpApi, shop: str, server: localcluster.Cluster) -> None:
    async with HttpApi(Login(str(server.user_kubeconfig("nobody")))) as nobody:
        with pytest.raises(Rejected, match=f'"nobody" cannot get resource "configmaps".*"{shop}"') as refused:
            await nobody.get(CONFIG_MAPS, shop, "a")
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    unknown = Resource(group="lab.example", version="v1", plural="things", kind="Thing")
    with pytest.raises(NotFound):
        await api.get(unknown, shop, "a")
    statuses = Resource(group="", version="v1", plural="componentstatuses", kind="ComponentStatus")
    with pytest.raises(Rejected) as unsupported:
        await api.delete(statuses, "", "etcd-0")
    assert unsupported.value.status == 405


async def test_a_terminating_namespace_refuses_by_its_own_reason(api: HttpApi, shop: str) -> None:
    await api.delete(NAMESPACES, "", shop)  # no controller runs here that would finish it
    with pytest.raises(Rejected) as refused:
        await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a"))
    assert (refused.value.status, refused.value.reason) == (403, NAMESPACE_TERMINATING)


async def test_an_unreachable_webhook_is_for_later(api: HttpApi, shop: str) -> None:
    hook = {
        "name": "down.lab.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": shop}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
    }
    await api.create(WEBHOOKS, "", an(WEBHOOKS, "down", webhooks=[hook]))
    try:
        later = await eventually(
            Transient, lambda: api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, f"c{next(_numbers)}"))
        )
    finally:
        await api.delete(WEBHOOKS, "", "down")
    assert later.status == 500
    assert "down.lab.example" in later.message


async def test_a_throttling_server_names_the_seconds(api: HttpApi, server: localcluster.Cluster) -> None:
    limits = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
    limited = {"type": "Limited", "limited": limits | {"limitResponse": {"type": "Reject"}}}
    await api.create(PRIORITIES, "", an(PRIORITIES, "none", spec=limited))
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "clusterScope": True, "namespaces": ["*"]}]
    subjects = [{"kind": "User", "user": {"name": "hasty"}}]
    schema = {
        "priorityLevelConfiguration": {"name": "none"},
        "matchingPrecedence": 2,
        "rules": [{"subjects": subjects, "resourceRules": rules}],
    }
    await api.create(FLOW_SCHEMAS, "", an(FLOW_SCHEMAS, "hasty", spec=schema))
    async with HttpApi(Login(str(server.user_kubeconfig("hasty")))) as hasty:

        async def many_at_once() -> None:  # one is let through even where there are no seats
            await asyncio.gather(*(hasty.get(NAMESPACES, "", f"n{number}") for number in range(100)))

        later = await eventually(Transient, many_at_once)
    assert later.status == 429
    assert later.retry_after is not None
    assert later.retry_after >= 1


async def eventually(kind: type[Transient], request: Any) -> Transient:
    """Make *request* until it fails with *kind*: what was configured takes the server a moment."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            await request()
        except kind as error:
            return error
        except ApiError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"no {kind.__name__} within 60 s")


async def test_a_bad_token_is_read_again_once_and_then_for_later(server: localcluster.Cluster, tmp_path: Path) -> None:
    kubeconfig = with_token_file(server, tmp_path)
    (tmp_path / "token").write_text("bad\n")
    async with HttpApi(Login(str(kubeconfig))) as api:
        with pytest.raises(Transient) as later:
            await api.get(NAMESPACES, "", "default")
    assert (later.value.status, later.value.reason) == (401, "Unauthorized")


async def test_a_token_that_was_rotated_is_used_at_once_after_a_401(
    server: localcluster.Cluster, tmp_path: Path
) -> None:
    kubeconfig = with_token_file(server, tmp_path)
    (tmp_path / "token").write_text("outdated\n")
    async with HttpApi(Login(str(kubeconfig))) as api:
        server.kubectl("create", "serviceaccount", "rotated")
        (tmp_path / "token").write_text(server.kubectl("create", "token", "rotated").stdout)
        answers = await asyncio.gather(*(api.get(NAMESPACES, "", "default") for _ in range(8)), return_exceptions=True)
    # It is authenticated now; that it has no rights is another matter. Write bodies go twice unharmed:
    assert {getattr(answer, "status", None) for answer in answers} == {403}


async def test_a_body_survives_the_second_try_after_a_401(
    api: HttpApi, shop: str, server: localcluster.Cluster, tmp_path: Path
) -> None:
    kubeconfig = with_token_file(server, tmp_path)
    (tmp_path / "token").write_text("outdated")
    async with HttpApi(Login(str(kubeconfig))) as rotating:
        server.kubectl("create", "serviceaccount", "writer", f"--namespace={shop}")
        here = f"--namespace={shop}"
        server.kubectl("create", "role", "writer", here, "--verb=create", "--resource=configmaps")
        server.kubectl("create", "rolebinding", "writer", here, "--role=writer", f"--serviceaccount={shop}:writer")
        token = server.kubectl("create", "token", "writer", f"--namespace={shop}").stdout
        (tmp_path / "token").write_text(token)
        made = await rotating.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "a", data={"x": "ü"}))
    assert made["data"] == {"x": "ü"}


def with_token_file(server: localcluster.Cluster, folder: Path) -> Path:
    """Return a kubeconfig whose token is in the file `token` next to it."""
    path = folder / "kubeconfig"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.server, "certificate-authority": str(server.ca_file)}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path


async def test_a_server_that_does_not_answer_is_for_later(server: localcluster.Cluster, shop: str) -> None:
    async with HttpApi(Login(str(server.kubeconfig)), timeout=0.5) as api:
        await api.get(NAMESPACES, "", shop)
        server.pause("kube-apiserver")
        try:
            with pytest.raises(Transient, match=f"get namespaces {shop}: no answer within 0.5 s") as later:
                await api.get(NAMESPACES, "", shop)
        finally:
            server.resume("kube-apiserver")
        assert later.value.status is None
        await api.get(NAMESPACES, "", shop)


async def test_closing_ends_requests_with_later(server: localcluster.Cluster) -> None:
    api = HttpApi(Login(str(server.kubeconfig)), timeout=1)
    await api.start()
    await api.get(NAMESPACES, "", "default")
    server.pause("kube-apiserver")
    try:
        waiting = asyncio.create_task(api.get(NAMESPACES, "", "default"))
        await asyncio.sleep(0.1)
        await api.close()
        with pytest.raises(Transient):
            await asyncio.wait_for(waiting, 3)
        with pytest.raises(Transient, match="not open"):
            await api.get(NAMESPACES, "", "default")
    finally:
        server.resume("kube-apiserver")


async def test_a_server_that_is_not_there_is_for_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kubeconfig = tmp_path / "kubeconfig"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(json.dumps(config))
    async with HttpApi(Login(str(kubeconfig))) as api:
        with pytest.raises(Transient, match="get namespaces default: Cannot connect"):
            await api.get(NAMESPACES, "", "default")


async def test_the_servers_warnings_are_in_the_debug_log(
    api: HttpApi, shop: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sidecarpolicy")
    await api.create(DEPLOYMENTS, shop, a_deployment(env=[{"name": "A", "value": "1"}, {"name": "A"}]))
    assert any("hides previous definition" in message for message in caplog.messages)


async def test_every_request_tells_who_asks(api: HttpApi, shop: str, server: localcluster.Cluster) -> None:
    await api.create(CONFIG_MAPS, shop, an(CONFIG_MAPS, "signed"))
    assert server.audit_log is not None
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in server.audit_log.read_text().splitlines() if shop in line]
        for line in lines:
            if line.get("verb") == "create" and f"/{shop}/configmaps" in line["requestURI"]:
                assert line["userAgent"] == "sidecarpolicy/0.1.0"
                assert "fieldManager=sidecar-policy" in line["requestURI"]
                assert "fieldValidation=Strict" in line["requestURI"]
                return
        await asyncio.sleep(0.1)
    raise AssertionError("the request is not in the audit log")
