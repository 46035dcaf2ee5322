"""The controllers beside us: Deployments roll out, what has no owner any more goes, namespaces empty.

They work at ticks. What a Deployment does is told by its `Behaviour`, and by nothing else: which Pods bear what is read
from the images in their template, never from the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecarpolicy.core.kinds.deployment import REVISION_ANNOTATION
from sidecarpolicy.core.times import seconds_of, timestamp
from sidecarpolicy.core.tree import Json, at, compact, items
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, PODS, REPLICA_SETS
from tests.simulation.server import EVERY_RESOURCE, Change, Place, Server

TICK = 10.0
NO_DEADLINE = 2147483647
COMPLETE = "NewReplicaSetAvailable"
GIVEN_UP = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
IMAGES = "example.test/"
NOT_COPIED = frozenset({"kubectl.kubernetes.io/last-applied-configuration", REVISION_ANNOTATION})

Progress = dict[Place, tuple[int, bool]]
"""Of each Deployment, what its `Behaviour` counts: ticks of its rollout, and whether one goes on."""


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """How a Deployment behaves: after *ticks* a rollout is complete, unless it *breaks*.

    *breaks*: revisions (`web-b`; "" for none at all) with which it never completes; *crashes*: with which it completes
    and is lost right after. *bad_versions*: those of its owner with which it never completes. *last_words*: of a
    container that crashes. *unwell*: it was broken before anybody came, so its own container is the one that crashes
    (as it is where it also breaks with nothing of ours). *starting*: its sidecars are starting. *done*: ticks of the
    rollout that goes on; *rolling*: one has begun, and has not completed.
    """

    ticks: int = 2
    breaks: frozenset[str] = frozenset()
    crashes: frozenset[str] = frozenset()
    bad_versions: frozenset[int] = frozenset()
    last_words: str = ""
    unwell: bool = False
    starting: bool = False
    done: int = 0
    rolling: bool = False

    def hinders(self, template: Json) -> bool:
        """Whether a rollout of *template* never completes."""
        return self.bears(template, self.breaks) or version_of(template) in self.bad_versions

    def bears(self, template: Json, revisions: frozenset[str]) -> bool:
        """Whether one of *revisions* is on it."""
        if not revisions:
            return False
        there = borne_by(template)
        return bool(there & revisions) or ("" in revisions and not there)


def borne_by(template: Json) -> frozenset[str]:
    """Which revisions a Pod template bears, by its images: `example.test/web:b` is `web-b`."""
    found = set()
    for container in items(at(template, "spec"), "initContainers"):
        policy, _, letter = str(container.get("image", "")).removeprefix(IMAGES).partition(":")
        if container.get("restartPolicy") == "Always":
            found.add(f"{policy}-{letter}")
    return frozenset(found)


def version_of(template: Json) -> int:
    """The owner's own version, by the image of the first container."""
    tag = str(items(at(template, "spec"), "containers")[0].get("image", "")).rpartition(":")[2]
    return int(tag) if tag.isdecimal() else 0


def condition_of(deployment: Json, kind: str) -> Json:
    """A condition of a Deployment, or nothing."""
    return next((each for each in items(at(deployment, "status"), "conditions") if each["type"] == kind), {})


def is_observed(deployment: Json) -> bool:
    """Whether its controller has seen the newest generation."""
    return bool(at(deployment, "status").get("observedGeneration", 0) >= deployment["metadata"]["generation"])


def rolled_out(deployment: Json) -> bool:
    """Whether the controller has nothing left to do."""
    status, replicas = at(deployment, "status"), deployment["spec"]["replicas"]
    everything = status.get("replicas", 0)
    return is_observed(deployment) and (
        condition_of(deployment, "Progressing").get("reason") == COMPLETE
        or (status.get("updatedReplicas", 0) == everything == replicas <= status.get("availableReplicas", 0))
    )


@dataclass(slots=True)
class Controllers:
    """All of them. *without_quota*: namespaces in which no Pod can be made. *idle*: they do nothing."""

    server: Server
    behaviours: dict[Place, Behaviour] = field(default_factory=dict)
    without_quota: set[str] = field(default_factory=set)

    _owned: dict[str, set[Place]] = field(default_factory=dict)
    _at_rest: dict[Place, Json] = field(default_factory=dict)
    _litter: bool = False
    _ending: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.server.made_up[PODS] = self.pods
        self.server.observers.append(self._seen)

    def _seen(self, change: Change) -> None:
        """Whether there may be something to collect: an owner has gone, or an object has come whose owner had."""
        if change.type == "DELETED" or (change.before is None and "ownerReferences" in change.after["metadata"]):
            self._litter = True

    def progress(self) -> Progress:
        """How far each rollout is now."""
        return {place: (each.done, each.rolling) for place, each in self.behaviours.items()}

    def restored(self, progress: Progress) -> None:
        """Everything is as it was some time ago, and every rollout as far as it was."""
        for place, (done, rolling) in progress.items():
            self.behaviours[place].done, self.behaviours[place].rolling = done, rolling
        self._at_rest.clear()
        self._litter = True
        for place, each in self.server.collections[REPLICA_SETS].objects.items():
            for owner in items(each["metadata"], "ownerReferences"):
                self._owned.setdefault(owner["uid"], set()).add(place)

    def tick(self) -> None:
        """Let each do what it does in one tick."""
        self._ending = {
            each["metadata"]["name"]
            for each in self.server.every(NAMESPACES)
            if "deletionTimestamp" in each["metadata"]
        }
        for body in self.server.every(DEPLOYMENTS):
            self.roll(body)
        if self._litter:
            self._litter = False
            self.collect_garbage()
        self.end_namespaces()

    # Deployments

    def replica_sets(self, deployment: Json) -> list[Json]:
        """Its ReplicaSets, the newest last."""
        uid = deployment["metadata"]["uid"]
        objects = self.server.collections[REPLICA_SETS].objects
        names = self._owned.get(uid, ())
        found = [each for place in names if (each := objects.get(place)) is not None]
        return sorted(found, key=number_of)

    def roll(self, body: Json) -> None:
        """One tick of the Deployment controller."""
        metadata = body["metadata"]
        if "deletionTimestamp" in metadata or metadata["namespace"] in self._ending:
            return
        place = metadata["namespace"], metadata["name"]
        behaviour = self.behaviours.setdefault(place, Behaviour())
        if self._at_rest.get(place) is body and not behaviour.crashes:
            return  # nothing was left to do for just this
        sets, now = self.replica_sets(body), self.server.now()
        template = body["spec"]["template"]
        replicas = body["spec"]["replicas"]
        progressing = condition_of(body, "Progressing")
        if not is_observed(body):
            newest = sets[-1] if sets else None
            if body["spec"].get("paused"):
                under_way = progressing.get("reason") not in (COMPLETE, GIVEN_UP)
                self._status(body, sets, now, progressing=("Unknown", PAUSED) if under_way else None)
            elif newest is not None and _template_of(newest) == template:
                if progressing.get("reason") == COMPLETE or newest["spec"]["replicas"] > replicas:
                    newest = self._scaled(newest, replicas)
                self._copy_annotations(body, newest, number_of(newest))
                if not replicas and progressing.get("reason") != COMPLETE:  # no Pods, old or new, so it is complete
                    self._finish(body, self.replica_sets(body), now)
                    return
                resumed = ("Unknown", "DeploymentResumed") if progressing.get("reason") == PAUSED else None
                self._status(body, self.replica_sets(body), now, progressing=resumed)
            else:
                self._begin(body, sets, behaviour, now)
        elif body["spec"].get("paused") or not sets:
            return
        elif self._is_complete(body, sets, behaviour):
            since = seconds_of(progressing.get("lastUpdateTime")) if progressing else 0.0
            available = condition_of(body, "Available")
            if behaviour.bears(template, behaviour.crashes) and available["status"] == "True" and now - since <= TICK:
                self._status(body, sets, now, available=("False", "MinimumReplicasUnavailable"))
            else:
                self._at_rest[place] = body
        elif metadata["namespace"] in self.without_quota and at(sets[-1], "status").get("replicas", 0) < replicas:
            self._give_up(body, sets, now, quota=True)
        elif behaviour.hinders(template):
            self._give_up(body, self._no_longer_refused(body), now)
        else:
            sets = self._no_longer_refused(body)
            behaviour.done += 1
            told = progressing.get("reason") == COMPLETE  # of the template before
            # Pods are ready after *ticks*; to be available they have to stay so, and that is no progress.
            waits = body["spec"].get("minReadySeconds", 0) / TICK
            if behaviour.done >= behaviour.ticks + waits:
                self._finish(body, sets, now)
            elif behaviour.done <= behaviour.ticks:
                self._status(body, sets, now, progressing=None if told else ("True", "ReplicaSetUpdated"))

    def _no_longer_refused(self, body: Json) -> list[Json]:
        """Its ReplicaSets, once a quota is gone: the Pods are made that it has refused."""
        newest = self.replica_sets(body)[-1]
        if condition_of(newest, "ReplicaFailure"):
            self._replica_status(newest, newest["spec"]["replicas"])
        return self.replica_sets(body)

    def is_rolling(self, body: Json) -> bool:
        """Whether a rollout has begun, and has not completed."""
        found = self.behaviours.get((body["metadata"]["namespace"], body["metadata"]["name"]))
        return found is not None and found.rolling

    def has_all_pods_of(self, body: Json) -> bool:
        """Whether all Pods are of the template that *body* has, so that nothing is rolled out."""
        others = any(at(each, "status").get("replicas") for each in self.replica_sets(body)[:-1])
        return not others and self.has_begun(body)

    def has_begun(self, body: Json) -> bool:
        """Whether the newest ReplicaSet is the one for the template that *body* has."""
        sets = self.replica_sets(body)
        return bool(sets) and _template_of(sets[-1]) == body["spec"]["template"]

    def settle(self, body: Json) -> None:
        """Roll a new Deployment out at once."""
        self.roll(body)
        place = body["metadata"]["namespace"], body["metadata"]["name"]
        body = self.server.get(DEPLOYMENTS, *place)
        if not rolled_out(body):
            self._finish(body, self.replica_sets(body), self.server.now())

    def never_available(self, body: Json) -> None:
        """A new Deployment whose first rollout was given up long ago."""
        self.roll(body)
        body = self.server.get(DEPLOYMENTS, body["metadata"]["namespace"], body["metadata"]["name"])
        given_up = ("False", GIVEN_UP)
        self._status(body, self.replica_sets(body), self.server.now(), progressing=given_up)

    def refuse(self, body: Json) -> None:
        """A Pod of it could not be made, and that has not been renewed since."""
        self._status(body, self.replica_sets(body), self.server.now(), refused=True)

    def lose(self, body: Json) -> None:
        """Too few of its Pods are left."""
        lost = ("False", "MinimumReplicasUnavailable")
        self._status(body, self.replica_sets(body), self.server.now(), available=lost)

    def recover(self, body: Json) -> None:
        """Its Pods are all there again, unless a rollout has yet to bring them."""
        if not is_observed(body):
            self.roll(body)
            body = self.server.get(DEPLOYMENTS, body["metadata"]["namespace"], body["metadata"]["name"])
        if self.behaviours[body["metadata"]["namespace"], body["metadata"]["name"]].rolling:
            return
        there = ("True", "MinimumReplicasAvailable")
        self._status(body, self.replica_sets(body), self.server.now(), available=there)

    def rolled_out(self, body: Json) -> bool:
        """Whether nothing is left to do; what the condition says may be of the template before."""
        says_so = condition_of(body, "Progressing").get("reason") == COMPLETE
        return rolled_out(body) and not (says_so and self.is_rolling(body))

    def _is_complete(self, body: Json, sets: Sequence[Json], behaviour: Behaviour) -> bool:
        if condition_of(body, "Progressing"):
            return condition_of(body, "Progressing").get("reason") == COMPLETE and not behaviour.rolling
        replicas, available = body["spec"]["replicas"], at(body, "status").get("availableReplicas", 0)
        settled = sets[-1]["spec"]["replicas"] == replicas and not any(each["spec"]["replicas"] for each in sets[:-1])
        lost = condition_of(body, "Available").get("status") == "False" and not behaviour.rolling
        return settled and (available >= replicas or lost)

    def _begin(self, body: Json, sets: list[Json], behaviour: Behaviour, now: float) -> None:
        template, metadata = body["spec"]["template"], body["metadata"]
        number = 1 + (number_of(sets[-1]) if sets else 0)
        down = body["spec"]["strategy"]["type"] == "Recreate"
        if down:
            for each in sets:
                self._scaled(each, 0)
        refused = metadata["namespace"] in self.without_quota
        again = next((each for each in sets if _template_of(each) == template), None)
        # Where all Pods go first and no ReplicaSet is made the controller sees no step, and leaves the condition as it
        # is: the counts are those of one template, and then those of the other.
        complete = condition_of(body, "Progressing").get("reason") == COMPLETE
        progressing = None if down and again is not None and complete else ("True", "ReplicaSetUpdated")
        made = min(1, body["spec"]["replicas"]) if sets and not down else body["spec"]["replicas"]
        if again is None:
            again = self._make(body, number, made, refused)
        else:
            there = again["spec"]["replicas"]  # they need no quota
            again = self._scaled(self._copy_annotations(body, again, number), there if refused and there else made)
            if refused:
                self._replica_status(again, there, refused=True)
        behaviour.done, behaviour.rolling = 0, True
        sets = self.replica_sets(body)
        if body["spec"]["replicas"] == 0:
            self._finish(body, sets, now)
            return
        known = condition_of(body, "Available")
        available = ("False", "MinimumReplicasUnavailable") if down or not known else None
        self._status(body, sets, now, progressing=progressing, available=available, refused=refused)
        for old in sets[: max(0, len(sets) - 1 - body["spec"]["revisionHistoryLimit"])]:
            if not old["spec"]["replicas"]:
                self.server.delete(REPLICA_SETS, metadata["namespace"], old["metadata"]["name"])

    def _make(self, body: Json, number: int, replicas: int, refused: bool) -> Json:
        metadata, template = body["metadata"], body["spec"]["template"]
        digest = _digest(template)
        if self.server.find(REPLICA_SETS, metadata["namespace"], f"{metadata['name']}-{digest}") is not None:
            digest = _digest([template, metadata["uid"]])  # one of its name had it; the real one counts collisions
        labels = {**at(template, "metadata", "labels"), "pod-template-hash": digest}
        owner = {
            "apiVersion": DEPLOYMENTS.api_version,
            "kind": DEPLOYMENTS.kind,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        made = self.server.create(
            REPLICA_SETS,
            metadata["namespace"],
            {
                "metadata": {
                    "name": f"{metadata['name']}-{digest}",
                    "labels": labels,
                    "annotations": _copied(body, number),
                    "ownerReferences": [owner],
                },
                "spec": {
                    "replicas": replicas,
                    "template": {**template, "metadata": {**at(template, "metadata"), "labels": labels}},
                },
            },
        )
        self._owned.setdefault(metadata["uid"], set()).add((metadata["namespace"], made["metadata"]["name"]))
        return self._replica_status(made, 0 if refused else replicas, refused=refused)

    def _scaled(self, replica_set: Json, replicas: int) -> Json:
        after = {**replica_set, "spec": {**replica_set["spec"], "replicas": replicas}}
        return self._replica_status(self.server.update(REPLICA_SETS, replica_set, after), replicas)

    def _replica_status(self, replica_set: Json, replicas: int, *, refused: bool = False) -> Json:
        """Write how many Pods it has; *refused*: that no more can be made, as its controller says until one is."""
        status: Json = {"replicas": replicas}
        if refused:
            name = at(replica_set, "metadata")["name"]
            said = _condition(None, "ReplicaFailure", "True", "FailedCreate", _quota(name), self.server.now())
            status["conditions"] = [said]
        after = {**replica_set, "status": status}
        return self.server.update(REPLICA_SETS, replica_set, after, subresource="status")

    def _copy_annotations(self, body: Json, replica_set: Json, number: int) -> Json:
        kept = at(replica_set, "metadata", "annotations")  # none is ever taken away
        annotations = {**kept, **_copied(body, number)}
        after = {**replica_set, "metadata": {**replica_set["metadata"], "annotations": annotations}}
        return self.server.update(REPLICA_SETS, replica_set, after)

    def _finish(self, body: Json, sets: Sequence[Json], now: float) -> None:
        for each in sets[:-1]:
            if each["spec"]["replicas"]:
                self._scaled(each, 0)
        behaviour = self.behaviours[body["metadata"]["namespace"], body["metadata"]["name"]]
        told = behaviour.rolling and condition_of(body, "Progressing").get("reason") == COMPLETE
        behaviour.rolling = False
        newest = sets[-1]
        replicas = body["spec"]["replicas"]
        if (newest["spec"]["replicas"], at(newest, "status").get("replicas", 0)) != (replicas, replicas):
            self._scaled(newest, replicas)
        known = condition_of(body, "Available")
        available = None if known.get("status") == "True" else ("True", "MinimumReplicasAvailable")
        progressing = None if told else ("True", COMPLETE)
        self._status(body, self.replica_sets(body), now, progressing=progressing, available=available)

    def _give_up(self, body: Json, sets: Sequence[Json], now: float, *, quota: bool = False) -> None:
        deadline, progressing = body["spec"]["progressDeadlineSeconds"], condition_of(body, "Progressing")
        if deadline == NO_DEADLINE or progressing.get("status") == "False" or progressing.get("reason") == COMPLETE:
            return
        if now - seconds_of(progressing.get("lastUpdateTime")) >= deadline:
            self._status(body, sets, now, progressing=("False", GIVEN_UP), refused=quota)

    def _status(
        self,
        body: Json,
        sets: Sequence[Json],
        now: float,
        *,
        progressing: tuple[str, str] | None = None,
        available: tuple[str, str] | None = None,
        refused: bool = False,
    ) -> None:
        """Write the status as it is now; conditions that are None stay as they are."""
        metadata, spec = body["metadata"], body["spec"]
        conditions = {each["type"]: each for each in items(at(body, "status"), "conditions")}
        told = [("Available", available)]
        if spec["progressDeadlineSeconds"] == NO_DEADLINE:
            conditions.pop("Progressing", None)
        else:
            told.append(("Progressing", progressing))
        for kind, wanted in told:
            if wanted is not None:
                conditions[kind] = _condition(conditions.get(kind), kind, *wanted, metadata["name"], now)
        if refused:
            kind = "ReplicaFailure"
            conditions.setdefault(kind, _condition(None, kind, "True", "FailedCreate", _quota(metadata["name"]), now))
        else:
            conditions.pop("ReplicaFailure", None)
        newest = at(sets[-1], "status").get("replicas", 0) if sets else 0
        everything = sum(at(each, "status").get("replicas", 0) for each in sets)
        complete = conditions.get("Progressing", {}).get("reason") == COMPLETE
        if "Progressing" not in conditions:
            rolling = self.behaviours[metadata["namespace"], metadata["name"]].rolling
            complete = progressing == ("True", COMPLETE) or (progressing is None and not rolling)
        lost = conditions.get("Available", {}).get("status") == "False"
        there = newest if complete and not lost else everything - newest
        if not there and spec["replicas"] and available is None and "Available" in conditions:  # scaled from nothing
            down = ("False", "MinimumReplicasUnavailable")
            conditions["Available"] = _condition(conditions["Available"], "Available", *down, metadata["name"], now)
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": everything,
            "updatedReplicas": newest,
            "availableReplicas": there,
            "conditions": list(conditions.values()),
        }
        annotations = {**at(metadata, "annotations")}
        if sets:
            annotations[REVISION_ANNOTATION] = str(number_of(sets[-1]))
        after = {**body, "metadata": {**metadata, "annotations": annotations}, "status": status}
        self.server.update(DEPLOYMENTS, body, after, subresource="status")

    # Pods, told from ReplicaSets when they are asked for

    def pods(self, namespace: str) -> Sequence[Json]:
        """One Pod for each newest ReplicaSet: what there is to see of why a rollout does not get on."""
        return [pod for body in self.server.every(DEPLOYMENTS, namespace) if (pod := self._pod(body)) is not None]

    def _pod(self, body: Json) -> Json | None:
        sets = self.replica_sets(body)
        if not sets or not at(sets[-1], "status").get("replicas"):
            return None
        newest, metadata = sets[-1], body["metadata"]
        template = _template_of(newest)
        behaviour = self.behaviours.get((metadata["namespace"], metadata["name"]), Behaviour())
        own = behaviour.unwell or "" in behaviour.breaks
        ours = not own and behaviour.bears(template, behaviour.breaks | behaviour.crashes)
        theirs = not ours and behaviour.hinders(template)
        inits, containers = items(at(template, "spec"), "initContainers"), items(at(template, "spec"), "containers")
        return {
            "metadata": {
                "namespace": metadata["namespace"],
                "name": f"{newest['metadata']['name']}-pod",
                "labels": at(newest, "metadata", "labels"),
                "creationTimestamp": newest["metadata"]["creationTimestamp"],
                "ownerReferences": [{"kind": "ReplicaSet", "uid": newest["metadata"]["uid"], "controller": True}],
            },
            "status": {
                "initContainerStatuses": [
                    _container_status(each, behaviour.last_words, broken=ours)
                    | ({"ready": False, "started": False} if behaviour.starting else {})
                    for each in inits
                ],
                "containerStatuses": [
                    _container_status(each, behaviour.last_words, broken=theirs) for each in containers
                ],
            },
        }

    # Everything else

    def collect_garbage(self) -> None:
        """Delete what only had owners that are gone."""
        live = {
            each["metadata"]["uid"]
            for collection in self.server.collections.values()
            for each in collection.objects.values()
        }
        for resource in EVERY_RESOURCE:
            for place, each in [*self.server.collections[resource].objects.items()]:
                owners = items(each["metadata"], "ownerReferences")
                goes = owners and not any(owner["uid"] in live for owner in owners)
                if goes and "deletionTimestamp" not in each["metadata"]:
                    self.server.delete(resource, *place)
                    self._owned.pop(owners[0]["uid"], None)

    def end_namespaces(self) -> None:
        """Empty namespaces that are being deleted, and let them go when nothing is held back any more."""
        if not all(each.installed for each in self.server.collections.values()):
            return  # what cannot be listed may still be there
        for name in sorted(self._ending):
            namespace, left = self.server.get(NAMESPACES, "", name), 0
            for resource in EVERY_RESOURCE:
                if resource == PODS:
                    continue
                for each in self.server.every(resource, name):
                    self.server.delete(resource, name, each["metadata"]["name"])
                    left += self.server.find(resource, name, each["metadata"]["name"]) is not None
            if not left:
                self.server.remove(NAMESPACES, namespace)


def _digest(value: object) -> str:
    return hashlib.sha256(compact(value).encode()).hexdigest()[:10]


def number_of(replica_set: Json) -> int:
    """Its `deployment.kubernetes.io/revision`."""
    return int(at(replica_set, "metadata", "annotations").get(REVISION_ANNOTATION, "0"))


def _template_of(replica_set: Json) -> Json:
    """The Deployment's template that it was made for."""
    template: Json = replica_set["spec"]["template"]
    labels = {key: value for key, value in at(template, "metadata", "labels").items() if key != "pod-template-hash"}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _quota(name: str) -> str:
    return f'pods "{name}" is forbidden: exceeded quota'


def _copied(body: Json, number: int) -> Json:
    annotations = at(body, "metadata", "annotations")
    kept = {key: value for key, value in annotations.items() if key not in NOT_COPIED}
    return {**kept, REVISION_ANNOTATION: str(number)}


def _condition(before: Json | None, kind: str, status: str, reason: str, message: str, now: float) -> Json:
    moment = timestamp(now)
    changed = moment if before is None or before["status"] != status else before["lastTransitionTime"]
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message if kind == "ReplicaFailure" else f"{message}: {reason}",
        "lastUpdateTime": moment,
        "lastTransitionTime": changed,
    }


def _container_status(container: Json, last_words: str, *, broken: bool) -> Json:
    told: Json = {"name": container["name"], "ready": not broken, "started": not broken, "restartCount": 0}
    if not broken:
        return {**told, "state": {"running": {}}}
    return {
        **told,
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": last_words}},
    }
