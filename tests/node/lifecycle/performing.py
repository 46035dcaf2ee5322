"""Performs scenarios: creates the Pod, does what is to be done, and waits until everything promised is true."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import assert_never

from tests.builders import Manifest
from tests.node.lifecycle.records import Record
from tests.node.lifecycle.scenarios import Action, Delete, PatchImage, Scenario
from tests.node.lifecycle.stage import OTHER_IMAGE, Stage
from tests.node.lifecycle.watching import PodWatch
from tests.node.pods import container, is_ready
from tests.polling import poll

PATIENCE = 120.0


def perform(stage: Stage, watch: PodWatch, scenario: Scenario) -> None:
    """Run *scenario* to its end.

    :raises AssertionError: with what is not as promised, and what happened instead.
    """
    stage.kubectl("create", "--filename=-", input=json.dumps(scenario.pod()))
    try:
        poll(partial(_not_told, stage.record, scenario), until=lambda missing: not missing, timeout=PATIENCE)
        began = time.monotonic_ns()
        for action in scenario.do:
            act(stage, scenario, action)
        poll(partial(broken_promises, stage, watch, scenario), until=lambda broken: not broken, timeout=PATIENCE)
        record = stage.record(scenario.name)
        happened = [place for place in scenario.never if record.find(place)]
        assert not happened, f"{happened} must never happen\n{record}"
        if scenario.within:
            ended = next(
                sight.at for sight in watch.history(scenario.name) if not list(_running(sight.pod)) and sight.at > began
            )
            assert ended - began < scenario.within * 1e9, record
    finally:
        end(stage, scenario.name)


def act(stage: Stage, scenario: Scenario, action: Action) -> None:
    """Do one thing to the Pod."""
    match action:
        case Delete(grace=grace):
            chosen = [] if grace is None else [f"--grace-period={grace}"]
            stage.kubectl("delete", "pod", scenario.name, "--wait=false", *chosen)
        case PatchImage(container=name):
            pod = stage.get(f"pods/{scenario.name}")
            number = [each["name"] for each in pod["spec"]["initContainers"]].index(name)
            patch = [{"op": "replace", "path": f"/spec/initContainers/{number}/image", "value": OTHER_IMAGE}]
            stage.kubectl("patch", "pod", scenario.name, "--type=json", f"--patch={json.dumps(patch)}")
        case _:
            assert_never(action)


def end(stage: Stage, name: str) -> None:
    """Remove a Pod at once, whatever it does."""
    nothing = json.dumps([{"op": "remove", "path": "/metadata/finalizers"}])
    stage.kubectl("patch", "pod", name, "--type=json", f"--patch={nothing}", check=False)
    stage.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false", "--ignore-not-found", check=False)


def broken_promises(stage: Stage, watch: PodWatch, scenario: Scenario) -> list[str]:
    """What is not (yet) as promised, in sentences."""
    record, pod = stage.record(scenario.name), watch.now(scenario.name)
    if not pod:
        return ["no Pod was seen"]
    broken = [f"not shown: {law}" for law in scenario.laws if not record.told(law)]
    broken += _about_the_pod(pod, scenario)
    for name, count in scenario.restarts.items():
        if (seen := container(pod, name).get("restartCount")) != count:
            broken.append(f"{name} restarted {seen} times, not {count}")
    for name, count in scenario.at_least.items():
        if (seen := container(pod, name).get("restartCount", 0)) < count:
            broken.append(f"{name} restarted {seen} times, fewer than {count}")
    for name, code in scenario.exits.items():
        seen = container(pod, name).get("state", {}).get("terminated", {}).get("exitCode")
        if seen != code:
            broken.append(f"{name} ended with {seen}, not {code}")
    for name, image in scenario.images.items():
        if not container(pod, name).get("image", "").endswith(image):
            broken.append(f"{name} runs {container(pod, name).get('image')}, not {image}")
    for name, reason in scenario.waiting.items():
        if container(pod, name).get("state", {}).get("waiting", {}).get("reason") != reason:
            broken.append(f"{name} does not wait for {reason}")
    return [*broken, str(record)] if broken else []


def _about_the_pod(pod: Manifest, scenario: Scenario) -> Iterator[str]:
    if scenario.phase and pod["status"].get("phase") != scenario.phase:
        yield f"phase is {pod['status'].get('phase')}, not {scenario.phase}"
    if scenario.ready is not None and is_ready(pod) != scenario.ready:
        yield f"ready is {not scenario.ready}"
    if scenario.within and (running := list(_running(pod))):
        yield f"still running: {running}"


def _running(pod: Manifest) -> Iterator[str]:
    status = pod.get("status", {})
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        if "running" in each["state"]:
            yield each["name"]


def _not_told(record_of: Callable[[str], Record], scenario: Scenario) -> list[str]:
    record: Record = record_of(scenario.name)
    return [law for law in scenario.when if not record.told(law)]
