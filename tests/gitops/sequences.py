"""Anything that owners and authors do, in any order, on a real API server; what holds at its end whatever it was.

Beside each Deployment stands its twin in a namespace without policies, and its owner does the same with that: what is
there is what the owner wrote, as Kubernetes understands it. At the end the Deployment must be what injecting makes of
the twin, and after all policies have gone it must be the twin.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from http import HTTPStatus

import pykube

import localcluster
from sidecarpolicy import names
from sidecarpolicy.core.adjusting import adjusted, adjustment_on, wishes_of
from sidecarpolicy.core.adjustment import Adjustment
from sidecarpolicy.core.claims import LAST_APPLIED
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import compose, eject
from sidecarpolicy.core.record import ItemKey, Record
from sidecarpolicy.core.revision import Revision, from_controller_revision, update_revision
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from tests import kube
from tests.builders import Manifest, a_policy, a_sidecar
from tests.core.test_laws import with_ours_last
from tests.fleet import Fleet
from tests.gitops.beside import WITH_ADMISSION
from tests.gitops.tools import NAME, App
from tests.polling import poll
from tests.running import Operator

PATIENCE = 90.0
SELDOM = 0.5
"""Many look at the same time."""
RESTARTING = threading.Lock()
QUICK = {"minReadySeconds": 0}
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
NOT_THE_OWNERS = (names.RECORD, LAST_APPLIED, "deployment.kubernetes.io/revision")


class How(Enum):
    """How an owner writes."""

    CLIENT_SIDE = "apply"
    SERVER_SIDE = "apply --server-side"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Writes:
    """The owner writes this application."""

    how: How
    app: App


@dataclass(frozen=True, slots=True)
class Undoes:
    """`kubectl rollout undo`, once everything has settled: what it goes back to must be known."""


@dataclass(frozen=True, slots=True)
class OptsOut:
    """The owner's label: out, in, or none."""

    value: str | None


@dataclass(frozen=True, slots=True)
class Annotates:
    """The owner leaves a sidecar out, or overrides something in it; None takes that back."""

    key: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Edits:
    """The author brings a policy to this, and creates it where there is none."""

    policy: str
    image: str = "1"
    init: bool = False
    extras: bool = False


@dataclass(frozen=True, slots=True)
class Deletes:
    """The author deletes a policy."""

    policy: str


@dataclass(frozen=True, slots=True)
class Restarts:
    """The operator is stopped and started again."""


@dataclass(frozen=True, slots=True)
class Settles:
    """Nobody does anything until everything is as it should be."""


Deed = Writes | Undoes | OptsOut | Annotates | Edits | Deletes | Restarts | Settles


@dataclass(frozen=True, slots=True)
class Story:
    """What happens, with admission or without it."""

    admission: bool
    deeds: tuple[Deed, ...]


def the_policy(namespace: str, edit: Edits) -> Manifest:
    """One of the two policies, as its author wants it: `web` has the sidecar proxy, `log` has logger."""
    sidecar = {"web": "proxy", "log": "logger"}[edit.policy]
    container: Manifest = {"image": f"example.test/{sidecar}:{edit.image}", "resources": {"requests": {"cpu": "1m"}}}
    spec: Manifest = {"rollout": QUICK, "priority": 10 if edit.policy == "web" else 0}
    if edit.extras:
        mount = {"name": edit.policy, "mountPath": f"/{edit.policy}"}
        container["volumeMounts"] = [mount]
        variable = {"name": f"{edit.policy.upper()}_ON", "value": edit.image}
        spec["volumes"] = [{"name": edit.policy, "emptyDir": {}}]
        spec["application"] = {"env": [variable], "volumeMounts": [mount]}
    position = "BeforeInit" if edit.init else "AfterInit"
    spec["sidecars"] = [a_sidecar(sidecar, position=position, overridable=["resources"], container=container)]
    return a_policy(edit.policy, namespace, **spec)


def play(story: Story, cluster: localcluster.Cluster, operator: Operator) -> None:
    """Play one story in two namespaces of its own."""
    api = kube.client(cluster.kubeconfig)
    with kube.a_namespace(api, "story") as namespace, kube.a_namespace(api, "twin") as twin:
        if story.admission:
            pykube.Namespace.objects(api).get(name=namespace).patch({"metadata": {"labels": {WITH_ADMISSION: "yes"}}})
        Play(cluster, operator, Fleet(cluster, namespace), Fleet(cluster, twin)).run(story.deeds)


@dataclass(slots=True)
class Play:
    """One sequence under way: the owner's Deployment, and its twin."""

    cluster: localcluster.Cluster
    operator: Operator
    fleet: Fleet
    twin: Fleet
    policies: set[str] = field(default_factory=set)

    def run(self, deeds: Sequence[Deed]) -> None:
        """Do it all; then look at what it came to, and at what is left when the policies have gone."""
        self.do(Writes(How.CLIENT_SIDE, App()))
        for each in deeds:
            self.do(each)
        self.settle()
        for policy in sorted(self.policies):
            self.fleet.kubectl("delete", "sidecarpolicy", policy, f"--timeout={PATIENCE:g}s")
        self.policies.clear()
        live, twin = self.fleet.deployment(), self.twin.deployment()
        assert live["spec"]["template"] == twin["spec"]["template"], "not what its owner wrote, after all policies"
        assert owners_metadata(live) == owners_metadata(twin)
        assert names.RECORD not in annotations_of(live)

    def do(self, deed: Deed) -> None:
        """Do one thing."""
        match deed:
            case Writes(how, app):
                if write(self.fleet, how, app):
                    write(self.twin, how, replace(app, replicas=0))  # nobody looks at its Pods
            case Undoes():
                self.settle()
                self.undo()
            case OptsOut(value):
                self.mark("labels", names.INJECT, value)
            case Annotates(key, value):
                self.mark("annotations", key, value)
            case Edits():
                self.policies.add(deed.policy)
                self.edit(deed)
            case Deletes(policy):
                self.policies.discard(policy)
                self.fleet.kubectl("delete", "sidecarpolicy", policy, "--ignore-not-found", "--wait=false")
            case Restarts():
                with RESTARTING:
                    self.operator.restart()
            case Settles():
                self.settle()

    def mark(self, where: str, key: str, value: str | None) -> None:
        """Write a label or an annotation of the owner's."""
        for each in (self.fleet, self.twin):
            send(each, MERGE, {"metadata": {where: {key: value}}}, fieldManager="owner")

    def edit(self, edit: Edits) -> None:
        """Write a policy; one that is on its way out is waited for."""
        wanted = the_policy(self.fleet.namespace, edit)
        kind = kube.SidecarPolicy.objects(kube.client(self.cluster.kubeconfig), namespace=self.fleet.namespace)

        def is_written() -> bool:
            there = kind.get_or_none(name=edit.policy)
            if there is None:
                kube.create(kube.client(self.cluster.kubeconfig), wanted)
            elif "deletionTimestamp" in there.metadata:
                return False
            else:
                answer = there.api.patch(
                    **there.api_kwargs(headers=MERGE, data=json.dumps({"spec": wanted["spec"] | absent(wanted)}))
                )
                there.api.raise_for_status(answer)
            return True

        poll(is_written, timeout=PATIENCE, every=SELDOM)

    def undo(self) -> None:
        """Undo the Deployment's rollout, and write into the twin what the owner gets back with that."""
        before = self.fleet.deployment()
        found = self.fleet.get("replicasets", version="apps/v1")["items"]
        numbers = {int(annotations_of(each)["deployment.kubernetes.io/revision"]): each for each in found}
        newest = int(annotations_of(before)["deployment.kubernetes.io/revision"])
        older = [number for number in numbers if number < newest]
        if not older:
            return
        goal = numbers[max(older)]
        if {each.name for each in record_of(record_in(goal)).entries} - self.policies:
            return  # what comes back of a policy that is no more stays, as documented
        self.fleet.kubectl("rollout", "undo", f"deployment/{NAME}", f"--to-revision={max(older)}")
        template = goal["spec"]["template"]
        template["metadata"]["labels"].pop("pod-template-hash")
        twins = annotations_of(self.twin.deployment())
        kept = {key: value for key, value in twins.items() if stays_with_undo(key)}
        back = {key: value for key, value in annotations_of(goal).items() if not stays_with_undo(key)}
        back.pop(names.RECORD, None)
        patch = [
            {"op": "replace", "path": "/spec/template", "value": eject(template, record_of(record_in(goal)))},
            {"op": "replace", "path": "/metadata/annotations", "value": kept | back},
        ]
        send(self.twin, JSON_PATCH, patch, fieldManager="kubectl-rollout")

    # What must be so

    def settle(self) -> None:
        """Wait until everything is as it should be."""
        poll(lambda: next(self.wrongs(), ""), until=lambda wrong: not wrong, timeout=PATIENCE, every=SELDOM)

    def wrongs(self) -> Iterator[str]:
        """What is not as it should be, yet; first what takes one look to see."""
        live = self.fleet.deployment()
        if live.get("status", {}).get("observedGeneration") != live["metadata"]["generation"]:
            yield "not observed"
        status, replicas = live.get("status", {}), live["spec"]["replicas"]
        if (
            not status.get("updatedReplicas", 0)
            == status.get("replicas", 0)
            == status.get("availableReplicas")
            == replicas
        ):
            yield f"not rolled out: {status}"
        there = self.fleet.get(names.PLURALS[names.POLICY], version=names.API_VERSION)["items"]
        if {each["metadata"]["name"] for each in there} != self.policies:
            yield f"a policy is still there: {[each['metadata']['name'] for each in there]}"
        twin = self.twin.deployment()
        assigned = dict(self.assigned(twin))
        composed = compose(twin["spec"]["template"], Record(), assigned)
        record = record_of(record_in(live))
        entries = {policy: facts(record, policy) for policy in record.entries}
        wanted = {policy: facts(composed.record, policy) for policy in composed.record.entries}
        if entries != wanted:
            yield f"the record has {entries} instead of {wanted}"
        ours = record.items
        if with_ours_last(live["spec"]["template"], ours) != with_ours_last(composed.template, ours):
            yield f"the template is {live['spec']['template']} instead of {composed.template}"
        if owners_metadata(live) != owners_metadata(twin):
            yield f"the metadata is {owners_metadata(live)} instead of {owners_metadata(twin)}"

    def assigned(self, twin: Manifest) -> Iterator[tuple[PolicyId, Revision]]:
        """What each policy injects, adjusted as the owner wants it, where they want it at all."""
        if at(twin["metadata"], "labels").get(names.INJECT) == "false":
            return
        stored = [
            from_controller_revision(each)
            for each in self.fleet.get("controllerrevisions", version="apps/v1", labelSelector=names.POLICY_NAME_LABEL)[
                "items"
            ]
        ]
        wishes = wishes_of(annotations_of(twin), {})
        for name in sorted(self.policies):
            body = self.fleet.get(f"{names.PLURALS[names.POLICY]}/{name}", version=names.API_VERSION)
            status = body.get("status", {})
            assert status.get("observedGeneration") == body["metadata"]["generation"], "the policy has not been seen"
            policy = decode_policy(body)
            newest = update_revision([each for each in stored if each.revision.policy == policy.id])
            assert newest is not None, "no revision yet"
            assert newest.revision.name == status.get("updateRevision"), "not the update revision"
            if {each.name for each in newest.revision.sidecars} <= wishes.skipped:
                continue  # who leaves out every sidecar of a policy opts out of it
            adjustment = adjustment_on(newest.revision, wishes, policy, None)
            revision = adjusted(newest.revision, adjustment)
            yield policy.id, revision


def facts(record: Record, policy: PolicyId) -> tuple[str, frozenset[ItemKey], Adjustment]:
    """What must be in the record of a policy; how it came to it may differ."""
    entry = record.entries[policy]
    return entry.revision, entry.items, entry.adjustment


def absent(wanted: Manifest) -> Mapping[str, None]:
    """What a merge patch must take out, where a policy has nothing of it."""
    return {each: None for each in ("volumes", "application") if each not in wanted["spec"]}


def write(fleet: Fleet, how: How, app: App) -> bool:
    """Write an application as an owner does; whether the API server has taken it.

    Whoever replaces an object asks again after a 409: kubectl reads its resourceVersion first, and until it writes a
    status may come between.
    Without admission it does not take a client-side apply that drops the last of the owner's volumes: the patch drops
    those of the policy too, and their mounts stay.
    """
    verb = {
        How.CLIENT_SIDE: ("apply",),
        How.SERVER_SIDE: ("apply", "--server-side", "--force-conflicts"),
        How.REPLACE: ("replace",),
    }[how]
    manifest = json.dumps(app.manifest(fleet.namespace))

    def asked() -> subprocess.CompletedProcess[str]:
        return fleet.kubectl(*verb, "--filename=-", input=manifest, check=False)

    done = poll(asked, until=lambda answer: "Error from server (Conflict)" not in answer.stderr, timeout=PATIENCE)
    if done.returncode and how is How.CLIENT_SIDE and "].name: Not found" in done.stderr:
        return False
    assert done.returncode == 0, done.stderr
    return True


def stays_with_undo(annotation: str) -> bool:
    """Whether `kubectl rollout undo` leaves an annotation as it is."""
    return annotation == LAST_APPLIED or annotation.startswith("deployment.kubernetes.io/")


def send(fleet: Fleet, how: Mapping[str, str], body: object, **query: str) -> None:
    """Patch the Deployment."""
    api = kube.client(fleet.cluster.kubeconfig)
    where = {"version": "apps/v1", "namespace": fleet.namespace, "url": f"deployments/{NAME}"}
    answer = api.patch(**where, headers=how, data=json.dumps(body), params=query)
    if answer.status_code != HTTPStatus.OK:
        raise AssertionError(answer.text)


def annotations_of(thing: Manifest) -> dict[str, str]:
    """Its annotations."""
    found: dict[str, str] = thing["metadata"].get("annotations", {})
    return found


def record_in(thing: Manifest) -> str | None:
    """The record as it is written there."""
    return annotations_of(thing).get(names.RECORD)


def owners_metadata(deployment: Manifest) -> tuple[Json, Json]:
    """The labels and annotations that are the owner's."""
    own = {key: value for key, value in annotations_of(deployment).items() if key not in NOT_THE_OWNERS}
    return at(deployment["metadata"], "labels"), own
