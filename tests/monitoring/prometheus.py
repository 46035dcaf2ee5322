"""Prometheus itself, built from source like the programs of a local cluster: `promtool`, and a server to scrape with.

Its pins are in `prometheus/`. Service discovery of clouds and the pages of its own are left out.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import yaml

from localcluster import binaries
from tests.polling import poll
from tests.webhook import free_port

MODULE = "github.com/prometheus/prometheus"
HERE = Path(__file__).parent


SOURCE = binaries.Source(
    name="prometheus",
    module=MODULE,
    packages={name: f"{MODULE}/cmd/{name}" for name in ("prometheus", "promtool")},
    tags=("remove_all_sd",),
    minutes=4,
    place=HERE / "prometheus",
)


@cache
def program(name: str) -> Path:
    """Return where `prometheus` or `promtool` is, after building both if need be."""
    return binaries.require(SOURCE.packages, (SOURCE,))[name]


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return what it printed; raise AssertionError with that if it finds fault."""
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    return said


class Prometheus:
    """A server in *folder* that scrapes every second and evaluates *rules* as often."""

    def __init__(self, folder: Path, rules: Path, jobs: Sequence[Mapping[str, Any]]) -> None:
        every_second = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = {"global": every_second, "rule_files": [str(rules)], "scrape_configs": list(jobs)}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._folder, self._address = folder, f"127.0.0.1:{free_port()}"
        self._log = folder / "prometheus.log"

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the `data` of an answer of its HTTP API; raise AssertionError with its words where it is an error."""
        answer = json.loads(self._get(f"/api/v1/{path}?{urlencode(parameters)}"))
        assert answer["status"] == "success", f"{path} {parameters}: {answer}"
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the result of a PromQL expression, now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return "is Ready" in self._get("/-/ready")
        except OSError:
            return False

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={self._folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self._address}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            poll(self._is_ready, timeout=60)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
