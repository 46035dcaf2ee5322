"""What must hold after every write, whatever happens: told from the model's objects alone, by other means than ours.

What a Pod template bears is read from its images. A rollout of ours is in flight from our write until the Deployment's
controller is done with it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from sidecarpolicy import names
from sidecarpolicy.core.decode import InvalidPolicy, decode_policy
from sidecarpolicy.core.field_conflicts import Limits
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Policy, Rollout
from sidecarpolicy.core.progress import REFUSED_SECONDS
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import INIT_CONTAINERS, Entry, ItemKey
from sidecarpolicy.core.tree import Json, at, items, with_items
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, POLICIES, REVISIONS
from sidecarpolicy.names import Strategy
from tests.simulation.controllers import IMAGES, Controllers, borne_by, condition_of
from tests.simulation.faults import Request
from tests.simulation.server import Change, Place, Server

# Requests of one process in one minute, beside ten for each Deployment: more is a hot loop.
# What the operator writes on a Pod template of restarts.
OUR_RESTARTS = frozenset({names.RESTARTED_AT, names.CONFIG})

MOST_REQUESTS = 300

# So long may a request be on its way, in seconds.
ON_ITS_WAY = 0.1

# So soon must the status tell of an edit, in seconds.
PROMPTLY = 25.0

# What it depends on whether a status is true.
JUDGED = frozenset({DEPLOYMENTS, NAMESPACES, *POLICIES.values()})

# The label that the stories' policies select.
FLEET = {"fleet": "web"}

# ControllerRevisions of one policy beyond its limit: the update revision, the current one, and what waits to be pruned.
MOST_BEYOND_LIMIT = 4


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Flight:
    """A rollout of ours: *policy* on one Deployment. *unwell*: it was unhealthy before, so it holds nobody up.

    *stuck_at*: from then on (virtual seconds) a removal that is not done holds nobody up either, and no more does one
    that is *amended*: its owner has changed the template since, and may have broken it. *counts_from*: what
    its owner wants is done at any time, and a step that was sent before knows nothing of it.
    """

    policy: str
    uid: str
    revision: str | None
    unwell: bool
    stuck_at: float
    counts_from: float
    amended: bool = False


@dataclass
class Invariants:
    """Watches the model; *broken* is what did not hold, in the order in which it was seen.

    *blind*: whether some watch is held back now, so that nobody can know what is.
    """

    server: Server
    controllers: Controllers
    now: Callable[[], float]
    broken: list[str] = field(default_factory=list)
    flights: dict[tuple[str, Place], Flight] = field(default_factory=dict)
    most_in_flight: dict[str, int] = field(default_factory=dict)
    landed: set[str] = field(default_factory=set)
    rollouts: dict[tuple[Place, str], list[str | None]] = field(default_factory=dict)
    without_record: set[Place] = field(default_factory=set)
    """Where somebody took our record away: what we find there is its owner's from then on, and stays."""
    given_up: set[tuple[str, Place]] = field(default_factory=set)
    """Policies that are gone, and where they were given up: no write was taken there for progressDeadlineSeconds."""
    came_up: set[str] = field(default_factory=set)
    """The uids of Deployments that have been rolled out once."""
    closed: set[str] = field(default_factory=set)
    """Namespaces in which the cluster itself keeps sidecars out: by its nodes, or by what it enforces there."""
    _recent: dict[str, deque[float]] = field(default_factory=dict)
    _decoded: dict[str, tuple[Json, Policy | None, str]] = field(default_factory=dict)
    _edited: dict[Place, float] = field(default_factory=dict)
    _rollouts_before: dict[Place, Rollout] = field(default_factory=dict)
    """Of policies, what they asked for before they were edited last: nobody knows of an edit at once."""
    _untaken: dict[Place, tuple[float, float]] = field(default_factory=dict)
    """Deployments of which the last writes of ours failed: when the first of them in a row did, and the last."""
    _sent: dict[Place, float] = field(default_factory=dict)
    """When the last write of each Deployment was sent: one that was held up on its way knows nothing of what is now."""
    _unjudged: bool = True

    def __post_init__(self) -> None:
        self.server.observers.append(self.seen)

    def say(self, what: str) -> None:
        """Note what does not hold."""
        self.broken.append(f"at {self.now():.3f} s: {what}")

    def check(self) -> None:
        """Raise Broken where something did not hold."""
        if self.broken:
            raise Broken("\n".join(self.broken[:5]))

    # Requests

    def sent(self, request: Request) -> None:
        """Judge one request."""
        recent = self._recent.setdefault(request.process, deque())
        recent.append(request.at)
        while recent[0] < request.at - 60.0:
            recent.popleft()
        most = MOST_REQUESTS + 10 * len(self.server.collections[DEPLOYMENTS].objects)
        if len(recent) > most:
            self.say(f"{request.process} sent {len(recent)} requests in a minute, the last: {request.what}")
            recent.clear()
        if request.write and not request.guarded:
            self.say(f"{request.process} wrote without a precondition: {request.what}")
        if request.write and request.resource == DEPLOYMENTS:
            self._sent[request.namespace, request.name] = request.at

    def answered(self, request: Request, good: bool) -> None:
        """Note whether a Deployment lets itself be written."""
        if request.resource != DEPLOYMENTS or not request.write:
            return
        place = request.namespace, request.name
        if good:
            self._untaken.pop(place, None)
        else:
            self._untaken[place] = self._untaken.get(place, (self.now(), 0.0))[0], self.now()

    # Changes

    def restored(self, flights: dict[tuple[str, Place], Flight]) -> None:
        """Everything is as it was when *flights* were in flight."""
        self.flights = dict(flights)
        self.rollouts.clear()
        self.given_up.clear()
        self._untaken.clear()
        self._unjudged = True

    def seen(self, change: Change) -> None:
        """Judge one write."""
        self._unjudged = self._unjudged or change.resource in JUDGED
        if change.resource in POLICIES.values():
            before = change.before["metadata"]["generation"] if change.before is not None else 0
            if change.after["metadata"]["generation"] != before:
                self._edited[change.place] = self.now()
                if change.before is not None and (known := self.decode(change.before)[0]) is not None:
                    self._rollouts_before[change.place] = known.rollout
            self.given_up = {each for each in self.given_up if each[0] != change.place[1]}
            if change.type == "DELETED":
                self._note_given_up(change.after)
        if change.resource == DEPLOYMENTS:
            self._deployment(change)
        elif change.resource == REVISIONS and change.type == "ADDED":
            self._revisions(change)

    def _note_given_up(self, body: Json) -> None:
        """Note where a policy is given up: all writes failed there for progressDeadlineSeconds, up to the last try."""
        policy, _ = self.decode(body)
        if policy is None:
            return
        for place, (first, last) in self._untaken.items():
            found = self.server.find(DEPLOYMENTS, *place)
            if last - first + ON_ITS_WAY < policy.rollout.progress_deadline_seconds or found is None:
                continue
            if any(id_ == policy.id for id_, _ in _entries(found)):
                self.given_up.add((policy.id.name, place))

    def _deployment(self, change: Change) -> None:
        if change.type == "DELETED":
            self._untaken.pop(change.place, None)
            self.given_up = {each for each in self.given_up if each[1] != change.place}
            for key in [each for each in self.flights if each[1] == change.place]:
                del self.flights[key]
            for moved in [each for each in self.rollouts if each[0] == change.place]:
                del self.rollouts[moved]
            self.without_record.discard(change.place)
            return
        if change.before is None:
            if _sidecars(change.after) and names.RECORD not in _annotations(change.after):
                self.without_record.add(change.place)  # a backup of what had lost it
            return
        if change.manager == names.FIELD_MANAGER:
            self._ours(change, change.before)
        else:
            if names.RECORD in _annotations(change.before) and names.RECORD not in _annotations(change.after):
                self.without_record.add(change.place)
            if change.before["spec"]["template"] != change.after["spec"]["template"]:
                for key in [each for each in self.flights if each[1] == change.place]:
                    self.flights[key] = replace(self.flights[key], amended=True)
        if change.before["spec"].get("paused") and not change.after["spec"].get("paused"):
            for key in [each for each in self.flights if each[1] == change.place]:
                self.flights[key] = replace(self.flights[key], counts_from=self.now() + ON_ITS_WAY)
        if not change.after["spec"]["replicas"]:  # nothing of it is in flight, and it proves nothing
            for key in [each for each in self.flights if each[1] == change.place]:
                del self.flights[key]
        if self.controllers.rolled_out(change.after):
            self.came_up.add(change.after["metadata"]["uid"])
            if change.after["spec"]["replicas"]:
                self.landed |= borne_by(change.after["spec"]["template"])
            for key in [each for each in self.flights if each[1] == change.place]:
                del self.flights[key]

    def _ours(self, change: Change, before: Json) -> None:
        after = change.after
        ours = {item for body in (before, after) for _, entry in _entries(body) for item in entry.items}
        if _without(owners_part(before), ours) != _without(owners_part(after), ours):
            self.say(f"something of the owner of {'/'.join(change.place)} was changed")
        containers = Counter(
            item for _, entry in _entries(after) for item in entry.items if item.list == INIT_CONTAINERS
        )
        if twice := sorted(str(item) for item, count in containers.items() if count > 1):
            self.say(f"{twice[0]} of {'/'.join(change.place)} is recorded for two policies")
        old, new = (borne_by(each["spec"]["template"]) for each in (before, after))
        if old == new:
            return
        policies = {each.rpartition("-")[0] for each in old ^ new}
        wished = not any(_of(each, new) for each in policies) and (left_out(after) or not is_in_fleet(after))
        had = {id_.name: entry.revision for id_, entry in _entries(before)}  # what is put back begins nothing
        rolling = policies - {  # and what has failed goes back at any time
            id_.name
            for id_, entry in _entries(after)
            if entry.joined or entry.note.failed or had.get(id_.name) == entry.revision
        }
        exchanged = self._exchanged(before, after)
        # What gives way to another policy goes with that one's rollout. What comes in place of one that leaves comes
        # with the removal; where it has never been rolled out completely it is its own policy's step as well.
        giving_way = {one for one, _ in exchanged if not self._leaves(one, after)}
        coming = {other for one, other in exchanged if self._leaves(one, after)}
        if len(rolling - giving_way - coming) > 1 and not wished:
            self.say(f"{' and '.join(sorted(policies))} began to change {'/'.join(change.place)} together")
        for policy in policies - giving_way:
            self._moved(change, policy, old, new)

    def _exchanged(self, before: Json, after: Json) -> set[tuple[str, str]]:
        """Whose sidecar was there, and whose is there now under the same name."""
        old, new = ({each["name"]: str(each["image"]) for each in _sidecars(body)} for body in (before, after))
        found = {(_policy_of(old[name]), _policy_of(new[name])) for name in old.keys() & new.keys()}
        return {(one, other) for one, other in found if one != other}

    def _leaves(self, name: str, body: Json) -> bool:
        """Whether the policy of that name has to go from a Deployment, whatever else is there."""
        found = [
            each
            for resource in POLICIES.values()
            for place, each in self.server.collections[resource].objects.items()
            if place[1] == name and "deletionTimestamp" not in each["metadata"]
        ]
        policy = self.decode(found[0])[0] if found else None
        return policy is None or not self.selects(policy, body)

    def _moved(self, change: Change, name: str, old: Iterable[str], new: Iterable[str]) -> None:
        was, becomes = (_of(name, each) for each in (old, new))
        self.rollouts.setdefault((change.place, name), []).append(becomes)
        body, key = change.after, (name, change.place)
        if not body["spec"]["replicas"]:
            return
        if self.controllers.has_all_pods_of(body) and not self.controllers.is_rolling(body):
            self.flights.pop(key, None)  # it goes back before its controller has seen where it went
            return
        policy = self._policy(name)
        entry = next(
            (each for id_, each in _entries(body) if id_.name == name),
            None,
        )
        if entry is not None and entry.joined:
            return
        assert change.before is not None
        before = next((each for id_, each in _entries(change.before) if id_.name == name), None)
        if before is not None and entry is not None and before.revision == entry.revision:
            return  # what somebody took away is put back
        if becomes is None and not any(
            _of(name, borne_by(each["spec"]["template"]))
            for each in self.controllers.replica_sets(change.before)
            if each["spec"]["replicas"] or at(each, "status").get("replicas")
        ):  # none of its Pods has it: what goes on is its owner's first rollout, or another policy's
            self.flights.pop(key, None)
            return
        unwell = (
            condition_of(change.before, "Available").get("status") == "False"
            or condition_of(change.before, "Progressing").get("status") == "False"
            or (entry is not None and entry.note.unhealthy_before)  # so it was when that was decided
        )
        rolled_back = entry is not None and bool(entry.note.failed)
        pinned = names.PIN in at(body, "metadata", "annotations")
        had = self.flights.get(key)
        if had is not None:  # what a step of ours made unwell was well before, but nobody waits for its removal
            unwell = had.unwell or (unwell and becomes is None)
        deadline = policy.rollout.progress_deadline_seconds if policy is not None else 0
        wished = becomes is None and (left_out(body) or not is_in_fleet(body))
        late = self.now() > self._sent.get(change.place, self.now()) + ON_ITS_WAY
        counts_from = self.now() + (ON_ITS_WAY if wished or late else 0.0)
        uid = body["metadata"]["uid"]
        rested = self.controllers.rolled_out(change.before)
        amended = had.amended if had is not None else not rested
        self.flights[key] = Flight(name, uid, becomes, unwell, self.now() + deadline, counts_from, amended)
        in_flight = self.in_flight(name)
        self.most_in_flight[name] = max(self.most_in_flight.get(name, 0), in_flight)
        if had is not None or rolled_back or pinned or wished or unwell or late or policy is None:
            return
        if not rested:  # its owner rolls it out already: no further one is disturbed
            return
        if policy.rollout.strategy is not Strategy.PROGRESSIVE:
            return
        first = sum(
            each.revision == becomes and not self._held_up_at_home(place) for place, each in self.flights.items()
        )
        if becomes is not None and becomes not in self.landed and first > 1:
            self.say(f"{first} roll out {becomes}, and none has ever completed it")
        if in_flight > self.budget(policy):
            self.say(f"{in_flight} in flight for {name}, over the budget of {self.budget(policy)}: {was} → {becomes}")

    def in_flight(self, policy: str) -> int:
        """How many Deployments roll out something of *policy*, without those that hold nobody up."""
        return sum(
            each.policy == policy
            and not self._held_up_at_home(key)
            and each.counts_from <= self.now()
            and (each.revision is not None or self.now() < each.stuck_at)
            for key, each in self.flights.items()
        )

    def _held_up_at_home(self, key: tuple[str, Place]) -> bool:
        """Whether a Deployment was unhealthy before, failed for reasons of its namespace, or is its owner's matter."""
        flight = self.flights[key]
        body = self.server.find(DEPLOYMENTS, *key[1])
        if self.now() < flight.counts_from:
            return True
        namespace = self.server.find(NAMESPACES, "", key[1][0])
        if body is not None and (body["spec"].get("paused") or _goes(body) or _goes(namespace)):
            return True
        down = body is not None and condition_of(body, "Available").get("status") == "False"
        if body is not None and down and (left_out(body) or not is_in_fleet(body)):
            return True
        if body is not None and _is_contested(flight.policy, body):
            return True
        refused = key[1][0] in self.controllers.without_quota or (body is not None and self._says_refused(body))
        refused = refused and self.now() > flight.counts_from + REFUSED_SECONDS
        return flight.unwell or refused or (flight.amended and self.now() >= flight.stuck_at)

    def _says_refused(self, body: Json) -> bool:
        """Whether its newest ReplicaSet still says that it cannot make Pods: so it does until its controller looks."""
        sets = self.controllers.replica_sets(body)
        return bool(sets) and bool(condition_of(sets[-1], "ReplicaFailure"))

    def budget(self, policy: Policy) -> int:
        """How many may; shortly after an edit, what was allowed before it."""
        concerned = [
            place
            for place, body in self.server.collections[DEPLOYMENTS].objects.items()
            if (policy.id.name, place) in self.flights or self.selects(policy, body) or self._bears(policy.id, body)
        ]
        place = (policy.id.namespace, policy.id.name)
        rollouts = [policy.rollout]
        if place in self._rollouts_before and self.now() < self._edited[place] + PROMPTLY:
            rollouts.append(self._rollouts_before[place])
        return max(each.budget(len(concerned)) for each in rollouts)

    def selects(self, policy: Policy, body: Json) -> bool:
        """Whether *policy* selects a Deployment."""
        namespace = body["metadata"]["namespace"]
        if policy.namespace_selector is not None:
            labels = at(self.server.find(NAMESPACES, "", namespace), "metadata", "labels")
            if not policy.namespace_selector.matches(labels):
                return False
        elif namespace != policy.id.namespace:
            return False
        return policy.selector.matches(at(body, "spec", "template", "metadata", "labels"))

    @property
    def stopped(self) -> bool:
        """Whether the emergency switch is on: nothing is repaired."""
        namespaces = self.server.collections[NAMESPACES].objects.values()
        return any(at(each, "metadata", "annotations").get(names.STOP) == "true" for each in namespaces)

    def gives_way(self, policy: Json, body: Json) -> bool:
        """Whether another policy of precedence has a sidecar of the same name for a Deployment."""
        mine = {each["name"] for each in policy["spec"]["sidecars"]}
        for resource in POLICIES.values():
            for other in self.server.collections[resource].objects.values():
                found = self.decode(other)[0]
                shared = mine & {each.name for each in found.sidecars} if found is not None else None
                if found is None or not shared or "deletionTimestamp" in other["metadata"]:
                    continue
                if _rank(other) < _rank(policy) and self.selects(found, body):
                    return True
        return False

    def is_in_first_rollout(self, body: Json) -> bool:
        """Whether a Deployment has never come up, whatever its owner has changed since: it cannot be updated."""
        return bool(body["spec"]["replicas"]) and body["metadata"]["uid"] not in self.came_up

    def _bears(self, policy: PolicyId, body: Json) -> bool:
        return _of(policy.name, borne_by(body["spec"]["template"])) is not None

    def _policy(self, name: str) -> Policy | None:
        for resource in POLICIES.values():
            for place, body in self.server.collections[resource].objects.items():
                if place[1] == name:
                    return self.decode(body)[0]
        return None

    def decode(self, body: Json) -> tuple[Policy | None, str]:
        """What can be read of a policy, and what is wrong; as the last time where its spec is the very same."""
        name = body["metadata"]["name"]
        spec, found, problems = self._decoded.get(name, ({}, None, ""))
        if spec is not body["spec"]:
            found, problems = None, ""
            try:
                found = decode_policy(body, strict=False)
            except InvalidPolicy as error:
                found, problems = error.readable, str(error)
            except InvalidInput as error:
                problems = str(error)
            self._decoded[name] = (body["spec"], found, problems)
        return found, problems

    def _revisions(self, change: Change) -> None:
        labels = change.after["metadata"]["labels"]
        name = labels.get(names.POLICY_NAME_LABEL)
        policy = self._policy(str(name))
        there = [
            each
            for each in self.server.collections[REVISIONS].objects.values()
            if at(each, "metadata", "labels").get(names.POLICY_NAME_LABEL) == name
        ]
        if policy is None:
            return
        in_use = {
            revision
            for each in self.server.collections[DEPLOYMENTS].objects.values()
            for id_, entry in _entries(each)
            for revision in (entry.revision, entry.note.previous)
            if id_.name == name
        }
        if len(there) > policy.revision_history_limit + len(in_use) + MOST_BEYOND_LIMIT:
            self.say(f"{len(there)} ControllerRevisions of {name}, limit {policy.revision_history_limit}")

    # What the status says, when nothing is on the way

    def judge_status(self) -> None:
        """Ready is true only where every Deployment that is selected, and not left out by its owner, runs the spec."""
        self._judge_promptness()
        if not self._unjudged:
            return
        self._unjudged = False
        for resource in POLICIES.values():
            for body in [*self.server.collections[resource].objects.values()]:
                status = at(body, "status")
                ready = next((each for each in items(status, "conditions") if each["type"] == "Ready"), None)
                if ready is None or ready["status"] != "True":
                    continue
                if status.get("observedGeneration") != body["metadata"]["generation"]:
                    continue
                for each in untrue(self, body):
                    self.say(f"{body['metadata']['name']} is Ready ({ready['message']}), but {each}")

    def _judge_promptness(self) -> None:
        """An edit is told of soon, whatever comes of it."""
        for resource in POLICIES.values():
            for place, body in self.server.collections[resource].objects.items():
                generation, told = body["metadata"]["generation"], at(body, "status").get("observedGeneration", 0)
                if not all(self.server.collections[each].installed for each in POLICIES.values()):
                    self._edited[place] = self.now()  # nobody is told of it before the kinds are served
                elif told != generation and self.now() >= self._edited.get(place, self.now()) + PROMPTLY:
                    self.say(f"{place[1]} was edited, and its status still tells of generation {told}")


def untrue(invariants: Invariants, body: Json) -> list[str]:
    """What hinders *body*, a policy, from being Ready."""
    policy, problems = invariants.decode(body)
    if policy is None or problems:
        return [f"its spec cannot be read: {problems}"]
    wanted = {each["container"]["image"] for each in body["spec"]["sidecars"]}
    found = []
    for each in invariants.server.every(DEPLOYMENTS):
        name = f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        template = each["spec"]["template"]
        bears = {image for image in _images(template) if image.startswith(f"{IMAGES}{policy.id.name}:")}
        if policy.id.namespace not in ("", each["metadata"]["namespace"]):
            continue  # a copy of something of its own
        if not invariants.selects(policy, each):
            goes = "deletionTimestamp" in each["metadata"]  # and its Pods with it
            if bears and not goes and place_of(each) not in invariants.without_record:
                found.append(f"{name} is not selected and bears {', '.join(bears)}")
        elif left_out(each) or each["metadata"]["namespace"] in invariants.closed:
            continue
        elif any(place == place_of(each) and other != policy.id.name for other, place in invariants.flights):
            continue  # the other one's rollout is halted there: it is skipped meanwhile
        elif invariants.gives_way(body, each):
            continue
        elif invariants.stopped and any(id_ == policy.id and entry.revision for id_, entry in _entries(each)):
            continue  # what somebody has taken away of it is put back when it goes on
        elif bears != wanted:
            found.append(f"{name} bears {', '.join(bears) or 'nothing'}")
        elif not invariants.controllers.rolled_out(each) and (
            (policy.id.name, place_of(each)) in invariants.flights or invariants.is_in_first_rollout(each)
        ):
            found.append(f"{name} is not rolled out")
    return found


def _rank(policy: Json) -> tuple[bool, int]:
    """By what the stories' policies have precedence; lower comes first."""
    return bool(policy["metadata"].get("namespace")), -int(policy["spec"].get("priority", 0))


def left_out(body: Json) -> bool:
    """Whether its owner leaves a Deployment out, or Kubernetes does."""
    metadata = body["metadata"]
    return bool(
        "deletionTimestamp" in metadata
        or at(metadata, "labels").get(names.INJECT) == "false"
        or names.PIN in at(metadata, "annotations")
        or body["spec"].get("paused")
        or any(each.get("controller") for each in items(metadata, "ownerReferences"))
        or (body["spec"]["strategy"]["type"] == "Recreate" and names.ALLOW_DOWNTIME not in at(metadata, "annotations"))
        or has_a_name_of_ours(body)
    )


def place_of(body: Json) -> Place:
    """Where an object is stored."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def has_a_name_of_ours(body: Json) -> bool:
    """Whether its owner has a container of a sidecar's name; without a record it is theirs, whatever image it has."""
    recorded = {item.name for item in record_of(at(body, "metadata", "annotations").get(names.RECORD)).items}
    return any(
        each["name"] in ("proxy", "log")
        and (each["name"] not in recorded or not str(each.get("image", "")).startswith(IMAGES))
        for listed in ("initContainers", "containers")
        for each in items(at(body, "spec", "template", "spec"), listed)
    )


def _is_contested(policy: str, body: Json) -> bool:
    """Whether somebody has taken away once more, and once too often, what *policy* has on a Deployment."""
    entry = next((each for id_, each in _entries(body) if id_.name == policy), None)
    gone = entry is not None and bool(entry.revision) and _of(policy, borne_by(body["spec"]["template"])) is None
    return gone and entry is not None and entry.note.undone.count + 1 >= Limits().threshold


def _goes(body: Json | None) -> bool:
    """Whether something is being deleted, and everything in it."""
    return "deletionTimestamp" in at(body, "metadata")


def _annotations(body: Json) -> Json:
    return at(body, "metadata", "annotations")


def is_in_fleet(body: Json) -> bool:
    """Whether its owner leaves the label on it that the stories' policies select."""
    return bool(FLEET.items() <= at(body, "spec", "template", "metadata", "labels").items())


def owners_part(body: Json) -> Json:
    """What of a Deployment is its owner's: everything but our annotation and what bears an image of ours."""
    metadata, spec = body["metadata"], body["spec"]
    template = spec["template"]
    inits = [each for each in items(template["spec"], "initContainers") if not _is_ours(each, body)]
    pod = {key: value for key, value in template["spec"].items() if key != "initContainers"}
    if inits:
        pod["initContainers"] = inits
    annotations = {key: value for key, value in at(metadata, "annotations").items() if key != names.RECORD}
    of_pods = at(template, "metadata")
    restarts = {key: value for key, value in at(of_pods, "annotations").items() if key not in OUR_RESTARTS}
    of_pods = {key: value for key, value in of_pods.items() if key != "annotations"} | (
        {"annotations": restarts} if restarts else {}
    )
    return {
        "labels": at(metadata, "labels"),
        "annotations": annotations,
        "finalizers": metadata.get("finalizers"),
        "spec": {**spec, "template": {**template, "metadata": of_pods, "spec": pod}},
    }


def _without(part: Json, ours: set[ItemKey]) -> Json:
    """An owner's part without the volumes, variables, mounts and pull secrets that are in a record."""
    pod = part["spec"]["template"]["spec"]

    def kept(holder: Json, key: str, identity: str, container: str = "") -> Json:
        left = [each for each in items(holder, key) if ItemKey(key, each[identity], container) not in ours]
        return with_items(holder, key, left)

    def own(container: Json) -> Json:
        container = kept(container, "env", "name", container["name"])
        return kept(container, "volumeMounts", "mountPath", container["name"])

    for key in ("initContainers", "volumes", "imagePullSecrets"):
        pod = kept(pod, key, "name")
    for key in ("initContainers", "containers"):
        pod = with_items(pod, key, [own(each) for each in items(pod, key)])
    return {**part, "spec": {**part["spec"], "template": {**part["spec"]["template"], "spec": pod}}}


def _is_ours(container: Json, body: Json) -> bool:
    """Sidecars of stories have an image that is named after their policy; what an owner bent of one is still ours."""
    if container.get("restartPolicy") != "Always":
        return False
    record = record_of(at(body, "metadata", "annotations").get(names.RECORD))
    named = {item.name for item in record.items}
    return str(container.get("image", "")).startswith(IMAGES) or container["name"] in named


def _images(template: Json) -> list[str]:
    return [
        str(each.get("image", ""))
        for each in items(at(template, "spec"), "initContainers")
        if each.get("restartPolicy") == "Always"
    ]


def _sidecars(body: Json) -> list[Json]:
    """The native sidecars of a Deployment that have an image of ours."""
    listed = items(at(body, "spec", "template", "spec"), "initContainers")
    return [each for each in listed if each.get("restartPolicy") == "Always" and _policy_of(str(each.get("image", "")))]


def _policy_of(image: str) -> str:
    """The policy that an image is named after; empty for an image of somebody else's."""
    return image.removeprefix(IMAGES).partition(":")[0] if image.startswith(IMAGES) else ""


def _of(policy: str, revisions: Iterable[str]) -> str | None:
    return next((each for each in revisions if each.rpartition("-")[0] == policy), None)


def _entries(body: Json) -> Iterable[tuple[PolicyId, Entry]]:
    return record_of(at(body, "metadata", "annotations").get(names.RECORD)).entries.items()
