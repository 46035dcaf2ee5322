"""What the story needs around it: a cluster, the images, and the operator.

On a real node the operator runs in the cluster, from this checkout's image and manifests. Where there is no node, or no
image can be made, it runs as a process of this machine, under its own ServiceAccount.

Everything that is started here is stopped when the stage is left, however that comes about.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import localcluster
from deploy.demo.screen import Screen
from deploy.image.build import build
from localcluster import images
from localcluster.errors import BuildError, UnsupportedError

ROOT = Path(__file__).parents[2]
HERE = Path("deploy/demo")
NAME = "demo"
SHOP = "shop"
SIMULATED_NODES = 3
_OPERATOR = "sidecarpolicy"
_OPERATOR_NAMESPACE = "sidecarpolicy-system"
_OPERATOR_PODS = "app.kubernetes.io/name=sidecarpolicy,app.kubernetes.io/component=operator"
_GRACE = 10.0


class Stage:
    """A running cluster; as a context manager it ends the operator and, unless *keep*, the cluster."""

    def __init__(self, *, node: bool, keep: bool, screen: Screen) -> None:
        self.node = node
        self.in_cluster = False
        """Whether the operator runs in the cluster: its image is on the node."""
        self._keep = keep
        self._screen = screen
        self._exits = ExitStack()
        self._operator: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.cluster = localcluster.start(NAME, node=self.node, simulated_nodes=0 if self.node else SIMULATED_NODES)
        if not self._keep:
            self._exits.callback(self.cluster.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave half of it running.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._exits.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def load_images(self) -> None:
        """Bring Caddy and the operator onto the node (busybox is there); first use makes both, which takes minutes."""
        for tag in (1, 2):
            self.cluster.load_image(images.caddy(tag))
        try:
            self.cluster.load_image(build().archive)
        except (BuildError, UnsupportedError) as error:
            self._screen.problem(f"No image of the operator: {error}")
            self._screen.problem("It runs as a process of this machine instead.")
        else:
            self.in_cluster = True

    def kubectl(self, *arguments: str, shown: bool = True, timeout: float = 120) -> str:
        """Run kubectl in the repository, show it and what it prints, and return that.

        :raises KubectlError: if it fails.
        """
        if shown:
            self._screen.command(f"kubectl {' '.join(arguments)}")
        absolute = [
            str(ROOT / each) if each == "deploy" or each.startswith(("crds", "deploy/")) else each for each in arguments
        ]
        said = self.cluster.kubectl(*absolute, timeout=timeout).stdout
        if shown:
            self._screen.text(said)
        return said

    def kubectl_process(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a kubectl that goes on by itself; its standard output is a pipe. It ends with the stage."""
        process = subprocess.Popen(
            [str(self.cluster.kubectl_path), f"--kubeconfig={self.cluster.kubeconfig}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        )
        self._exits.callback(_end, process)
        return process

    def start_operator(self) -> str:
        """Start the operator as a process of this machine, as its ServiceAccount; return the command."""
        self._write_kubeconfig()
        with self._log.open("wb") as log:
            self._operator = subprocess.Popen(
                [*self._operator_command(), "--health-probe-bind-address=0", "--metrics-bind-address=0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._exits.callback(_end, self._operator)
        return " ".join(["sidecarpolicy", *self._operator_command()[1:]])

    def how_to_use(self) -> list[str]:
        """Return the commands that make use of what *keep* leaves behind."""
        if self.in_cluster:
            return [
                f"export KUBECONFIG={self.cluster.kubeconfig} PATH={self.cluster.kubectl_path.parent}:$PATH",
                f"kubectl apply -f {HERE}/3-policy.yaml",
                f"kubectl get sidecarpolicies --namespace={SHOP} --watch",
                f"kubectl logs --namespace={_OPERATOR_NAMESPACE} --selector={_OPERATOR_PODS} --follow",
                f"make cluster-down CLUSTER={NAME}",
            ]
        return [
            "# the cluster and its Deployments; the operator has been stopped, and this runs it again:",
            f"export KUBECONFIG={self.cluster.kubeconfig} PATH={self.cluster.kubectl_path.parent}:$PATH",
            f"{' '.join(self._operator_command())} --health-probe-bind-address=0 --metrics-bind-address=0 &",
            f"kubectl apply -f {HERE}/3-policy.yaml",
            f"kubectl get sidecarpolicies --namespace={SHOP} --watch",
            f"# its last log: {self._log}",
            f"make cluster-down CLUSTER={NAME}",
        ]

    def operator_log(self, lines: int = 15) -> list[str]:
        """Return the operator's last lines, and that it has ended, if so."""
        if self.in_cluster:
            where = (f"--namespace={_OPERATOR_NAMESPACE}", f"--selector={_OPERATOR_PODS}")
            said = self.cluster.kubectl("logs", *where, f"--tail={lines}", "--prefix", check=False)
            return (said.stdout or said.stderr).splitlines()
        if self._operator is None:
            return ["(the operator was not started)"]
        with self._log.open(encoding="utf-8", errors="replace") as log:
            last = [line.rstrip("\n") for line in deque(log, maxlen=lines)]
        if (code := self._operator.poll()) is not None:
            last.append(f"(the operator has ended with exit code {code})")
        return last

    @property
    def _log(self) -> Path:
        return self.cluster.kubeconfig.with_name("operator.log")

    def _operator_command(self) -> list[str]:
        program = Path(sys.executable).parent / "sidecarpolicy"
        return [str(program), "run", f"--kubeconfig={self._operator_kubeconfig}"]

    @property
    def _operator_kubeconfig(self) -> Path:
        return self.cluster.kubeconfig.with_name("operator.kubeconfig")

    def _write_kubeconfig(self) -> None:
        """Write a kubeconfig that holds a token of the operator's ServiceAccount and nothing else."""
        token = self.cluster.kubectl(
            "create", "token", _OPERATOR, f"--namespace={_OPERATOR_NAMESPACE}", "--duration=24h"
        ).stdout.strip()
        user = {"cluster": NAME, "user": _OPERATOR, "namespace": _OPERATOR_NAMESPACE}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": NAME,
                    "cluster": {"server": self.cluster.server, "certificate-authority": str(self.cluster.ca_file)},
                }
            ],
            "users": [{"name": _OPERATOR, "user": {"token": token}}],
            "contexts": [{"name": NAME, "context": user}],
            "current-context": NAME,
        }
        path = self._operator_kubeconfig
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End *process*: ask it, and if it does not go, kill it."""
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
