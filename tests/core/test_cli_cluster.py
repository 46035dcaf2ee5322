"""What the command line sends and takes over HTTP, against a real server on this machine."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from sidecarpolicy.cli.cluster import Cluster
from sidecarpolicy.engine.port import Conflict, Transient
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, REPLICA_SETS

PAGES = [{"items": [{"metadata": {"name": f"cart-{number}"}}], "metadata": {}} for number in range(2)]


class Answering(BaseHTTPRequestHandler):
    """Answers as the paths say; remembers what it was asked, and over how many connections."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, dict[str, str]]]
    connections: int
    forgets: int = 0  # how often it does not know any more how a collection was

    def setup(self) -> None:
        type(self).connections += 1
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Be quiet."""

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        self.asked.append((self.command, self.path, dict(self.headers)))
        if path.endswith("/slow"):
            time.sleep(1)
        if path.endswith("/replicasets"):
            self._say(*self._page(query.get("continue", ["0"])[0], int(query["limit"][0])))
            return
        page = PAGES[1] if "continue" in query else PAGES[0] | {"metadata": {"continue": "more"}}
        self._say(200, page if path.endswith("/deployments") else {"kind": "Namespace", "metadata": {"name": "x"}})
        if path.endswith("/closing"):  # without a word, as a load balancer does
            self.close_connection = True

    def _page(self, token: str, limit: int) -> tuple[int, object]:
        """One page of ten objects."""
        if token != "0" and type(self).forgets:
            type(self).forgets -= 1
            return 410, {"kind": "Status", "reason": "Expired", "message": "the continue parameter is too old"}
        begin = int(token)
        items = [{"metadata": {"name": f"web-{number}"}} for number in range(begin, min(10, begin + limit))]
        more = {"continue": str(begin + limit)} if begin + limit < 10 else {}
        return 200, {"items": items, "metadata": more}

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.command, self.path, dict(self.headers)))
        self._say(409, {"kind": "Status", "reason": "Conflict", "message": "changed"})

    def _say(self, status: int, body: object) -> None:
        data = gzip.compress(json.dumps(body).encode())
        self.send_response(status)
        for header, value in (("Content-Encoding", "gzip"), ("Content-Length", str(len(data)))):
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[tuple[str, type[Answering]]]:
    """Its address, and what it remembers."""
    remembers = type("Remembers", (Answering,), {"asked": [], "connections": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), remembers) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", remembers
        running.shutdown()


@pytest.fixture
def kubeconfig(server: tuple[str, type[Answering]], tmp_path: Path) -> str:
    path = tmp_path / "config"
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": {"server": server[0]}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


def test_a_list_is_read_to_its_last_page_over_one_connection(
    server: tuple[str, type[Answering]], kubeconfig: str
) -> None:
    cluster = Cluster(kubeconfig)
    found = cluster.list(DEPLOYMENTS, cluster.namespace)
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [
        ("Deployment", "cart-0"),
        ("Deployment", "cart-1"),
    ]
    _, remembers = server
    assert remembers.connections == 1
    assert remembers.asked[0][1] == "/apis/apps/v1/namespaces/shop/deployments?limit=500"
    assert remembers.asked[0][2]["Authorization"] == "Bearer t"


def test_a_large_collection_is_asked_for_page_by_page_as_it_is_used(
    server: tuple[str, type[Answering]], kubeconfig: str
) -> None:
    _, remembers = server
    found = Cluster(kubeconfig).each(REPLICA_SETS, "shop", page=4)
    assert [next(found)["metadata"]["name"] for _ in range(4)] == [f"web-{number}" for number in range(4)]
    assert len(remembers.asked) == 1, "the second page is not asked for before it is needed"
    assert [each["metadata"]["name"] for each in found] == [f"web-{number}" for number in range(4, 10)]
    asked = [parse_qs(urlsplit(path).query) for _, path, _ in remembers.asked]
    assert [each.get("continue") for each in asked] == [None, ["4"], ["8"]]
    assert {each["limit"][0] for each in asked} == {"4"}


def test_a_collection_that_changed_for_too_long_is_read_again_and_nothing_comes_twice(
    server: tuple[str, type[Answering]], kubeconfig: str
) -> None:
    _, remembers = server
    remembers.forgets = 2
    found = [each["metadata"]["name"] for each in Cluster(kubeconfig).each(REPLICA_SETS, "shop", page=4)]
    assert found == [f"web-{number}" for number in range(10)]
    assert len(remembers.asked) == 3 + 2 * 2


def test_of_a_list_no_more_is_read_than_was_asked_for(server: tuple[str, type[Answering]], kubeconfig: str) -> None:
    assert len(Cluster(kubeconfig).list(REPLICA_SETS, "shop", most=3)) == 3
    assert len(server[1].asked) == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(
    server: tuple[str, type[Answering]], kubeconfig: str
) -> None:
    cluster = Cluster(kubeconfig)
    for _ in range(3):
        assert cluster.get(NAMESPACES, "", "closing")["metadata"]["name"] == "x"
    assert server[1].connections == 3


def test_several_answers_are_waited_for_at_once(kubeconfig: str) -> None:
    cluster = Cluster(kubeconfig)
    began = time.monotonic()
    answers = [cluster.soon(cluster.get, NAMESPACES, "", "slow") for _ in range(4)]
    assert len([answer() for answer in answers]) == 4
    assert time.monotonic() - began < 3.5


def test_an_answer_that_takes_too_long_is_none(kubeconfig: str) -> None:
    with pytest.raises(Transient, match=r"no answer within 0\.2 s"):
        Cluster(kubeconfig, timeout=0.2).get(NAMESPACES, "", "slow")


def test_a_write_says_who_writes_for_whom_and_whether_it_counts(
    server: tuple[str, type[Answering]], kubeconfig: str
) -> None:
    cluster = Cluster(kubeconfig, dry_run=True, user="eve", groups=("dev", "ops"))
    with pytest.raises(Conflict, match="changed"):
        cluster.merge_patch(NAMESPACES, "", "shop", {"metadata": {}})
    ((method, path, headers),) = server[1].asked
    assert method == "PATCH"
    assert parse_qs(urlsplit(path).query) == {
        "fieldManager": ["sidecarpolicy-cli"],
        "fieldValidation": ["Strict"],
        "dryRun": ["All"],
    }
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert headers["Impersonate-User"] == "eve"
    assert headers["Impersonate-Group"] in ("dev", "ops")  # both were sent; a dict keeps one


def test_a_proxy_is_asked_for_the_way(
    server: tuple[str, type[Answering]], kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "127.0.0.1:1")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Transient, match="Connection refused"):
        Cluster(kubeconfig).get(NAMESPACES, "", "x")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert Cluster(kubeconfig).get(NAMESPACES, "", "x")["kind"] == "Namespace"
