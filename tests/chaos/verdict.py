"""What must be so when a scenario is over, whatever happened in it.

Judged by the objects, the audit log and the onlooker's notes; the operator is only asked for its status, which is one
of the things on trial.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sidecarpolicy import names
from sidecarpolicy.core.injection import inject
from sidecarpolicy.core.record import Mangled, parse
from sidecarpolicy.core.revision import Revision, from_controller_revision, object_name
from tests.audit import Audit, Request
from tests.builders import Manifest
from tests.chaos.onlooker import Seen
from tests.chaos.patience import steadily
from tests.chaos.replicas import Replicas
from tests.chaos.stage import SHARE, Stage, owners_part, rollouts_of
from tests.polling import poll

AT_REST = 5.0
"""Seconds after the end in which nothing may be written any more."""
ANSWERED = 1.0
"""Seconds of it for what was under way when the status was read."""
EXAMPLES = 3


@dataclass(slots=True, kw_only=True)
class Verdict:
    """*problems*: sentences; none if all is well. *figures*: what was counted."""

    problems: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def hold(self, what: str, culprits: Sequence[object]) -> None:
        """Note a problem if there are *culprits*."""
        if culprits:
            listed = "; ".join(str(each) for each in culprits[:EXAMPLES])
            more = f" and {len(culprits) - EXAMPLES} more" if len(culprits) > EXAMPLES else ""
            self.problems.append(f"{what}: {listed}{more}")


def judge(stage: Stage, audit: Audit, seen: Seen, *, owners_roll: bool, patience: float) -> Verdict:
    """Wait until the policy is Ready (at most *patience* seconds for each step), then look at everything."""
    verdict = Verdict()
    began = time.monotonic()
    try:
        stage.await_ready(patience=patience)
    except AssertionError:
        verdict.problems.append(f"not Ready, and no step in {patience:.0f} s: {_said(stage)}")
    verdict.figures["seconds from the last fault to Ready"] = round(time.monotonic() - began, 1)
    rest = time.time()
    time.sleep(AT_REST)  # for this long nothing must happen
    at_rest = [each for each in audit.writes() if each.at > rest + ANSWERED and each.resource != "events"]
    verdict.hold(f"written in {AT_REST:g} s of rest", [f"{each.verb} {each.resource} {each.name}" for each in at_rest])
    _objects(verdict, stage)
    _rollouts(verdict, stage, audit)
    _leadership(verdict, stage.replicas, audit)
    _guards(verdict, stage.replicas)
    budget = max(1, len(stage.owned) * SHARE // 100)
    if stage.rollout.get("strategy") != "AllAtOnce":
        verdict.figures["most in flight, and the budget"] = f"{seen.most_in_flight} of {budget}"
        if seen.most_in_flight > budget:
            verdict.problems.append(f"{seen.most_in_flight} were in flight, with a budget of {budget}")
    verdict.figures["statuses seen"] = seen.statuses
    verdict.hold(
        "Ready was said and was not so",
        [f"{each.revision} at {each.at:.1f}" for each in seen.untrue(owners_roll=owners_roll)],
    )
    return verdict


def _said(stage: Stage) -> str:
    ready = next((each for each in stage.status().get("conditions", []) if each["type"] == "Ready"), None)
    return f"{ready['reason']}: {ready['message']}" if ready else "it has no status of its newest generation"


def _objects(verdict: Verdict, stage: Stage) -> None:
    """The state is the pure function's, nothing of an owner is lost, and the status says so."""
    found = poll(steadily(stage.fleet.deployments), until=lambda some: some is not None)
    status = stage.status()
    targets = status.get("targets", {})
    told = {key: targets.get(key, 0) for key in ("matched", "updated", "pending", "progressing", "failed", "skipped")}
    should = dict.fromkeys(told, 0) | {"matched": len(found), "updated": len(found)}
    verdict.hold("the status does not say that all have it", [told] if told != should else [])
    verdict.hold("gone", sorted(stage.owned.keys() - found.keys()))
    revision = _revision(stage, str(status.get("updateRevision", "")))
    if revision is None:
        verdict.problems.append(f"there is no revision {status.get('updateRevision')!r}")
        return
    image = f"example.test/proxy:{stage.edits}"
    proxy = revision.sidecar("proxy")
    verdict.hold(
        "the update revision is not the newest spec",
        [] if proxy and proxy.container["image"] == image else [revision.name],
    )
    differing = [f"{name}: {why}" for name, each in sorted(found.items()) for why in wrong(each, revision)]
    verdict.hold("not as the policy makes them", differing)
    lost = [name for name, each in sorted(found.items()) if owners_part(each) != stage.owned.get(name)]
    verdict.hold("something of the owner's is lost", lost)


def _revision(stage: Stage, name: str) -> Revision | None:
    for body in stage.fleet.get("controllerrevisions", version="apps/v1")["items"]:
        stored = from_controller_revision(body)
        if stored.revision.name == name and stored.object_name == object_name(stored.revision.policy, name):
            return stored.revision
    return None


def wrong(deployment: Manifest, revision: Revision) -> Iterator[str]:
    """What of a Deployment is other than `inject` has it."""
    template = deployment["spec"]["template"]
    try:
        record = parse(deployment["metadata"].get("annotations", {}).get(names.RECORD))
    except Mangled as error:
        yield f"its record cannot be read: {error}"
        return
    carried = {str(policy): entry.revision for policy, entry in record.entries.items()}
    if carried != {str(revision.policy): revision.name}:
        yield f"it carries {carried or 'nothing'}"
        return
    again, written = inject(template, [revision], record)
    if again != template:
        yield "injecting again would change its template"
    if written.items != record.items:
        yield "injecting again would change its record"
    missing = {each.name for each in revision.sidecars} - {
        each["name"] for each in template["spec"].get("initContainers", [])
    }
    if missing:
        yield f"it has no {', '.join(sorted(missing))}"


def _rollouts(verdict: Verdict, stage: Stage, audit: Audit) -> None:
    """No Deployment was written, or rolled out, more often than something about it changed."""
    found = stage.fleet.deployments()
    patches = audit.patches_of(stage.namespace)
    expected = stage.edits + stage.undone
    often = {name: count for name, count in patches.items() if count > expected}
    verdict.hold(f"written more often than the {expected} edits", sorted(often.items()))
    rolled = {name: rollouts_of(each) - stage.rolled_before.get(name, 0) for name, each in found.items()}
    edits = stage.edits - stage.undone
    too_often = {name: count for name, count in rolled.items() if count > edits + stage.owners_edits.get(name, 0)}
    verdict.hold("rolled out more often than changed", sorted(too_often.items()))
    codes = Counter(each.code for each in audit.requests() if each.resource == "deployments" and each.verb == "patch")
    verdict.figures["Deployments"] = len(found)
    verdict.figures["edits of the policy"] = stage.edits
    verdict.figures["successful patches of Deployments"] = sum(patches.values())
    verdict.figures["most rollouts of one Deployment"] = max(rolled.values(), default=0)
    refused = {str(code): count for code, count in sorted(codes.items()) if code >= 300}
    verdict.figures["refused patches, by code"] = refused
    verdict.figures["status writes"] = sum(
        each.resource in names.PLURALS.values() and each.subresource == "status" for each in audit.writes()
    )


def _leadership(verdict: Verdict, replicas: Replicas, audit: Audit) -> None:
    """Nobody wrote after another replica had taken the Lease.

    What a leader had sent before may arrive late. It changes nothing that has changed since; of a status that is all
    that can be asked: it carries the resourceVersion that it is about. (A late patch of a workload would be a rollout.)
    """
    who = {credential: each.name for each in replicas.members for credential in each.credentials}
    requests = audit.requests()
    changes, without = written_without_lease([each for each in requests if each.subresource != "status"], who)
    verdict.figures["changes of the leader"] = changes
    if late := len(written_without_lease(requests, who)[1]) - len(without):
        verdict.figures["statuses of the one before that arrived late"] = late
    verdict.hold("written without the Lease", without)


def written_without_lease(requests: Sequence[Request], who: Mapping[str, str]) -> tuple[int, list[str]]:
    """Return how often the Lease changed hands, and the writes of those who did not hold it. *who*: by credential.

    Whoever wrote the Lease last holds it. Events are no such writes: they tell what happened before.
    """
    holder, changes, without = "", 0, []
    for each in sorted(requests, key=lambda request: request.at):
        name = who.get(each.credential, f"unknown token {each.credential}")
        if _takes_lease(each):
            changes += name != holder and holder != ""
            holder = name
        elif each.writes and each.resource != "events" and name != holder:
            without.append(f"{name} wrote {each.resource} {each.name} while {holder or 'nobody'} held it")
    return changes, without


def _takes_lease(request: Request) -> bool:
    return request.resource == "leases" and request.verb in ("create", "patch", "update") and request.code < 300


def _guards(verdict: Verdict, replicas: Replicas) -> None:
    """Every write carried a precondition; Events harm nobody."""
    unguarded = Counter(
        f"{each.method} {_kind(each.path)}"
        for member in replicas.members
        for each in member.proxy.log.writes
        if not each.guarded and each.code < 300 and "/events" not in each.path
    )
    verdict.hold("written without a precondition", [f"{what} ({count} times)" for what, count in unguarded.items()])


def _kind(path: str) -> str:
    """The resource (and subresource) that a path of the API leads to."""
    parts = path.partition("?")[0].strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    rest = rest[2:] if rest[:1] == ["namespaces"] and len(rest) > 2 else rest
    return "/".join([rest[0], *rest[2:]]) if rest else path
