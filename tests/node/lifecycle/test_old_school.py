"""Manifests with old-school sidecars, as they are and as `sidecarpolicy migrate` makes them: both on a real kubelet.

The manifests of `old_school/` work as they are written: what held their sidecars together is really there. The same
application then runs twice, in two namespaces, with the same images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pykube
import pytest
import yaml

import localcluster
from localcluster import binaries, images
from tests.builders import Manifest
from tests.node.lifecycle.records import Record
from tests.node.lifecycle.stage import Stage, a_stage
from tests.polling import poll

pytestmark = pytest.mark.long

MANIFESTS = Path(__file__).parent / "old_school"
MIGRATE = (str(Path(sys.executable).with_name("sidecarpolicy")), "migrate")
DISGUISES = ("cloudsql-docker/gce-proxy", "envoyproxy/envoy", "fluent/fluent-bit")
"""Images of sidecars that migrate knows. Each is the witness, also under the name of the program in it."""
PROGRAMS = ("cloud_sql_proxy", "envoy", "fluent-bit")
ENOUGH = 10
"""Calls after which an application that runs for ever has shown that it works."""
PATIENCE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A manifest, and what is special about it."""

    name: str
    """That of its file and of its workload."""
    ends: bool = False
    """Whether the work ends by itself: a Job's."""
    order: str = "proxy.listening < app.start < app.exit < proxy.TERM < proxy.exit"
    """The law of a native sidecar's Pod."""
    lacks: frozenset[str] = field(default_factory=frozenset)
    """What the old way has not: an answer to the first call or to the last, or an end of the Job."""


CASES = (
    Case(name="nc"),
    Case(name="wget"),
    Case(name="drain"),
    Case(name="quit", ends=True),
    Case(name="kill", ends=True),
    Case(name="endless", ends=True, lacks=frozenset({"first call", "end"})),
    Case(name="sentinel", ends=True),
    Case(name="hold", lacks=frozenset({"last call"})),
    Case(name="hook", lacks=frozenset({"first call", "last call"})),
    Case(
        name="chain",
        order="proxy.listening < logger.start < logger.listening < app.start < app.exit"
        " < logger.TERM < logger.exit < proxy.TERM < proxy.exit",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The whole life of the one Pod of a manifest, and whether its Job has completed (of others: always)."""

    record: Record
    completed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """The lives of every manifest, by name: as it is written, and migrated."""

    old: dict[str, Life]
    native: dict[str, Life]


@pytest.fixture(scope="module")
def lives(
    lifecycle_node: localcluster.Cluster, node_api: pykube.HTTPClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lives]:
    """All of them, both ways, at the same time."""
    witness = binaries.require(["witness"])["witness"]
    for image, program in zip(DISGUISES, PROGRAMS, strict=True):
        files = {"/usr/bin/witness": witness, f"/usr/bin/{program}": witness}
        name = f"sidecarpolicy.local/{image}:1"
        lifecycle_node.load_image(images.image_archive(name, files, [f"/usr/bin/{program}"], with_busybox=True))
    with ExitStack() as stack:
        old, native = (
            stack.enter_context(a_stage(lifecycle_node, node_api, way, tmp_path_factory.mktemp(way)))
            for way in ("old", "native")
        )
        for case in CASES:
            begin(old, text_of(case))
            begin(native, migrated(case))
        for case in CASES:
            for stage in (native, old):
                poll(partial(works, stage, case), timeout=PATIENCE)
        for stage in (old, native):
            living = [f"{kind_of(case).lower()}/{case.name}" for case in CASES if not case.ends]
            stage.kubectl("delete", *living, "--cascade=foreground", "--wait", f"--timeout={PATIENCE:g}s")
        for case in CASES:
            if case.ends:
                poll(partial(is_completed, native, case), timeout=PATIENCE)
                if "end" not in case.lacks:
                    poll(partial(is_completed, old, case), timeout=PATIENCE)
        yield Lives(old=lives_on(old), native=lives_on(native))


def text_of(case: Case) -> str:
    """The manifest as it is written."""
    return (MANIFESTS / f"{case.name}.yaml").read_text()


def kind_of(case: Case) -> str:
    """The kind of its workload."""
    kind: str = yaml.safe_load(text_of(case))["kind"]
    return kind


def migrated(case: Case) -> str:
    """The manifest as the command makes it."""
    file = str(MANIFESTS / f"{case.name}.yaml")
    return subprocess.run([*MIGRATE, file], capture_output=True, text=True, check=True).stdout


def begin(stage: Stage, text: str) -> None:
    """Create what *text* is, and the Job of a CronJob."""
    stage.kubectl("create", "--filename=-", input=text)
    body: Manifest = yaml.safe_load(text)
    if body["kind"] == "CronJob":
        name = body["metadata"]["name"]
        stage.kubectl("create", "job", name, f"--from=cronjob/{name}")


def works(stage: Stage, case: Case) -> bool:
    """Whether its application has ended, or shown that it works."""
    found = stage.records(case.name)
    assert len(found) == 1, f"{case.name}: {len(found)} Pods have recorded something"
    (record,) = found
    answered = [call for call in record.calls if call not in record.failed]
    return bool(record.find("app.exit")) if case.ends else len(answered) >= ENOUGH


def is_completed(stage: Stage, case: Case) -> bool:
    """Whether the Job has completed; true of what is none."""
    if not case.ends:
        return True
    conditions = stage.get(f"jobs/{case.name}", version="batch/v1")["status"].get("conditions", [])
    return any((each["type"], each["status"]) == ("Complete", "True") for each in conditions)


def lives_on(stage: Stage) -> dict[str, Life]:
    """What has become of every manifest there."""
    return {
        case.name: Life(record=record, completed=is_completed(stage, case))
        for case in CASES
        for record in stage.records(case.name)
    }


def story(record: Record) -> list[tuple[str, str]]:
    """What the application does and what is done to it, but for its calls."""
    return [(each.what, each.detail) for each in record.events if each.container == "app" and not each.is_call]


def lacking(life: Life) -> frozenset[str]:
    """What a life has not."""
    calls, failed = life.record.calls, life.record.failed
    found: dict[str, Callable[[], bool]] = {
        "first call": lambda: bool(calls) and calls[0] in failed,
        "last call": lambda: bool(calls) and calls[-1] in failed,
        "end": lambda: not life.completed,
    }
    return frozenset(name for name, is_so in found.items() if is_so())


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_the_old_way_does_what_its_author_meant_and_no_more(case: Case, lives: Lives) -> None:
    life = lives.old[case.name]
    assert lacking(life) == case.lacks, life.record
    assert case.lacks or not life.record.failed, life.record


@each_case
def test_the_migrated_application_lives_as_it_did(case: Case, lives: Lives) -> None:
    old, native = lives.old[case.name], lives.native[case.name]
    assert story(native.record) == story(old.record)
    assert native.completed


@each_case
def test_its_sidecar_is_up_before_it_and_ends_after_it_and_no_call_fails(case: Case, lives: Lives) -> None:
    record = lives.native[case.name].record
    assert record.told(case.order), record
    assert record.failed == (), record
    assert not record.find("proxy.start#2"), record


@each_case
def test_nothing_is_left_of_what_held_the_old_sidecar_together(case: Case) -> None:
    text = json.dumps(yaml.safe_load(migrated(case)))
    assert '"restartPolicy": "Always"' in text
    for word in ("until ", "while ", "trap ", "kill ", "quitquitquit", "preStop", "postStart", "shareProcessNamespace"):
        assert word not in text, text
