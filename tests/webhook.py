"""Admission as its users run it: the shipped configurations, and a process of its own that they call on 127.0.0.1."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

import localcluster
from tests.polling import poll

BASE = Path(__file__).parent.parent / "deploy/base/admission"
CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
NAME = "sidecarpolicy"
SECRET = "sidecarpolicy-webhook-certificate"
SYSTEM = "sidecarpolicy-system"
NAMESPACE_NAME = "kubernetes.io/metadata.name"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def configurations(port: int, namespace: str, label: str = NAMESPACE_NAME) -> list[dict[str, Any]]:
    """The shipped configurations, for webhooks at *port* of 127.0.0.1 and for Deployments of one *namespace*.

    With a *label*: of those namespaces that bear it with the value *namespace*.
    """
    found = list(yaml.safe_load_all((BASE / "configurations.yaml").read_text()))
    for each in found:
        for webhook in each["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}"}
            here = {"key": label, "operator": "In", "values": [namespace]}
            webhook.setdefault("namespaceSelector", {"matchExpressions": []})["matchExpressions"].append(here)
    return found


def grant(cluster: localcluster.Cluster) -> None:
    """Apply the rights."""
    cluster.kubectl("apply", "--filename", str(BASE / "access.yaml"))


def install(cluster: localcluster.Cluster, port: int, namespace: str, label: str = NAMESPACE_NAME) -> None:
    """Apply the Secret and the configurations; what needs a node is left out. The rest as for `configurations`."""
    cluster.kubectl("apply", "--filename", str(BASE / "certificate.yaml"))
    objects = {"apiVersion": "v1", "kind": "List", "items": configurations(port, namespace, label)}
    cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(objects))


def uninstall(cluster: localcluster.Cluster) -> None:
    """Take the configurations and the Secret away; the rights stay."""
    for kind in CONFIGURATIONS:
        cluster.kubectl("delete", kind, NAME, "--ignore-not-found")
    cluster.kubectl("delete", "secret", SECRET, f"--namespace={SYSTEM}", "--ignore-not-found")


class Webhook:
    """One `sidecarpolicy webhook` at *port*."""

    def __init__(self, kubeconfig: Path, port: int) -> None:
        self.port, self._probes, self.metrics_port = port, free_port(), free_port()
        self._command = [
            str(Path(sys.executable).with_name("sidecarpolicy")),
            "webhook",
            f"--kubeconfig={kubeconfig}",
            f"--webhook-bind-address=127.0.0.1:{port}",
            f"--health-probe-bind-address=127.0.0.1:{self._probes}",
            f"--metrics-bind-address=127.0.0.1:{self.metrics_port}",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(tempfile.mkstemp(prefix="webhook-", suffix=".log")[1])

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything it has printed since its last start."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.spawn()
        poll(self.readiness, until=lambda found: found == (200, "ok\n"), timeout=90)

    def spawn(self) -> None:
        """Start it and wait for nothing."""
        with self._log.open("wb") as log:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("SIDECARPOLICY_")}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def readiness(self) -> tuple[int, str]:
        """The status and text of /readyz; 0 where nobody answers."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the webhook has ended with {self._process.returncode}:\n{self.log}")
        return self._get(self._probes, "/readyz")

    def reviews(self, **labels: str) -> float:
        """How many reviews it has answered, with these labels."""
        status, text = self._get(self.metrics_port, "/metrics")
        assert status == 200
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "sidecarpolicy_webhook_reviews_total" and labels.items() <= sample.labels.items()
        )

    @staticmethod
    def _get(port: int, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 20) -> int:
        """Wait until it has ended; return its exit code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._process = None
        return code

    def stop(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End it and return its exit code."""
        if self._process is None:
            return 0
        self.send(how)
        return self.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.unlink(missing_ok=True)
