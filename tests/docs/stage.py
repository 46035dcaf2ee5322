"""Where the commands of a page are run: a folder, a cluster of its own, and what their reader has by then."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import localcluster
from localcluster import binaries
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.docs.blocks import ROOT, Command
from tests.fleet import Fleet
from tests.polling import poll
from tests.running import Operator

SHOP = "shop"
SYSTEM = "sidecarpolicy-system"
ACCOUNT = "sidecarpolicy"
_SECONDS = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command went. *code*: None where it was interrupted, for each program has its own for that."""

    code: int | None
    output: str


@dataclass(slots=True, kw_only=True)
class Shell:
    """A reader's shell. *words* are put in for what the page cannot know: a Pod's name, a registry."""

    folder: Path
    words: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of the reader's shell."""
        programs = binaries.require(["kubectl", "helm"])
        path = [str(Path(sys.executable).parent), *(str(each.parent) for each in programs.values())]
        bare = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        return bare | {
            "PATH": os.pathsep.join([*path, os.environ["PATH"]]),
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "KUBERC": "off",
            "SIDECARPOLICY_RUN_HEALTH_PROBE_BIND_ADDRESS": "0",
            "SIDECARPOLICY_RUN_METRICS_BIND_ADDRESS": "0",
        }

    def prepare(self, *, checkout: bool = True) -> None:
        """Lay out the folder; with *checkout* what is in the repository is in it."""
        (self.folder / ".config/fish/completions").mkdir(parents=True)
        if checkout:
            (ROOT / "dist").mkdir(exist_ok=True)
            for each in ROOT.iterdir():
                if each.name != ".git":
                    (self.folder / each.name).symlink_to(each)

    def write(self, path: str, text: str) -> None:
        """Write a file into the folder."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def run(self, command: Command, *, until: str = "", answers: str = "") -> Ran:
        """Run *command* as its page writes it, and answer what it asks; interrupt it when its output says *until*."""
        text = command.text
        for word, meant in self.words.items():
            text = text.replace(word, meant)
        log = self.folder / ".output"
        shell = ["bash", "-o", "pipefail", "-c", text]
        (self.folder / ".input").write_text(answers)
        with (
            log.open("wb") as output,
            (self.folder / ".input").open("rb") as typed,
            subprocess.Popen(
                shell,
                cwd=self.folder,
                env=self.environment,
                stdin=typed,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as running,
        ):
            try:
                if until:
                    poll(lambda: self._seen(log), until=lambda seen: re.search(until, seen), timeout=_SECONDS)
                    os.killpg(running.pid, signal.SIGINT)
                code = running.wait(_SECONDS)
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)
        return Ran(code=None if until else code, output=log.read_text())

    def _seen(self, log: Path) -> str:
        """What the command has written so far, into a file that its page names too."""
        files = [log, *self.folder.glob("*.yaml")]
        return "\n".join(each.read_text() for each in files)


@dataclass(slots=True, kw_only=True)
class Stage(Shell):
    """A reader's shell beside a cluster."""

    cluster: localcluster.Cluster
    operators: list[Operator] = field(default_factory=list)

    @property
    def fleet(self) -> Fleet:
        """What is in namespace shop."""
        return Fleet(self.cluster, SHOP)

    def prepare(self, *, checkout: bool = True) -> None:
        """Lay out the folder, with a kubeconfig for the cluster."""
        Shell.prepare(self, checkout=checkout)
        shutil.copy(self.cluster.kubeconfig, self.folder / "kubeconfig")

    def stand_in(self, namespace: str) -> None:
        """Make *namespace* that of the reader's context."""
        own = f"--kubeconfig={self.folder / 'kubeconfig'}"
        self.cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}", own)

    # What a reader has by then

    def install(self) -> None:
        """The kinds and the rights."""
        self.cluster.kubectl("apply", "--kustomize", str(ROOT / "crds"))
        self.cluster.await_definitions()
        self.cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy/base/access"))

    def operate(self, *arguments: str) -> None:
        """An operator that leads, as the account that it was installed with."""
        token = poll(lambda: self.cluster.kubectl("create", "token", ACCOUNT, f"--namespace={SYSTEM}").stdout.strip())
        config = json.loads(self.cluster.kubectl("config", "view", "--raw", "--output=json").stdout)
        config["users"][0]["user"] = {"token": token}
        (self.folder / "operator.kubeconfig").write_text(json.dumps(config))
        (self.folder / "operator.kubeconfig").chmod(0o600)
        operator = Operator(self.folder / "operator.kubeconfig", *arguments)
        self.operators.append(operator)
        operator.start()

    def end(self) -> None:
        """No operator runs any more."""
        while self.operators:
            self.operators.pop().stop()

    def shop(self) -> None:
        """A namespace shop, and in it three Deployments that the policy web has given a proxy."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}}
        self.fleet.cluster.kubectl("apply", "--filename=-", input=json.dumps(namespace))
        self.fleet.apply(*(a_deployment(name, SHOP) for name in ("cart", "invoice", "stock")), a_proxy("v1.36"))
        self.fleet.wait("RolloutComplete")

    def edit(self, tag: str, reason: str, **container: object) -> None:
        """Another image in the policy web, until its status says *reason*."""
        self.fleet.apply(a_proxy(tag, **container))
        self.fleet.wait(reason)

    def fail(self) -> None:
        """A revision of the policy web that no node has room for: rolled back, and halted."""
        self.edit("v1.37", "RolledBack", resources={"requests": {"cpu": "100000"}})


def a_proxy(tag: str, **container: object) -> Manifest:
    """The policy web of namespace shop."""
    sidecar = a_sidecar(role="Proxy", container={"image": f"envoyproxy/envoy:{tag}"} | container)
    return a_policy("web", SHOP, sidecars=[sidecar], rollout={"minReadySeconds": 0, "progressDeadlineSeconds": 5})


Deed = Callable[[Stage], None]
