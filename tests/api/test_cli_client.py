"""What the command line sends and takes over HTTP, with a real API server at the other end.

Where something has to go wrong on the way, our proxy is before it. What was asked is told by the audit log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pykube
import pytest

import localcluster
from sidecarpolicy import names
from sidecarpolicy.cli.cluster import Cluster
from sidecarpolicy.engine.port import Conflict, Rejected, Transient
from sidecarpolicy.engine.resources import NAMESPACES, REPLICA_SETS
from tests import kube
from tests.audit import Audit, Request, credential_of
from tests.builders import Manifest, a_deployment
from tests.chaos.proxy import Proxy
from tests.conftest import kubeconfig_of
from tests.polling import poll

ACCOUNT, GROUP = "clerk", "ops"
SETS = [f"web-{number}" for number in range(10)]
COMPRESSED = 128 * 1024
"""Bytes from which on the API server compresses its answers. (KEP-156, APIResponseCompression)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A namespace with ten ReplicaSets; an account and a group may do everything in it, and nothing elsewhere."""

    namespace: str
    kubeconfig: Path
    """The account's."""
    cluster: localcluster.Cluster

    def audit(self) -> Audit:
        """What the account asks from now on."""
        return Audit.begin(self.cluster, f"system:serviceaccount:{self.namespace}:{ACCOUNT}")


@pytest.fixture(scope="module")
def shop(
    cluster: localcluster.Cluster, api: pykube.HTTPClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with kube.a_namespace(api, "cli-client") as namespace:
        things = [*rights(namespace), *map(a_replica_set, SETS)]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": things})
        cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=text)
        kubeconfig = kubeconfig_of(ACCOUNT, cluster, tmp_path_factory.mktemp(ACCOUNT), namespace=namespace)
        poll(lambda: may_read(str(kubeconfig), namespace))
        yield Shop(namespace=namespace, kubeconfig=kubeconfig, cluster=cluster)


def rights(namespace: str) -> Iterator[Manifest]:
    """The account, and what it and the group may do."""
    rbac = "rbac.authorization.k8s.io"
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
    yield {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [
            {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace},
            {"apiGroup": rbac, "kind": "Group", "name": GROUP},
        ],
    }


def a_replica_set(name: str) -> Manifest:
    """Without Pods, and so large that a list of ten is compressed, and one of four is not."""
    metadata = {"name": name, "annotations": {"note": "x" * (COMPRESSED // 8)}}
    spec = a_deployment(name, replicas=0)["spec"]
    return {"apiVersion": REPLICA_SETS.api_version, "kind": REPLICA_SETS.kind, "metadata": metadata, "spec": spec}


def may_read(kubeconfig: str, namespace: str) -> bool:
    """Whether the API server knows of the rights already."""
    try:
        return bool(Cluster(kubeconfig).get(NAMESPACES, "", namespace))
    except Rejected:
        return False


@pytest.fixture
def proxy(shop: Shop) -> Iterator[Proxy]:
    """On the way to the API server, and not in it yet."""
    assert shop.cluster.ca_file is not None
    with Proxy(shop.cluster.server, shop.cluster.ca_file) as running:
        yield running


@pytest.fixture
def through(shop: Shop, proxy: Proxy, tmp_path: Path) -> str:
    """The account's kubeconfig, for the way through the proxy."""
    return str(proxy.kubeconfig(shop.kubeconfig, tmp_path))


def asked(audit: Audit, count: int) -> list[Request]:
    """What has been asked, in that order, when *count* requests or more are known of."""
    found = poll(audit.requests, until=lambda seen: len(seen) >= count)
    return sorted(found, key=lambda each: each.at)


def query_of(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.uri).query)


def names_of(objects: list[Manifest]) -> list[str]:
    return [each["metadata"]["name"] for each in objects]


def test_a_list_is_read_to_its_last_page_over_one_connection(
    shop: Shop, proxy: Proxy, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, audit = Cluster(through), shop.audit()
    whole = client.list(REPLICA_SETS, client.namespace)
    monkeypatch.setattr("sidecarpolicy.cli.cluster.PAGE", 4)
    in_pages = client.list(REPLICA_SETS, client.namespace)
    expected = [("apps/v1", "ReplicaSet", name) for name in SETS]
    for found in (whole, in_pages):
        assert [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in found] == expected
    requests = asked(audit, 1 + 3)
    assert requests[0].uri == f"/apis/apps/v1/namespaces/{shop.namespace}/replicasets?limit=500"
    assert [query_of(each)["limit"] for each in requests[1:]] == [["4"]] * 3
    token = json.loads(shop.kubeconfig.read_text())["users"][0]["user"]["token"]
    assert {each.credential for each in requests} == {credential_of(token)}
    assert proxy.log.connections == 1


def test_what_the_server_compresses_is_read(proxy: Proxy, through: str) -> None:
    client = Cluster(through)
    found = client.list(REPLICA_SETS, client.namespace)
    assert len(json.dumps(found)) > COMPRESSED
    assert {each["metadata"]["annotations"]["note"] for each in found} == {"x" * (COMPRESSED // 8)}
    assert proxy.log.size < COMPRESSED / 2


def test_a_large_collection_is_asked_for_page_by_page_as_it_is_used(shop: Shop) -> None:
    client, audit = Cluster(str(shop.kubeconfig)), shop.audit()
    found = client.each(REPLICA_SETS, shop.namespace, page=4)
    first = [next(found) for _ in range(4)]
    client.get(NAMESPACES, "", shop.namespace)
    assert names_of([*first, *found]) == SETS
    requests = asked(audit, 4)
    assert [each.verb for each in requests] == ["list", "get", "list", "list"], "a page is asked for when it is needed"
    begin, second, third = (query_of(each) for each in requests if each.verb == "list")
    assert "continue" not in begin
    assert second["continue"] != third["continue"]
    assert begin["limit"] == second["limit"] == third["limit"] == ["4"]


def test_a_collection_that_changed_for_too_long_is_read_again_and_nothing_comes_twice(
    shop: Shop, tmp_path: Path
) -> None:
    assert shop.cluster.ca_file is not None
    # Of the requests that go on, these chances forget the first and the third: after one page, and after two.
    with Proxy(shop.cluster.server, shop.cluster.ca_file, seed=3) as forgetful:
        forgetful.faults.gone = 0.5
        client, audit = Cluster(str(forgetful.kubeconfig(shop.kubeconfig, tmp_path))), shop.audit()
        assert names_of(list(client.each(REPLICA_SETS, shop.namespace, page=4))) == SETS
        assert forgetful.log.done["answered 410"] == 2
    # The proxy answers 410 by itself: these are the others.
    goes_on = ["continue" in query_of(each) for each in asked(audit, 1 + 2 + 3)]
    assert goes_on == [False, False, True, False, True, True]


def test_of_a_list_no_more_is_read_than_was_asked_for(shop: Shop) -> None:
    client, audit = Cluster(str(shop.kubeconfig)), shop.audit()
    assert names_of([*client.list(REPLICA_SETS, shop.namespace, most=3)]) == SETS[:3]
    client.get(NAMESPACES, "", shop.namespace)
    requests = asked(audit, 2)
    assert [each.verb for each in requests] == ["list", "get"]
    assert query_of(requests[0])["limit"] == ["3"]


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(shop: Shop, proxy: Proxy, through: str) -> None:
    client = Cluster(through)
    for _ in range(3):
        assert client.get(NAMESPACES, "", shop.namespace)["metadata"]["name"] == shop.namespace
        proxy.cut()
    assert proxy.log.connections == 3


def test_several_answers_are_waited_for_at_once(shop: Shop, proxy: Proxy, through: str) -> None:
    client = Cluster(through)
    proxy.faults.silent = True
    answers = [client.soon(client.get, NAMESPACES, "", shop.namespace) for _ in range(4)]
    poll(lambda: proxy.log.connections == 4)  # nothing has been answered
    proxy.faults.clear()
    assert names_of([answer() for answer in answers]) == [shop.namespace] * 4


def test_an_answer_that_takes_too_long_is_none(shop: Shop, proxy: Proxy, through: str) -> None:
    client = Cluster(through, timeout=1)
    client.get(NAMESPACES, "", shop.namespace)
    proxy.faults.silent = True
    with pytest.raises(Transient, match=f"get namespaces {shop.namespace}: no answer within 1 s"):
        client.get(NAMESPACES, "", shop.namespace)
    with pytest.raises(Transient, match=r"no answer within 0\.2 s"):  # not even a connection comes up
        Cluster(through, timeout=0.2).get(NAMESPACES, "", shop.namespace)


def test_a_write_says_who_writes_for_whom_and_whether_it_counts(shop: Shop) -> None:
    kubeconfig, name = str(shop.cluster.kubeconfig), SETS[0]
    stale = Cluster(kubeconfig).get(REPLICA_SETS, shop.namespace, name)["metadata"]["resourceVersion"]
    Cluster(kubeconfig).merge_patch(REPLICA_SETS, shop.namespace, name, {"metadata": {"labels": {"turn": "1"}}})
    audit = Audit.begin(shop.cluster, "admin")
    client = Cluster(kubeconfig, dry_run=True, user="eve", groups=("dev", GROUP))
    with pytest.raises(Conflict, match="the object has been modified"):
        client.merge_patch(REPLICA_SETS, shop.namespace, name, {"metadata": {"resourceVersion": stale}})
    # A strategic merge would keep the other container.
    template = {"spec": {"containers": [{"name": "other", "image": "example.test/other:1"}]}}
    made = client.merge_patch(REPLICA_SETS, shop.namespace, name, {"spec": {"template": template}})
    assert [each["name"] for each in made["spec"]["template"]["spec"]["containers"]] == ["other"]
    assert names.CLI_FIELD_MANAGER in {each["manager"] for each in made["metadata"]["managedFields"]}
    kept = Cluster(kubeconfig).get(REPLICA_SETS, shop.namespace, name)
    assert [each["name"] for each in kept["spec"]["template"]["spec"]["containers"]] == ["app"]

    def of_eve() -> list[Request]:
        return [each for each in audit.requests() if each.acts_as == "eve"]

    requests = poll(of_eve, until=lambda seen: len(seen) == 2)
    assert [(each.verb, each.code) for each in requests] == [("patch", 409), ("patch", 200)]
    for each in requests:
        assert query_of(each) == {
            "fieldManager": [names.CLI_FIELD_MANAGER],
            "fieldValidation": ["Strict"],
            "dryRun": ["All"],
        }
        assert each.groups >= {"dev", GROUP}


def test_a_proxy_is_asked_for_the_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "127.0.0.1:1")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = Cluster(str(shop.kubeconfig))
    with pytest.raises(Transient, match="Connection refused"):
        client.get(NAMESPACES, "", shop.namespace)
    monkeypatch.setenv("no_proxy", str(urlsplit(client.server).hostname))
    assert client.get(NAMESPACES, "", shop.namespace)["kind"] == "Namespace"
