"""Plays the rows of `coexistence` on a real API server and tells what it has seen.

Every version of every Deployment is seen, by one watch for all of them: a rollout is a change of the Pod template.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import pykube

import localcluster
from sidecarpolicy.core.tree import items
from tests import kube
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, init_names
from tests.gitops import tools
from tests.gitops.beside import WITH_ADMISSION
from tests.gitops.coexistence import Cell, Verdict
from tests.gitops.tools import NAME, App, Kubectl, Refused, Servers, Tool
from tests.polling import poll

PATIENCE = 90.0
TRIES = 3
SELDOM = 0.25
"""Many look at the same time."""
VARIABLE = {"name": "HTTP_PROXY", "value": "http://localhost:15001"}
MOUNT = {"name": "shared", "mountPath": "/shared"}
LITTLE = {"requests": {"cpu": "1m"}}
REFUSALS = {
    'conflict with "sidecar-policy"': Verdict.CONFLICT,
    'initContainers[0].volumeMounts[0].name: Not found: "shared"': Verdict.REFUSED,
}
"""What the API server says, in each case in which it refuses a write because of what is injected."""
MERGE = {"Content-Type": "application/merge-patch+json"}


def the_policy(namespace: str, image: str = "1") -> Manifest:
    """A policy with something in every list that a policy can change."""
    return a_policy(
        "web",
        namespace,
        rollout={"minReadySeconds": 0},
        sidecars=[
            a_sidecar(
                role="Proxy",
                container={"image": f"example.test/proxy:{image}", "volumeMounts": [MOUNT], "resources": LITTLE},
            ),
            a_sidecar("mon", role="Monitor", container={"resources": LITTLE}),
        ],
        volumes=[{"name": "shared", "emptyDir": {}}],
        application={"env": [VARIABLE], "volumeMounts": [MOUNT]},
    )


class Watch:
    """Every version of every Deployment of the cluster, by namespace, in the order of its writing."""

    def __init__(self, cluster: localcluster.Cluster) -> None:
        self._api = kube.client(cluster.kubeconfig)
        self._seen: dict[str, list[Manifest]] = defaultdict(list)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def of(self, namespace: str) -> list[Manifest]:
        """The versions so far."""
        return list(self._seen[namespace])

    def _watch(self) -> None:
        listed = kube.read(self._api, "deployments", version="apps/v1", namespace=None)
        since = listed["metadata"]["resourceVersion"]
        while not self._stopped.is_set():
            options = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "2"}
            answer = self._api.get(version="apps/v1", url="deployments", params=options, stream=True)
            self._api.raise_for_status(answer)
            for line in answer.iter_lines():
                found = json.loads(line)["object"]
                metadata = found["metadata"]
                since = metadata["resourceVersion"]
                self._seen[metadata["namespace"]].append(found)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of a cell: *said* is what the tool said where it could not; *differences* what it would do next."""

    verdict: Verdict
    rollouts: int
    differences: str = ""
    said: str = ""


@dataclass(slots=True, kw_only=True)
class Stage:
    """One namespace, its owner's tool and its policy."""

    fleet: Fleet
    tool: Tool
    image: str = "1"
    _edited: dict[str, Any] = field(default_factory=dict)

    @property
    def kubectl(self) -> Kubectl:
        """What somebody else works with."""
        return Kubectl(self.fleet)

    def settle(self, app: App) -> None:
        """Wait until the Deployment runs *app* with its sidecars, and the policy says so."""

        def is_settled() -> str:
            deployment = self.fleet.deployment()
            return self.wrong(deployment["spec"]["template"], app) or self._unfinished(deployment, app)

        try:
            poll(is_settled, until=lambda wrong: not wrong, timeout=PATIENCE, every=SELDOM)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.fleet.status())}") from None

    def wrong(self, template: Manifest, app: App | None = None) -> str:
        """What of ours is not in a template, or not in its place; and what of *app* is not."""
        if app is not None and app.kept_out:
            return "it has sidecars" if "proxy" in names_of(template) else ""
        return missing(template) or disorder(template) or self.outdated(template) or _other(template, app)

    def outdated(self, template: Manifest) -> str:
        """Which image the sidecar has, if it is not the policy's newest."""
        found = next(each for each in items(template["spec"], "initContainers") if each["name"] == "proxy")
        return "" if found["image"] == f"example.test/proxy:{self.image}" else f"the sidecar is {found['image']}"

    def _unfinished(self, deployment: Manifest, app: App) -> str:
        status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
        complete = (
            status.get("observedGeneration") == deployment["metadata"]["generation"]
            and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == replicas
            and status.get("replicas", 0) == replicas
        )
        if not complete:
            return f"not complete: {status}"
        policy = self.fleet.status()
        reasons = [each["reason"] for each in items(policy, "conditions") if each["type"] == "Ready"]
        wanted = "AllSkipped" if app.kept_out else "RolloutComplete"
        return "" if reasons == [wanted] and policy["targets"]["matched"] == 1 else f"the policy: {policy}"

    # What is done besides

    def edit_the_policy(self, image: str) -> None:
        """Give its first sidecar another image."""
        self.image = image
        write_policy(self.fleet, the_policy(self.fleet.namespace, image))

    def edit(self, script: str) -> None:
        """`kubectl edit` with sed as the editor."""
        cluster = self.fleet.cluster
        command = [
            str(cluster.kubectl_path),
            f"--kubeconfig={cluster.kubeconfig}",
            f"--namespace={self.fleet.namespace}",
        ]
        environment = {**os.environ, "KUBE_EDITOR": f"sed -i -e '{script}'"}
        done = subprocess.run(
            [*command, "edit", "deployment", NAME], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def differences(self, app: App) -> str:
        """What the tool would change; a status that is written while it looks is none."""
        found = ""
        for _ in range(TRIES):
            if not (found := self.tool.differences(app)):
                break
        return found

    def await_replicas(self, replicas: int) -> None:
        """Wait until so many are available."""
        self.fleet.wait_for(lambda found: found["status"].get("availableReplicas") == replicas, timeout=PATIENCE)

    def await_image(self, image: str) -> None:
        """Wait until the sidecar has it."""
        self.fleet.wait_for(lambda found: not self.outdated(found["spec"]["template"]), timeout=PATIENCE)

    @contextmanager
    def a_restless_controller(self) -> Iterator[None]:
        """Somebody who writes replicas and an annotation, twenty times a second and at least twenty times."""
        api, stopped, count = kube.client(self.fleet.cluster.kubeconfig), threading.Event(), 0
        where = {"version": "apps/v1", "namespace": self.fleet.namespace, "url": f"deployments/{NAME}"}

        def write() -> None:
            nonlocal count
            while count < 20 or not stopped.is_set():
                count += 1
                body = {
                    "metadata": {"annotations": {"example.test/looked": str(count)}},
                    "spec": {"replicas": 1 + count % 2},
                }
                answer = api.patch(**where, data=json.dumps(body), headers=MERGE, params={"fieldManager": "restless"})
                api.raise_for_status(answer)
                time.sleep(0.05)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def names_of(template: Manifest) -> list[str]:
    """The names of its init containers."""
    return [each["name"] for each in items(template["spec"], "initContainers")]


def missing(template: Manifest) -> str:
    """What of the policy's is not in a template."""
    spec = template["spec"]
    found = [f"init container {each}" for each in ("proxy", "mon") if each not in names_of(template)]
    found += [] if any(each["name"] == "shared" for each in items(spec, "volumes")) else ["the volume"]
    for container in spec["containers"]:
        found += [] if VARIABLE in items(container, "env") else ["the variable"]
        found += [] if any(each["name"] == "shared" for each in items(container, "volumeMounts")) else ["the mount"]
    return f"missing: {', '.join(found)}" if found else ""


def disorder(template: Manifest) -> str:
    """Where the sidecars are, if one is not in its place."""
    found = names_of(template)
    return "" if found[0] == "proxy" and found[-1] == "mon" else f"in the order {found}"


def _other(template: Manifest, app: App | None) -> str:
    """What is not as the owner wants it."""
    if app is None:
        return ""
    wanted = app.manifest("")["spec"]["template"]["spec"]
    for listed in ("initContainers", "containers"):
        own = [each for each in items(template["spec"], listed) if each["name"] not in ("proxy", "mon")]
        there = [(each["name"], each["image"]) for each in own]
        if there != [(each["name"], each["image"]) for each in wanted.get(listed, [])]:
            return f"the owner's {listed} are {there}"
    (container,) = template["spec"]["containers"]
    env = tuple(each["name"] for each in items(container, "env") if each != VARIABLE)
    volumes = [each["name"] for each in items(template["spec"], "volumes") if each["name"] != "shared"]
    if (env, volumes) != (app.env, ["cache"] * app.volume):
        return f"the owner's env and volumes are {env}, {volumes}"
    return ""


def write_policy(fleet: Fleet, policy: Manifest) -> None:
    """Create it, or bring it to this."""
    api = kube.client(fleet.cluster.kubeconfig)
    there = kube.SidecarPolicy.objects(api, namespace=fleet.namespace).get_or_none(name=policy["metadata"]["name"])
    if there is None:
        kube.create(api, policy)
    else:
        there.patch({"spec": policy["spec"]})


# Playing


def play(cell: Cell, cluster: localcluster.Cluster, servers: Servers, watch: Watch) -> Seen:
    """Play one cell in a namespace of its own."""
    api = kube.client(cluster.kubeconfig)
    with kube.a_namespace(api, "owner") as namespace:
        fleet = Fleet(cluster, namespace)
        if cell.admission:
            pykube.Namespace.objects(api).get(name=namespace).patch({"metadata": {"labels": {WITH_ADMISSION: "yes"}}})
        stage = Stage(fleet=fleet, tool=tools.TOOLS[cell.row.tool](fleet, servers))
        prepare(cell, stage, api)
        return _act(cell, stage, watch)


def prepare(cell: Cell, stage: Stage, api: pykube.HTTPClient) -> None:
    """The policy, known to admission too, and what is there before."""
    fleet = stage.fleet
    kube.create(api, the_policy(fleet.namespace))
    fleet.wait("NoTargets", timeout=PATIENCE)
    if cell.admission:
        probe = a_deployment("probe", fleet.namespace)
        poll(partial(kube.create, api, probe, dry_run=True), until=init_names, timeout=PATIENCE, every=SELDOM)
    for app in cell.row.before:
        stage.tool.write(app)
        stage.settle(app)
    if cell.row.at_first is not None:
        app_before = cell.row.at_first(stage)
        assert app_before is not None
        stage.settle(app_before)


def _act(cell: Cell, stage: Stage, watch: Watch) -> Seen:
    fleet = stage.fleet
    before = _caught_up(fleet, watch) if cell.row.before or cell.row.at_first else None
    mark = len(watch.of(fleet.namespace))
    try:
        app = cell.row.act(stage)
    except Refused as refused:
        verdict = next((each for words, each in REFUSALS.items() if words in str(refused)), None)
        assert verdict is not None, refused
        _caught_up(fleet, watch)
        return Seen(verdict=verdict, rollouts=len(_templates(watch, fleet, mark, before)), said=str(refused))
    if app is None:
        fleet.wait("NoTargets", timeout=PATIENCE)
        assert fleet.deployments() == {}
        return Seen(verdict=Verdict.GONE, rollouts=0)
    if cell.row.expected(admission=cell.admission)[0] is Verdict.STEPS_BACK:
        status = fleet.wait("AllSkipped", timeout=PATIENCE)
        assert [each["reason"] for each in status["skipped"]] == ["NameConflict"]
        _caught_up(fleet, watch)
        return Seen(verdict=Verdict.STEPS_BACK, rollouts=len(_templates(watch, fleet, mark, before)))
    stage.settle(app)
    differences = stage.differences(app)
    stage.settle(app)
    _caught_up(fleet, watch)
    templates = _templates(watch, fleet, mark, before)
    return Seen(
        verdict=_verdict(templates, stage, new=before is None),
        rollouts=len(templates),
        differences=differences,
    )


def _caught_up(fleet: Fleet, watch: Watch) -> Manifest:
    """Wait until the watch has told of the Deployment as it is now; return its template."""

    def is_seen() -> Manifest | None:
        deployment = fleet.deployment()
        versions = {each["metadata"]["resourceVersion"] for each in watch.of(fleet.namespace)}
        return deployment if deployment["metadata"]["resourceVersion"] in versions else None

    found = poll(is_seen, timeout=PATIENCE, every=SELDOM)
    assert found is not None
    template: Manifest = found["spec"]["template"]
    return template


def _templates(watch: Watch, fleet: Fleet, mark: int, before: Manifest | None) -> list[Manifest]:
    """The templates since *mark*, each of which is another than the one before it: the rollouts."""
    found: list[Manifest] = []
    for each in watch.of(fleet.namespace)[mark:]:
        template = each["spec"]["template"]
        if template != (found[-1] if found else before):
            found.append(template)
    return found


def _verdict(templates: list[Manifest], stage: Stage, *, new: bool) -> Verdict:
    """What has become of the sidecars, by the templates that there have been.

    Whether admission had anything to put back cannot be seen: the same row tells it without admission.
    """
    if new:
        return Verdict.SECOND_ROLLOUT if any(missing(each) for each in templates) else Verdict.IN_FIRST_PODS
    if any(missing(each) for each in templates):
        return Verdict.PUT_BACK
    if any(disorder(each) for each in templates):
        return Verdict.ORDERED
    return Verdict.UPDATED if any(stage.outdated(each) for each in templates) else Verdict.UNTOUCHED
