"""README.md from top to bottom, on a machine that has Python and make and nothing else.

Everything is fetched and made there: Debian packages, uv, the environment, the operator's image; what is built from Go
only where this machine has not built it already, from the same pins (newcomer.py). `make demo` has a real node, and so
has the reader's own cluster, with the image on it: the operator that the page installs runs. What it is given does not,
since there is no registry to fetch nginx and the sidecars from: those Pods are on simulated nodes.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from localcluster.errors import UnsupportedError
from localcluster.node_configs import SOCKET
from tests.docs.blocks import ROOT, Command, blocks, commands, spans
from tests.docs.newcomer import BUILT, Machine, Terminal, with_the_node
from tests.docs.scenes import POLICIES as WRITTEN
from tests.docs.scenes import policy_files

README: Final = "README.md"
PROGRAM: Final = "(?:make|helm|kubectl|sidecarpolicy|source|docker|git|cd|export|pip|uv)"
"""What a command of the page may begin with."""
FEW: Final = "tests/core/test_selection.py tests/api/test_kube_lease.py"
"""Of `make test`: a file without and a file with an API server. All of it takes half an hour."""
EXCUSED: Final[Mapping[str, str]] = {
    "kubectl apply": "names what owners use, in a sentence: it applies nothing",
}
"""What is not typed, and why."""
PATIENCE: Final = 600.0
"""Seconds to wait for the machine's one real node."""
OTHERS: Final = 300.0
"""Seconds for each command that is not the page's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is special about a command.

    *before*, *after*: what else is typed, and must succeed. *typed*: what is typed in its place. *code*: its exit code.
    *says*: a pattern in what it prints. *until*: a pattern at which its reader ends it. *seconds*: how long it has.
    *takes_node*, *gives_node*: from here on, and until here, this machine's one real node is there.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    typed: str = ""
    code: int = 0
    says: str = ""
    until: str = ""
    takes_node: bool = False
    gives_node: bool = False
    seconds: float = 180


LOAD: Final = f"ctr --address={SOCKET} --namespace=k8s.io images import dist/sidecarpolicy-image.tar"
REGISTRY: Final = "registry.example.test"
CLUSTER: Final = (
    "make chart >/dev/null",  # builds Helm if it is not there
    f"ln -s {BUILT}/kubernetes-*/kubectl {BUILT}/helm-*/helm /usr/local/bin/",
    "make cluster-up CLUSTER=readme NODE=yes KWOK=3 | tee /root/up",
    "eval $(grep 'export KUBECONFIG=' /root/up)",
    f"make image NAME={REGISTRY}/sidecarpolicy:0.1.0 && {LOAD}",
    f"make image && {LOAD}",
)
"""The reader's own cluster, where the image can be had under both names, and the programs that it is used with."""
SIMULATED: Final = ("kubectl cordon localhost", "kubectl taint nodes --selector=type=kwok kwok.x-k8s.io/node-")
"""From here on Pods go to simulated nodes."""
(SHOWN,) = (block.text.splitlines()[0] for block in blocks(README) if not block.language)
"""The columns that the page shows."""
INSTALLED: Final = "kubectl wait deployments --all -n sidecarpolicy-system --for=condition=Available --timeout=90s"
STEPS: Final[Mapping[str, Step]] = {
    "make": Step(says="Usage: make TARGET"),
    "make demo": Step(takes_node=True, gives_node=True, says=r"\d+ promises held, in", seconds=3600),
    "make test": Step(typed=f"PYTEST_ADDOPTS='{FEW}' make test", says=r"=== \d+ passed in", seconds=900),
    "make image": Step(says=r"whole .*, compressed +[123]\d\.\d MB", seconds=900),
    "helm install sidecarpolicy deploy/chart --namespace sidecarpolicy-system --create-namespace "
    "--set image.registry=REGISTRY": Step(takes_node=True, before=CLUSTER, says="STATUS: deployed", after=(INSTALLED,)),
    "kubectl apply -k deploy/": Step(  # the other way to the same
        before=("kubectl delete -k deploy/ --ignore-not-found --timeout=90s",), after=(INSTALLED, *SIMULATED)
    ),
    "kubectl get sidecarpolicies --watch": Step(
        until=r"statsd +True +RolloutComplete +1 +1 +1 +0 +0",
        says=" +".join(SHOWN.split()),
        after=(
            "[[ $(kubectl get deployment hello -o jsonpath='{..initContainers[*].name}') == statsd ]]",
            "kubectl rollout status deployment hello --timeout=60s",
            "[[ $(kubectl get pods -l app=hello | tee /dev/stderr | grep -c ' 2/2 ') == 2 ]]",
        ),
    ),
    "kubectl delete sidecarpolicy statsd": Step(
        after=("[[ -z $(kubectl get deployment hello -o jsonpath='{..initContainers}') ]]",)
    ),
    "sidecarpolicy diff -p policies/ apps/": Step(code=1, says=r"\+ +initContainers:"),
    "sidecarpolicy lint apps/": Step(says="1 workload: nothing found"),
    "sidecarpolicy status web -n shop --watch": Step(
        before=("kubectl create namespace shop", "kubectl create -f apps/ -f policies/"), says="RolloutComplete"
    ),
    "sidecarpolicy check": Step(
        says=r"√ Kubernetes v.* has native sidecars(?s:.*)\n\d+ ok\n$",
        after=("make cluster-down CLUSTER=readme",),
        gives_node=True,
    ),
}


def page() -> list[Command]:
    """The commands of the page, in its blocks and in its sentences, from top to bottom."""
    return sorted((*commands(README), *spans(README)), key=lambda command: command.line)


def script(command: Command, step: Step) -> str:
    """What is typed for *command*."""
    typed = (step.typed or command.text).replace("REGISTRY", REGISTRY)
    if not step.until:
        return typed
    return (
        f"{typed} >/root/said 2>&1 & said=$!; until grep -qE '{step.until}' /root/said; do kill -0 $said || break; "
        "sleep 0.2; done; cat /root/said; kill $said"
    )


def also(terminal: Terminal, command: Command, texts: tuple[str, ...]) -> None:
    """Type what belongs to *command*."""
    for text in texts:
        ran = terminal.run(text, timeout=OTHERS)
        assert ran.code == 0, f"beside {command.place}: {ran}"


def walk(terminal: Terminal, command: Command, step: Step) -> float:
    """Type *command* and what belongs to it, see that it goes as its reader may expect, and return its seconds."""
    also(terminal, command, step.before)
    ran = terminal.run(script(command, step), timeout=step.seconds)
    assert ran.code == step.code, f"{command.place}: {ran}"
    assert re.search(step.says or step.until, ran.output), f"{command.place}: {ran}"
    also(terminal, command, step.after)
    return ran.seconds


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine that has never seen the project, with the files that the page's reader writes."""
    root = tmp_path / "machine"
    try:
        machine = Machine.make(root)
    except UnsupportedError as error:  # neither Debian nor Ubuntu
        pytest.skip(str(error))
    policies = [policy_files(block.text) for block in blocks(README) if block.language == "yaml"]
    for files in (WRITTEN, *policies):
        for path, text in files.items():
            machine.write(path, text)
    yield machine
    shutil.rmtree(root, ignore_errors=True)


def test_no_command_of_the_readme_is_overlooked() -> None:
    content = (ROOT / README).read_text(encoding="utf-8")
    lines = re.findall(rf"^{PROGRAM} .*$", content, re.MULTILINE)
    sentences = re.findall(rf"`({PROGRAM} [^`\n]+|make)`", content)
    found = {re.sub(r"\s+# .*", "", text) for text in (*lines, *sentences)}
    assert found == {command.text for command in page()}
    assert {block.language for block in blocks(README)} == {"sh", "yaml", ""}
    assert SHOWN.startswith("NAME     READY     STATUS")


def test_what_is_special_about_a_command_is_said_of_one_that_is_there() -> None:
    assert set(STEPS) | set(EXCUSED) <= {command.text for command in page()}
    assert not set(STEPS) & set(EXCUSED)


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="root makes the machine")
def test_the_readme_goes_from_top_to_bottom_where_nothing_was_before(
    machine: Machine, record_property: Callable[[str, object], None]
) -> None:
    seconds: dict[str, float] = {}
    began = time.monotonic()
    with ExitStack() as node, Terminal(machine) as terminal:
        for command in page():
            if command.text in EXCUSED:
                continue
            step = STEPS.get(command.text, Step())
            if step.takes_node:
                node.enter_context(with_the_node(machine.root, PATIENCE))
            seconds[command.text] = walk(terminal, command, step)
            if step.gives_node:
                node.close()
    assert set(seconds) | set(EXCUSED) == {command.text for command in page()}
    for text, each in seconds.items():
        if each > 2:
            record_property(f"seconds of `{text}`", round(each))
    record_property("seconds of the walk, without making the machine", round(time.monotonic() - began))
