"""What owners work with, each as it is really used: kubectl, Helm, Flux and Argo CD.

A tool writes an application as Git has it, and tells what it would change if it were asked again.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sidecarpolicy import names
from tests.builders import Manifest, a_deployment
from tests.fleet import Fleet
from tests.gitops.programs import Server, program

NAME = "cart"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The owner's application as Git has it: a Deployment of one container, with init containers of its own."""

    image: str = "1"
    inits: tuple[str, ...] = ("migrate",)
    env: tuple[str, ...] = ()
    volume: bool = False
    container: str = "app"
    replicas: int | None = 1
    kept_out: bool = False
    """Whether its owner keeps sidecars out."""

    def manifest(self, namespace: str) -> Manifest:
        """The Deployment."""
        container: Manifest = {"name": self.container, "image": f"example.test/app:{self.image}"}
        pod: Manifest = {"containers": [container]}
        if self.inits:
            pod["initContainers"] = [{"name": each, "image": f"example.test/own-{each}:1"} for each in self.inits]
        if self.env:
            container["env"] = [{"name": each, "value": "1"} for each in self.env]
        if self.volume:
            container["volumeMounts"] = [{"name": "cache", "mountPath": "/cache"}]
            pod["volumes"] = [{"name": "cache", "emptyDir": {}}]
        found = a_deployment(NAME, namespace, labels={names.INJECT: "false"} if self.kept_out else {}, pod=pod)
        del found["metadata"]["annotations"]
        if self.replicas is None:
            del found["spec"]["replicas"]
        else:
            found["spec"]["replicas"] = self.replicas
        return found


class Refused(Exception):
    """What a tool said when it could not."""


class Tool(Protocol):
    """What an owner writes with."""

    def write(self, app: App) -> None:
        """Bring the cluster to what *app* is; raise Refused."""

    def differences(self, app: App) -> str:
        """What it would change if it were asked again; empty: nothing."""

    def delete(self) -> None:
        """Take the application away, as it is done with this tool."""


@dataclass(slots=True)
class Kubectl:
    """`kubectl apply`, or `replace` with *replaces*; *flags* are for apply and diff."""

    fleet: Fleet
    flags: tuple[str, ...] = ()
    replaces: bool = False
    _created: bool = False

    def write(self, app: App) -> None:
        """Apply, or create and replace."""
        verb = ("apply", *self.flags)
        if self.replaces:
            verb = ("replace" if self._created else "create",)
        self._kubectl(app, *verb)
        self._created = True

    def differences(self, app: App) -> str:
        """`kubectl diff`."""
        done = self.fleet.kubectl("diff", *self.flags, "--filename=-", input=self._text(app), check=False)
        return f"{done.stdout}{done.stderr}" if done.returncode else ""

    def delete(self) -> None:
        """`kubectl delete`."""
        self.fleet.kubectl("delete", "deployment", NAME)

    def _text(self, app: App) -> str:
        return json.dumps(app.manifest(self.fleet.namespace))

    def _kubectl(self, app: App, *arguments: str) -> None:
        done = self.fleet.kubectl(*arguments, "--filename=-", input=self._text(app), check=False)
        if done.returncode:
            raise Refused(done.stderr)


@dataclass(slots=True)
class Helm:
    """A release of a chart whose only template is the Deployment."""

    fleet: Fleet
    command: Path
    flags: tuple[str, ...] = ()
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="helm-")))

    def __post_init__(self) -> None:
        """Write the chart."""
        (self.home / "chart/templates").mkdir(parents=True)
        (self.home / "chart/Chart.yaml").write_text("apiVersion: v2\nname: cart\nversion: 1.0.0\n")
        (self.home / "chart/templates/deployment.yaml").write_text("{{ toYaml .Values.deployment }}\n")

    def write(self, app: App) -> None:
        """`helm upgrade --install`."""
        values = self.home / "values.json"
        values.write_text(json.dumps({"deployment": app.manifest(self.fleet.namespace)}))
        installed = (self.home / "installed").exists()
        verb = ("upgrade", *self.flags) if installed else ("install", *self._at_install())
        self.helm(*verb, NAME, str(self.home / "chart"), f"--values={values}")
        (self.home / "installed").touch()

    def differences(self, app: App) -> str:
        """The same upgrade once more: a Deployment of a newer generation is a difference.

        Where Helm replaces it does so every time.
        """
        if any("force" in each for each in self.flags):
            return ""
        before = self.fleet.deployment()
        self.write(app)
        after = self.fleet.deployment()
        same = before["metadata"]["generation"] == after["metadata"]["generation"]
        return "" if same else f"{before['spec']}\n{after['spec']}"

    def delete(self) -> None:
        """`helm uninstall`."""
        self.helm("uninstall", NAME)

    def rollback(self) -> None:
        """`helm rollback`, to the release before."""
        self.helm("rollback", NAME)

    def helm(self, *arguments: str) -> None:
        """Run it; raise Refused."""
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= {f"HELM_{each}_HOME": str(self.home / each.lower()) for each in ("CACHE", "CONFIG", "DATA")}
        where = (f"--kubeconfig={self.fleet.cluster.kubeconfig}", f"--namespace={self.fleet.namespace}")
        done = subprocess.run(
            [self.command, *arguments, *where],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Refused(done.stderr)

    def _at_install(self) -> tuple[str, ...]:
        return tuple(each for each in self.flags if "server-side" in each)


@dataclass(slots=True)
class Flux:
    """Flux's kustomize-controller."""

    fleet: Fleet
    server: Server

    def write(self, app: App) -> None:
        """Reconcile."""
        self._ask("/apply", app)

    def differences(self, app: App) -> str:
        """What Flux calls drift."""
        changes = self._ask("/diff", app)
        return "".join(f"{name} {action}\n" for name, action in changes.items() if action != "unchanged")

    def delete(self) -> None:
        """Reconcile after it has gone from Git: the inventory still has it."""
        self._ask("/prune", App())

    def _ask(self, path: str, app: App) -> dict[str, str]:
        found = self.server.ask(path, [app.manifest(self.fleet.namespace)])
        if found["error"]:
            raise Refused(found["error"])
        changes: dict[str, str] = found["changes"]
        return changes


@dataclass(slots=True)
class Argo:
    """Argo CD; *options* are sync options, as the server in `engine/` names them."""

    fleet: Fleet
    server: Server
    options: Mapping[str, bool] = field(default_factory=dict)

    def write(self, app: App) -> None:
        """Sync."""
        self._sync([app.manifest(self.fleet.namespace)])

    def differences(self, app: App) -> str:
        """What is OutOfSync by Argo CD's own comparison, and by the one that asks the API server."""
        objects = [app.manifest(self.fleet.namespace)]
        return "".join(self._compare(objects, server_side=each) for each in (False, True))

    def delete(self) -> None:
        """Sync after it has gone from Git, with pruning."""
        self._sync([], prune=True)

    def _compare(self, objects: list[Manifest], *, server_side: bool) -> str:
        found = self.server.ask("/diff", objects, namespace=self.fleet.namespace, serverSide=server_side)
        if found["error"]:
            raise Refused(found["error"])
        return f"{found['outOfSync']} (server-side: {server_side})\n{found['message']}" if found["outOfSync"] else ""

    def _sync(self, objects: list[Manifest], **options: bool) -> None:
        found = self.server.ask("/sync", objects, namespace=self.fleet.namespace, **{**self.options, **options})
        if found["error"] or found["phase"] not in ("Succeeded", "Running"):
            raise Refused(f"{found['phase']}: {found['message']}{found['error']}")


Servers = Mapping[str, Server]
"""The programs that are running, by their names in `programs`."""

Make = Callable[[Fleet, Servers], Tool]

CLIENT_SIDE, SERVER_SIDE, KUBECTL = "`kubectl apply`", "`kubectl apply --server-side`", "`kubectl`"
HELM, HELM_CLIENT_SIDE, HELM_FORCE = "Helm 4", "Helm 4 `--server-side=false`", "Helm 4 `--force-replace`"
HELM_3, HELM_3_FORCE = "Helm 3", "Helm 3 `--force`"
FLUX, ARGO = "Flux", "Argo CD"
ARGO_SERVER_SIDE, ARGO_REPLACE = "Argo CD `ServerSideApply=true`", "Argo CD `Replace=true`"
CONTROLLERS = "controllers"

_CLIENT = "--server-side=false"


def _helm(name: str, *flags: str) -> Make:
    return lambda fleet, _: Helm(fleet, program(name), flags)


TOOLS: Mapping[str, Make] = {
    CLIENT_SIDE: lambda fleet, _: Kubectl(fleet),
    SERVER_SIDE: lambda fleet, _: Kubectl(fleet, ("--server-side",)),
    KUBECTL: lambda fleet, _: Kubectl(fleet),
    "`kubectl replace`": lambda fleet, _: Kubectl(fleet, replaces=True),
    HELM: _helm("helm"),
    HELM_CLIENT_SIDE: _helm("helm", _CLIENT),
    HELM_FORCE: _helm("helm", "--force-replace", _CLIENT),
    HELM_3: _helm("helm3"),
    HELM_3_FORCE: _helm("helm3", "--force"),
    FLUX: lambda fleet, servers: Flux(fleet, servers["ssa"]),
    ARGO: lambda fleet, servers: Argo(fleet, servers["engine"]),
    ARGO_SERVER_SIDE: lambda fleet, servers: Argo(fleet, servers["engine"], {"serverSide": True}),
    ARGO_REPLACE: lambda fleet, servers: Argo(fleet, servers["engine"], {"replace": True}),
    CONTROLLERS: lambda fleet, _: Kubectl(fleet),
}

PROGRAMS: Mapping[str, str] = {
    HELM: "helm",
    HELM_CLIENT_SIDE: "helm",
    HELM_FORCE: "helm",
    HELM_3: "helm3",
    HELM_3_FORCE: "helm3",
    FLUX: "ssa",
    ARGO: "engine",
    ARGO_SERVER_SIDE: "engine",
    ARGO_REPLACE: "engine",
}
"""What a tool is made of, besides kubectl. A first build takes minutes: only what is played with is built."""
