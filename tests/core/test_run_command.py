"""What `sidecarpolicy run` takes and what it makes of it; nothing is started."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
from collections.abc import Coroutine
from typing import Any

import pytest
from click.testing import CliRunner

from sidecarpolicy.cli import run as module
from sidecarpolicy.cli.run import run
from sidecarpolicy.handlers.process import OperatorSettings
from sidecarpolicy.handlers.serving import Answer, CannotListen, Server, host_and_port, probes


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[OperatorSettings]:
    """What the operator would be started with."""
    found: list[OperatorSettings] = []

    async def nothing() -> None:
        pass

    def operate(with_these: OperatorSettings) -> Coroutine[Any, Any, None]:
        found.append(with_these)
        return nothing()

    monkeypatch.setattr(module, "operate", operate)
    for name in list(os.environ):
        if name.startswith("SIDECARPOLICY_RUN") or name == "POD_NAMESPACE":
            monkeypatch.delenv(name)
    return found


def test_without_a_flag_everything_is_as_it_is_documented(settings: list[OperatorSettings]) -> None:
    result = CliRunner().invoke(run, [])
    assert result.exit_code == 0, result.output
    assert settings == [OperatorSettings()]


def test_a_namespace_alone_is_not_taken_for_one_of_two() -> None:
    result = CliRunner().invoke(run, ["--namespace=shop"])
    assert result.exit_code == 2
    assert "No such option" in result.output
    assert "--watch-namespace" in result.output


def test_namespaces_are_named_one_by_one_by_a_list_or_by_a_variable(
    settings: list[OperatorSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["--watch-namespace=shop", "--watch-namespace", "bank"], ["--watch-namespace=shop,bank,shop"]):
        assert CliRunner().invoke(run, arguments).exit_code == 0
    monkeypatch.setenv("SIDECARPOLICY_RUN_WATCH_NAMESPACE", "shop,bank")
    assert CliRunner().invoke(run, []).exit_code == 0
    assert settings == 3 * [OperatorSettings(watch_namespace=("bank", "shop"))]


@pytest.mark.parametrize(
    "argument",
    [
        *(
            f"{flag}={value}"
            for flag in ("--sync-period", "--revert-window-seconds")
            for value in ("nan", "inf", "1e300")
        ),
        "--lease-seconds=3000000000",
    ],
)
def test_a_period_that_no_clock_can_wait_for_is_refused(settings: list[OperatorSettings], argument: str) -> None:
    """With a window of `nan` no two reverts come together, and with a Lease of 95 years nobody ever follows."""
    result = CliRunner().invoke(run, [argument])
    assert result.exit_code == 2
    assert argument.partition("=")[0] in result.output
    assert settings == []


@pytest.mark.parametrize("flag", ["--health-probe-bind-address", "--metrics-bind-address"])
@pytest.mark.parametrize("value", ["8080", "localhost", "localhost:http", ":99999"])
def test_an_ill_address_is_refused(settings: list[OperatorSettings], flag: str, value: str) -> None:
    result = CliRunner().invoke(run, [f"{flag}={value}"])
    assert result.exit_code == 2
    assert f"'{value}' is not host:port" in result.output
    assert settings == []


@pytest.mark.parametrize(
    ("address", "parted"),
    [
        (":8081", (None, 8081)),
        ("0.0.0.0:8081", ("0.0.0.0", 8081)),
        ("[::1]:8081", ("::1", 8081)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses_are_spelt_as_everywhere(address: str, parted: tuple[str | None, int]) -> None:
    assert host_and_port(address) == parted


async def test_probes_and_metrics_may_share_an_address() -> None:
    problems = ["initial list not finished: deployments.apps"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(
        (f"127.0.0.1:{port}", probes(lambda: problems)),
        (f"127.0.0.1:{port}", {"/metrics": lambda: Answer(text="sidecarpolicy_leader 1\n")}),
        ("0", {"/nowhere": lambda: Answer(text="")}),
    )
    await server.start()

    def ask(path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()

    assert await asyncio.to_thread(ask, "/livez") == (200, "ok\n")
    assert await asyncio.to_thread(ask, "/healthz") == (200, "ok\n")
    assert await asyncio.to_thread(ask, "/readyz") == (503, "initial list not finished: deployments.apps\n")
    assert await asyncio.to_thread(ask, "/metrics") == (200, "sidecarpolicy_leader 1\n")
    assert (await asyncio.to_thread(ask, "/nowhere"))[0] == 404
    problems.clear()
    assert await asyncio.to_thread(ask, "/readyz") == (200, "ok\n")
    with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}"):
        await Server((f"127.0.0.1:{port}", {})).start()
    await server.close()
