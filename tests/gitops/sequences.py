"""Anything that owners and authors do, in any order, on a real API server; what holds at its end whatever it was.

Beside each Deployment stands its twin in a namespace without policies, and its owner does the same with that: what is
there is what the owner wrote, as Kubernetes understands it. At the end the Deployment must be what injecting makes of
the twin, and after all policies have gone it must be the twin.

Policies may restart for the ConfigMap of their namespace (`restartOn`). The record must have the hash of its content;
and between two moments at which everything was as it should be, another hash means another Pod template, unless the
owner or the author did something with which the Pods, or what was known of them, began anew.

The namespaces of a story that went well are those of a later one: to delete a namespace costs more than many deeds.
What remains there of the story before has to be no trouble to anybody.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from http import HTTPStatus
from pathlib import Path

import pykube

import localcluster
from sidecarpolicy import names
from sidecarpolicy.core.adjusting import adjusted, adjustment_on, wishes_of
from sidecarpolicy.core.adjustment import Adjustment
from sidecarpolicy.core.claims import LAST_APPLIED
from sidecarpolicy.core.configs import CONFIG_MAP, Config, ConfigObject, hash_of
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import compose, eject
from sidecarpolicy.core.policy import Policy
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
SELDOM = 1.0
"""Many look at the same time."""
RESTARTING = threading.Lock()
QUICK = {"minReadySeconds": 0}
JSON = {"Content-Type": "application/json"}
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
NOT_THERE = "].name: Not found"
"""What the API server says of a mount whose volume a write takes away."""
INVALID = "Error from server (Invalid)"
"""What kubectl says of a write that no object can be made of."""
GONE = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
CONFIG = ConfigObject(CONFIG_MAP, "settings")
"""What policies restart for, where they do."""
READS_CONFIG_MAPS = str(Path(__file__).parents[2] / "deploy/base/restart-on/config-maps/access.yaml")
"""The right to do so."""
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
    restarts: bool = False
    """Whether it restarts for the ConfigMap."""


@dataclass(frozen=True, slots=True)
class Deletes:
    """The author deletes a policy."""

    policy: str


@dataclass(frozen=True, slots=True)
class Configures:
    """Somebody writes this into the ConfigMap, and creates it where there is none; None deletes it.

    *later*: once everything has settled.
    """

    content: str | None
    later: bool = False


@dataclass(frozen=True, slots=True)
class Restarts:
    """The operator is stopped and started again."""


@dataclass(frozen=True, slots=True)
class Settles:
    """Nobody does anything until everything is as it should be."""


Deed = Writes | Undoes | OptsOut | Annotates | Edits | Deletes | Configures | Restarts | Settles


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
    if edit.restarts:
        spec["restartOn"] = {"configMaps": [CONFIG.name]}
    position = "BeforeInit" if edit.init else "AfterInit"
    spec["sidecars"] = [a_sidecar(sidecar, position=position, overridable=["resources"], container=container)]
    return a_policy(edit.policy, namespace, **spec)


@dataclass(frozen=True, slots=True)
class Place:
    """Two namespaces for one story after another: the owner's, and that of the twin."""

    cluster: localcluster.Cluster
    api: pykube.HTTPClient
    fleet: Fleet
    twin: Fleet

    def clear(self) -> None:
        """Take the owner's things away; what belongs to them goes by itself, sooner or later."""
        for each in (self.fleet, self.twin):
            self.delete(each, f"deployments/{NAME}", version="apps/v1")
        self.delete(self.fleet, f"configmaps/{CONFIG.name}", version="v1")

    def delete(self, fleet: Fleet, path: str, *, version: str) -> None:
        """Delete an object, if there is one, in the background."""
        options = json.dumps({"propagationPolicy": "Background"})
        where = {"version": version, "namespace": fleet.namespace, "url": path}
        answer = self.api.delete(**where, headers=JSON, data=options)
        assert answer.status_code in GONE, answer.text

    def send(
        self, fleet: Fleet, path: str, how: Mapping[str, str], body: object, *, version: str = "apps/v1", **query: str
    ) -> None:
        """Patch an object."""
        where = {"version": version, "namespace": fleet.namespace, "url": path}
        answer = self.api.patch(**where, headers=how, data=json.dumps(body), params=query)
        assert answer.status_code in (HTTPStatus.OK, HTTPStatus.CREATED), answer.text


class Places:
    """All places of one cluster. Those in which a story has failed are not used again."""

    def __init__(self, cluster: localcluster.Cluster) -> None:
        self._cluster = cluster
        self._free: dict[bool, list[Place]] = defaultdict(list)
        self._namespaces = ExitStack()

    @contextmanager
    def place(self, *, admission: bool) -> Iterator[Place]:
        """One that no other story is in."""
        free = self._free[admission]
        place = free.pop() if free else self._made(admission)
        yield place
        place.clear()
        free.append(place)

    def _made(self, admission: bool) -> Place:
        api = kube.client(self._cluster.kubeconfig)
        namespace = self._namespaces.enter_context(kube.a_namespace(api, "story"))
        twin = self._namespaces.enter_context(kube.a_namespace(api, "twin"))
        if admission:
            pykube.Namespace.objects(api).get(name=namespace).patch({"metadata": {"labels": {WITH_ADMISSION: "yes"}}})
        return Place(self._cluster, api, Fleet(self._cluster, namespace), Fleet(self._cluster, twin))

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._namespaces.close()


@contextmanager
def readable_config_maps(cluster: localcluster.Cluster) -> Iterator[None]:
    """Meanwhile the operator may read ConfigMaps."""
    cluster.kubectl("apply", "--filename", READS_CONFIG_MAPS)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--filename", READS_CONFIG_MAPS)


def play(story: Story, places: Places, operator: Operator) -> None:
    """Play one story."""
    with places.place(admission=story.admission) as place:
        Play(story.admission, operator, place).run(story.deeds)


@dataclass(frozen=True, slots=True)
class Settled:
    """How it was when everything was as it should be: the Pod template, and by policy what its Pods have read."""

    template: Manifest
    configs: Mapping[PolicyId, Config]


@dataclass(slots=True)
class Play:
    """One sequence under way: the owner's Deployment, and its twin."""

    admission: bool
    operator: Operator
    place: Place
    policies: set[str] = field(default_factory=set)
    content: str | None = None
    """What is in the ConfigMap; None: there is none."""
    contents: set[str] = field(default_factory=set)
    """What has ever been in it."""
    had_volume: bool = False
    settled: Settled | None = None
    """None where what has been done since takes its meaning away."""

    @property
    def fleet(self) -> Fleet:
        """The namespace of the story."""
        return self.place.fleet

    @property
    def twin(self) -> Fleet:
        """The namespace of the twin."""
        return self.place.twin

    def run(self, deeds: Sequence[Deed]) -> None:
        """Do it all; then look at what it came to, and at what is left when the policies have gone."""
        self.do(Writes(How.CLIENT_SIDE, App()))
        for each in deeds:
            self.do(each)
        self.settle()
        for policy in sorted(self.policies):
            self.delete(policy)
        poll(lambda: not self.there(), timeout=PATIENCE, every=SELDOM)
        live, twin = self.fleet.deployment(), self.twin.deployment()
        assert live["spec"]["template"] == twin["spec"]["template"], "not what its owner wrote, after all policies"
        assert owners_metadata(live) == owners_metadata(twin)
        assert names.RECORD not in annotations_of(live)

    def do(self, deed: Deed) -> None:
        """Do one thing."""
        if not goes_on(deed):
            self.settled = None
        match deed:
            case Writes(how, app):
                self.write(how, app)
            case Undoes():
                self.settle()
                self.settled = None
                self.undo()
            case OptsOut(value):
                self.mark("labels", names.INJECT, value)
            case Annotates(key, value):
                self.mark("annotations", key, value)
            case Edits():
                self.policies.add(deed.policy)
                self.edit(deed)
            case Deletes(policy):
                self.delete(policy)
            case Configures(content, later):
                if later:
                    self.settle()
                self.configure(content)
            case Restarts():
                with RESTARTING:
                    self.operator.restart()
            case Settles():
                self.settle()

    def write(self, how: How, app: App) -> None:
        """Write an application as an owner does, and the same into the twin.

        Without admission the API server does not take a client-side apply that drops the last of the owner's volumes:
        the patch drops those of the policy too, and their mounts stay. Then the twin stays as it was. What cannot be
        refused goes into both namespaces by one kubectl.
        """
        live = app.manifest(self.fleet.namespace)
        twin = replace(app, replicas=0).manifest(self.twin.namespace)  # nobody looks at its Pods
        if how is How.CLIENT_SIDE and self.had_volume and not app.volume and not self.admission:
            said = written(self.place.cluster, how, live)
            if not said:
                said = written(self.place.cluster, how, twin)
            elif NOT_THERE in said:
                return
        else:
            said = written(self.place.cluster, how, live, twin)
            if said.count(INVALID) == 2:
                return  # the twin's is no better: a server-side apply left half of what `replace` had brought
        assert not said, said
        self.had_volume = self.had_volume or app.volume

    def delete(self, policy: str) -> None:
        """Delete a policy."""
        self.policies.discard(policy)
        self.place.delete(self.fleet, f"{names.PLURALS[names.POLICY]}/{policy}", version=names.API_VERSION)

    def there(self) -> dict[str, Manifest]:
        """The policies that are there, by name."""
        found = self.fleet.get(names.PLURALS[names.POLICY], version=names.API_VERSION)["items"]
        return {each["metadata"]["name"]: each for each in found}

    def configure(self, content: str | None) -> None:
        """Write the ConfigMap, or delete it."""
        path = f"configmaps/{CONFIG.name}"
        if content is None:
            self.place.delete(self.fleet, path, version="v1")
        else:
            body = {"apiVersion": "v1", "kind": CONFIG.kind, "metadata": {"name": CONFIG.name}, **data(content)}
            self.place.send(self.fleet, path, APPLY, body, version="v1", fieldManager="author", force="true")
            self.contents.add(content)
        self.content = content

    def mark(self, where: str, key: str, value: str | None) -> None:
        """Write a label or an annotation of the owner's."""
        for each in (self.fleet, self.twin):
            body = {"metadata": {where: {key: value}}}
            self.place.send(each, f"deployments/{NAME}", MERGE, body, fieldManager="owner")

    def edit(self, edit: Edits) -> None:
        """Write a policy; one that is on its way out is waited for."""
        wanted = the_policy(self.fleet.namespace, edit)
        path = f"{names.PLURALS[names.POLICY]}/{edit.policy}"

        def is_written() -> bool:
            there = self.there().get(edit.policy)
            if there is None:
                kube.create(self.place.api, wanted)
            elif "deletionTimestamp" in there["metadata"]:
                return False
            else:
                body = {"spec": wanted["spec"] | absent(wanted)}
                self.place.send(self.fleet, path, MERGE, body, version=names.API_VERSION)
            return True

        poll(is_written, timeout=PATIENCE, every=SELDOM)

    def undo(self) -> None:
        """Undo the Deployment's rollout, and write into the twin what the owner gets back with that."""
        before = self.fleet.deployment()
        found = [
            each
            for each in self.fleet.get("replicasets", version="apps/v1")["items"]
            if each["metadata"]["ownerReferences"][0]["uid"] == before["metadata"]["uid"]
        ]
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
        self.place.send(self.twin, f"deployments/{NAME}", JSON_PATCH, patch, fieldManager="kubectl-rollout")

    # What must be so

    def settle(self) -> None:
        """Wait until everything is as it should be."""
        poll(lambda: next(self.wrongs(), ""), until=lambda wrong: not wrong, timeout=PATIENCE, every=SELDOM)

    def wrongs(self) -> Iterator[str]:
        """What is not as it should be, yet; first what takes one look to see. At the end: how it is."""
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
        there = self.there()
        if there.keys() != self.policies:
            yield f"a policy is still there: {sorted(there)}"
        twin, record = self.twin.deployment(), record_of(record_in(live))
        assigned = dict(self.assigned(twin, there, record))
        composed = compose(twin["spec"]["template"], Record(), assigned)
        entries = {policy: facts(record, policy) for policy in record.entries}
        wanted = {policy: facts(composed.record, policy) for policy in composed.record.entries}
        if entries != wanted:
            yield f"the record has {entries} instead of {wanted}"
        ours = record.items
        if with_ours_last(live["spec"]["template"], ours) != with_ours_last(composed.template, ours):
            yield f"the template is {live['spec']['template']} instead of {composed.template}"
        if owners_metadata(live) != owners_metadata(twin):
            yield f"the metadata is {owners_metadata(live)} instead of {owners_metadata(twin)}"
        settled = Settled(live["spec"]["template"], {policy: each.config for policy, each in record.entries.items()})
        if self.settled is not None and settled.template == self.settled.template:
            yield from not_restarted(self.settled, settled)
        self.settled = settled

    def assigned(
        self, twin: Manifest, there: Mapping[str, Manifest], record: Record
    ) -> Iterator[tuple[PolicyId, Revision]]:
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
        for _, body in sorted(there.items()):
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
            recorded = record.entries[policy.id].config if policy.id in record.entries else Config()
            yield policy.id, replace(revision, config=self.config_on(policy, recorded))

    def config_on(self, policy: Policy, recorded: Config) -> Config:
        """What its record must have of the ConfigMap, where it has *recorded*.

        Of one that is not there it has what was in it once, or nothing. That nothing restarts before the content has
        changed is certain; which restart it shows then depends on what it has seen of the contents.
        """
        known = {((CONFIG, hash_of(CONFIG.kind, data(each))),) for each in self.contents}
        if not policy.restart_on:
            hashes: tuple[tuple[ConfigObject, str], ...] = ()
        elif self.content is not None:
            hashes = ((CONFIG, hash_of(CONFIG.kind, data(self.content))),)
        else:
            hashes = recorded.hashes if recorded.hashes in known else ()
        return Config(hashes=hashes, restart=recorded.restart if len(self.contents) > 1 else "")


def data(content: str) -> Manifest:
    """The ConfigMap's content."""
    return {"data": {"level": content}}


def goes_on(deed: Deed) -> bool:
    """Whether Pods and what is known of them go on through it, so that another content has to restart them.

    An owner who replaces the object drops what the record says of them; an owner and an author who take sidecars away
    or bring them back do so too, and so does an author who names the ConfigMap, or names it no more.
    """
    match deed:
        case Configures() | Restarts() | Settles():
            return True
        case Writes(how):
            return how is not How.REPLACE
        case _:
            return False


def not_restarted(before: Settled, after: Settled) -> Iterator[str]:
    """For which policies the Pods have not restarted, though the record says that they have read another content."""
    for policy, config in after.configs.items():
        old = before.configs.get(policy, Config()).hashes
        if old and config.hashes and config.hashes != old:
            yield f"{policy} has noted {config} instead of {old}, and no Pod has restarted"


def facts(record: Record, policy: PolicyId) -> tuple[str, frozenset[ItemKey], Adjustment, Config]:
    """What must be in the record of a policy; how it came to it may differ."""
    entry = record.entries[policy]
    return entry.revision, entry.items, entry.adjustment, entry.config


def absent(wanted: Manifest) -> Mapping[str, None]:
    """What a merge patch must take out, where a policy has nothing of it."""
    return {each: None for each in ("volumes", "application", "restartOn") if each not in wanted["spec"]}


def written(cluster: localcluster.Cluster, how: How, *manifests: Manifest) -> str:
    """Write Deployments as an owner does; what kubectl says where it cannot.

    Whoever replaces an object asks again after a 409: kubectl reads its resourceVersion first, and until it writes a
    status may come between.
    """
    verb = {
        How.CLIENT_SIDE: ("apply",),
        How.SERVER_SIDE: ("apply", "--server-side", "--force-conflicts"),
        How.REPLACE: ("replace",),
    }[how]
    text = "\n---\n".join(map(json.dumps, manifests))  # with a List kubectl reads the whole of OpenAPI v2

    def asked() -> str:
        answer = cluster.kubectl(*verb, "--filename=-", input=text, check=False)
        return answer.stderr if answer.returncode else ""

    return poll(asked, until=lambda said: "Error from server (Conflict)" not in said, timeout=PATIENCE)


def stays_with_undo(annotation: str) -> bool:
    """Whether `kubectl rollout undo` leaves an annotation as it is."""
    return annotation == LAST_APPLIED or annotation.startswith("deployment.kubernetes.io/")


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
