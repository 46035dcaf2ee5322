"""The owners' tools as programs: Helm 3, and the libraries of Flux and Argo CD in a server each (`ssa/`, `engine/`).

They are built once into the cache, like the programs of a local cluster; Helm 4 is one of those.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from localcluster import binaries

HERE = Path(__file__).parent
SERVED = ("ssa", "engine")
"""Those that answer as long as they run."""


SOURCES = (
    binaries.Source(
        name="helm3",
        module="helm.sh/helm/v3",
        packages={"helm3": "helm.sh/helm/v3/cmd/helm"},
        variables=lambda version: {"helm.sh/helm/v3/internal/version.version": version},
        minutes=2,
        place=HERE / "helm3",
    ),
    *(
        binaries.OwnSource(
            name=name,
            module=f"sidecarpolicy.local/{name}",
            packages={name: f"sidecarpolicy.local/{name}"},
            minutes=2,
            place=HERE / name,
        )
        for name in SERVED
    ),
)


@cache
def program(name: str) -> Path:
    """Return where a program is, after building it if need be."""
    return binaries.require([name], (*binaries.SOURCES, *SOURCES))[name]


class Server:
    """One of the Go programs here: it serves HTTP on 127.0.0.1 until its standard input ends."""

    def __init__(self, name: str, kubeconfig: Path) -> None:
        self._name, self._command = name, program(name)
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def ask(self, path: str, objects: Sequence[Any], **options: Any) -> dict[str, Any]:
        """Return what it answers about *objects*."""
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.request("POST", path, json.dumps({"objects": objects, **options}))
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._command],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._address = self._process.stdout.readline().strip()
        if not self._address:
            raise RuntimeError(f"{self._name} has ended with {self._process.wait()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
