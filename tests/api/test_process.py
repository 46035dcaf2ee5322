"""The process around the engine: how it begins, what its probes say, and that it always ends."""

from __future__ import annotations

import functools
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import localcluster
from sidecarpolicy import names
from tests import polling
from tests.running import Operator

ROOT = Path(__file__).parents[2]
DEFINITIONS = [f"customresourcedefinition/{plural}.{names.GROUP}" for plural in names.PLURALS.values()]
NAMESPACE = "sidecarpolicy-system"

# Generous: a busy machine takes half a minute for a start alone.
poll = functools.partial(polling.poll, timeout=150)


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A control plane of its own, without our kinds: these tests stop it, and take the kinds away."""
    with localcluster.start(f"process-{os.getpid()}", controllers=False) as running:
        running.kubectl("create", "namespace", NAMESPACE)
        yield running


def install(server: localcluster.Cluster) -> None:
    server.kubectl("apply", "--filename", str(ROOT / "crds"))
    server.await_definitions()


def uninstall(server: localcluster.Cluster) -> None:
    server.kubectl("delete", "--ignore-not-found", *DEFINITIONS)


@pytest.fixture
def kinds(server: localcluster.Cluster) -> None:
    """Our kinds are installed."""
    install(server)


@pytest.fixture
def no_kinds(server: localcluster.Cluster) -> None:
    """They are not."""
    uninstall(server)


class Probed(Operator):
    """An operator whose probes are asked."""

    def __init__(self, server: localcluster.Cluster, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        super().__init__(server.kubeconfig, f"--health-probe-bind-address=127.0.0.1:{self.port}", *arguments)

    def ask(self, path: str) -> tuple[int, str]:
        """The status and the text of one of its pages; (0, "") while it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionError:
            return 0, ""
        finally:
            connection.close()

    def warned_of_kinds(self) -> int:
        """How many warnings say that a kind is not served."""
        return len([line for line in self.log.splitlines() if " WARNING " in line and "does not serve" in line])


@pytest.fixture
def process(server: localcluster.Cluster) -> Iterator[Probed]:
    """An operator that is not started yet."""
    running = Probed(server)
    yield running
    running.stop(signal.SIGKILL)


def holder(server: localcluster.Cluster) -> str:
    found = server.kubectl("get", "lease", names.CONTROLLER, f"--namespace={NAMESPACE}", "--output=json")
    return str(json.loads(found.stdout)["spec"].get("holderIdentity", ""))


@pytest.mark.usefixtures("no_kinds")
def test_started_before_its_kinds_it_waits_for_them_and_says_so(server: localcluster.Cluster, process: Probed) -> None:
    process.spawn()
    status, text = poll(lambda: process.ask("/readyz"), until=lambda answer: answer[1].count("does not serve") == 2)
    assert status == 503
    assert "the API server does not serve sidecarpolicies.sidecars.dev\n" in text
    assert process.ask("/livez") == (200, "ok\n")
    assert process.ask("/healthz") == (200, "ok\n")
    assert "GET /" not in process.log  # a line for each probe would be all that there is
    install(server)
    poll(lambda: process.ask("/readyz"), until=lambda answer: answer == (200, "ok\n"))
    poll(process._leads)
    assert process.warned_of_kinds() == 2  # one for each kind
    assert process.stop() == 0


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_kinds_that_go_away_are_waited_for_and_it_can_be_ended(
    server: localcluster.Cluster, process: Probed, how: signal.Signals
) -> None:
    process.start()
    poll(lambda: process.ask("/readyz")[0], until=lambda status: status == 200)
    uninstall(server)
    poll(lambda: process.ask("/readyz")[1], until=lambda text: text.count("does not serve") == 2)
    assert process.ask("/livez") == (200, "ok\n")
    assert "Traceback" not in process.log
    assert process.warned_of_kinds() == 2
    if how == signal.SIGTERM:
        install(server)
        poll(lambda: process.ask("/readyz"), until=lambda answer: answer == (200, "ok\n"))
    assert holder(server)
    assert process.stop(how) == 0
    assert holder(server) == ""
    assert "Traceback" not in process.log


@pytest.mark.usefixtures("kinds")
def test_an_end_says_who_asked_for_it_and_takes_no_pause(process: Probed) -> None:
    process.start()
    began = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - began < 4
    assert "SIGTERM: ending" in process.log


@pytest.mark.usefixtures("kinds")
def test_a_second_signal_ends_it_wherever_it_is(server: localcluster.Cluster, process: Probed) -> None:
    process.start()
    server.pause("kube-apiserver")  # so that the Lease cannot be released
    try:
        process.send(signal.SIGTERM)
        poll(lambda: "SIGTERM: ending" in process.log)
        assert process.code is None
        process.send(signal.SIGTERM)
        poll(lambda: process.code is not None, timeout=2)
    finally:
        server.resume("kube-apiserver")
    assert process.code == 128 + signal.SIGTERM
    assert "Traceback" not in process.log


@pytest.mark.usefixtures("kinds")
def test_while_the_server_does_not_answer_it_lives_and_is_not_ready(
    server: localcluster.Cluster, process: Probed
) -> None:
    server.pause("kube-apiserver")
    try:
        process.spawn()
        poll(lambda: process.ask("/livez"), until=lambda answer: answer == (200, "ok\n"))
        status, text = process.ask("/readyz")
        assert status == 503
        assert text.startswith("initial list not finished: ")
        assert "deployments.apps" in text
        poll(lambda: process.ask("/readyz")[1], until=lambda text: "no answer within" in text)
    finally:
        server.resume("kube-apiserver")
    poll(lambda: process.ask("/readyz"), until=lambda answer: answer == (200, "ok\n"))
    assert process.stop() == 0


@pytest.mark.usefixtures("kinds")
def test_it_ends_even_where_nothing_answers(server: localcluster.Cluster, process: Probed) -> None:
    process.start()
    server.pause("kube-apiserver")
    try:
        assert process.stop() == 0
    finally:
        server.resume("kube-apiserver")
    assert "Traceback" not in process.log


@pytest.mark.usefixtures("kinds")
def test_a_server_that_comes_later_is_waited_for(server: localcluster.Cluster, process: Probed, tmp_path: Path) -> None:
    """Kopf itself asks it what kinds there are, and must not give up either."""
    elsewhere = json.loads(server.kubectl("config", "view", "--raw", "--output=json").stdout)
    with socket.create_server(("127.0.0.1", 0)) as free:
        elsewhere["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "kubeconfig").write_text(json.dumps(elsewhere))
    process._command.append(f"--kubeconfig={tmp_path / 'kubeconfig'}")
    process.spawn()
    poll(lambda: process.ask("/readyz")[1], until=lambda text: "onnect" in text)
    assert process.code is None
    assert process.stop() == 0


@pytest.mark.usefixtures("kinds")
def test_a_taken_port_is_told_in_one_line(server: localcluster.Cluster, process: Probed) -> None:
    with socket.create_server(("127.0.0.1", process.port)):
        process.spawn()
        poll(lambda: process.code is not None)
    assert process.code == 1
    assert f"Error: cannot listen on 127.0.0.1:{process.port}: " in process.log
    assert "; --health-probe-bind-address names another address" in process.log
    assert "Traceback" not in process.log


@pytest.mark.usefixtures("kinds")
def test_the_lease_is_handed_over_within_the_shutdown(server: localcluster.Cluster, process: Probed) -> None:
    process.start()
    other = Probed(server)
    other.spawn()
    try:
        poll(lambda: other.ask("/readyz"), until=lambda answer: answer == (200, "ok\n"))
        assert "leading: looking at" not in other.log
        process.stop()
        poll(other._leads)
    finally:
        other.stop()
