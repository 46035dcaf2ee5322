"""Every situation that a policy's status can tell of, as an object, and what each judge has to make of it.

The objects come from core/status.py, so whatever it says is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.field_conflicts import FieldConflict
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import RolloutState, plan
from sidecarpolicy.core.policy import CanaryGroup, Rollout
from sidecarpolicy.core.progress import State, Target, in_conflict
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.core.status import Rejection, Report, status_of
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.names import Approval, Reason, Removal, SkipReason, Strategy
from tests.builders import a_cluster_policy, a_policy
from tests.core.fleets import Everything, a_fleet
from tests.core.objects import START, WEB, at_second

NOW = START + 3600
GENERATION = 2
UPDATE, CURRENT = "web-7d21c0a9e1", "web-6f9c11d2ab"

S, P, G, U, F = State.SKIPPED, State.PENDING, State.PROGRESSING, State.UPDATED, State.FAILED
PAUSED = Rollout(paused=True)
FOUGHT = FieldConflict(by="'helm'", what="init container 'proxy'", times=3, until=NOW + 600, waits=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One situation. *ready* and *reason* are those of condition Ready, empty where there is none.

    *abnormal*: the abnormal-true condition that is there, if any. *kubectl*: `kubectl wait --for=condition=Ready` ends.
    """

    name: str
    words: str
    status: Json
    ready: str
    reason: str
    abnormal: str = ""
    kstatus: str
    argo: str
    deleting: bool = False
    spec: Json = field(default_factory=dict)

    @property
    def kubectl(self) -> bool:
        """Whether a wait for Ready ends; a status of an older generation does not count."""
        return self.ready == "True" and self.status["observedGeneration"] == GENERATION

    def policy(self, kind: str = names.POLICY) -> Json:
        """The policy as the API server would serve it."""
        body = a_policy(**self.spec) if kind == names.POLICY else a_cluster_policy(**self.spec)
        metadata = body["metadata"] | {
            "uid": "0f8d6a52-3c1e-4f7b-9a64-5d2b7c9e1f30",
            "creationTimestamp": at_second(0),
            "generation": GENERATION,
            "finalizers": [names.FINALIZER],
        }
        if self.deleting:
            metadata |= {"deletionTimestamp": at_second(3000), "deletionGracePeriodSeconds": 0}
        return body | {"metadata": metadata, "status": self.status}


def targets(*states: State, first: int = 1) -> tuple[Target, ...]:
    """Targets in these states, numbered from *first*."""
    by_state: dict[State, Json] = {
        S: {"skip": Skip(reason=SkipReason.CONTROLLED, message="the Deployment is controlled by Shop/cart")},
        P: {"revision": CURRENT, "recorded": True},
        G: {"revision": UPDATE, "holds_slot": True},
        U: {"revision": UPDATE, "evidence": True, "available": True, "recorded": True},
        F: {"revision": UPDATE, "holds_slot": True, "late_since": START + 600, "message": "proxy: ImagePullBackOff"},
    }
    return tuple(
        Target(workload=WorkloadId(namespace="shop", name=f"cart-{number:03}"), state=state, **by_state[state])
        for number, state in enumerate(states, start=first)
    )


def a_status(*states: State, rejection: Rejection | None = None, problem: str = "", **changes: Any) -> Json:
    """What core/status.py says of targets in these states."""
    fields: dict[str, Any] = {
        "rollout": Rollout(),
        "generation": GENERATION,
        "update": UPDATE,
        "attempt": f"{UPDATE}#1",
        "current": CURRENT,
        "now": NOW,
        "stored": Everything(),
    } | {key: changes.pop(key) for key in list(changes) if key in RolloutState.__dataclass_fields__}
    state = RolloutState(policy=WEB, **fields)
    fleet = a_fleet(state.update, changes.pop("targets", targets(*states)), **changes)
    report = Report(
        generation=GENERATION, state=state, fleet=fleet, plan=plan(state, fleet), rejection=rejection, problem=problem
    )
    return status_of(report, {}, NOW)


def _rejected() -> Iterator[Example]:
    invalid = Rejection(
        reason=Reason.INVALID, message='spec.sidecars[0].container.image: must be given, not ""; it is required'
    )
    cycle = Rejection(reason=Reason.ORDER_CYCLE, message="start orders in a circle: proxy after vault after proxy")
    old = Rejection(
        reason=Reason.UNSUPPORTED_CLUSTER,
        message="native sidecars need Kubernetes 1.29 or newer: the API server dropped restartPolicy: Always",
    )
    failed: dict[str, Any] = {"abnormal": "Stalled", "kstatus": "Failed", "argo": "Degraded"}
    yield Example(
        name="invalid",
        words="rejected: the spec is invalid",
        status=a_status(U, rejection=invalid),
        ready="False",
        reason="Invalid",
        **failed,
    )
    yield Example(
        name="order-cycle",
        words="rejected: `startAfter` goes in a circle across policies",
        status=a_status(U, rejection=cycle),
        ready="False",
        reason="OrderCycle",
        **failed,
    )
    yield Example(
        name="unsupported-cluster",
        words="the cluster cannot run native sidecars",
        status=a_status(P, rejection=old),
        ready="False",
        reason="UnsupportedCluster",
        **failed,
    )


def _unseen() -> Iterator[Example]:
    yield Example(
        name="created",
        words="created, not seen by the operator yet",
        status={"observedGeneration": -1},
        ready="",
        reason="",
        kstatus="InProgress",
        argo="Progressing",
    )
    done = a_status(U, U)
    stale = [{**each, "observedGeneration": GENERATION - 1} for each in items(done, "conditions")]
    yield Example(
        name="edited",
        words="edited, the edit not seen yet",
        status={**done, "observedGeneration": GENERATION - 1, "conditions": stale},
        ready="True",
        reason="RolloutComplete",
        kstatus="InProgress",
        argo="Progressing",
    )


def _deleted() -> Iterator[Example]:
    removing = a_status(U, U, P, deleting=True, update=None)
    yield Example(
        name="removing",
        words="being deleted: sidecars are being removed",
        status=removing,
        ready="Unknown",
        reason="Removing",
        abnormal="Reconciling",
        kstatus="Terminating",
        argo="Progressing",
        deleting=True,
    )
    manual = Rollout(removal=Removal.MANUAL)
    yield Example(
        name="deletion-held",
        words="being deleted, held until approved",
        status=a_status(deleting=True, update=None, rollout=manual, removing=targets(U, U, P)),
        spec={"rollout": {"removal": "Manual"}},
        ready="Unknown",
        reason="RemovalHeld",
        kstatus="Terminating",
        argo="Suspended",
        deleting=True,
    )
    unreadable = Rejection(reason=Reason.INVALID, message="spec.sidecars: must be a list", unreadable=True)
    yield Example(
        name="deletion-unreadable",
        words="being deleted, held because the spec cannot be read",
        status=a_status(deleting=True, update=None, rejection=unreadable, removing=targets(U, U)),
        ready="Unknown",
        reason="RemovalHeld",
        kstatus="Terminating",
        argo="Suspended",
        deleting=True,
    )


def _ended() -> Iterator[Example]:
    good: dict[str, Any] = {"ready": "True", "kstatus": "Current", "argo": "Healthy"}
    yield Example(name="no-targets", words="nothing selected", status=a_status(), reason="NoTargets", **good)
    yield Example(
        name="complete",
        words="done: every workload that is not skipped has it",
        status=a_status(U, U, S),
        reason="RolloutComplete",
        **good,
    )
    yield Example(
        name="complete-and-paused",
        words="done, and paused",
        status=a_status(U, U, rollout=PAUSED),
        spec={"rollout": {"paused": True}},
        reason="RolloutComplete",
        **good,
    )
    bad: dict[str, Any] = {"ready": "False", "abnormal": "Stalled", "kstatus": "Failed", "argo": "Degraded"}
    yield Example(
        name="all-skipped",
        words="everything selected is skipped",
        status=a_status(S, S),
        reason="AllSkipped",
        **bad,
    )
    halted = a_status(F, P, P, U, rollout=Rollout(max_failures=1))
    yield Example(
        name="halted",
        words="all rollout slots are taken by failed workloads",
        status=halted,
        reason="RolloutHalted",
        **bad,
    )
    yield Example(
        name="rolled-back",
        words="too many failed; they were rolled back",
        status=a_status(F, P, P, U, halted=True),
        reason="RolledBack",
        **bad,
    )
    yield Example(
        name="completed-with-failures",
        words="done, some failed within maxFailures",
        status=a_status(U, U, F, rollout=Rollout(max_failures=1)),
        reason="CompletedWithFailures",
        **bad,
    )
    refused = Target(
        workload=WorkloadId(namespace="shop", name="cart-003"),
        state=F,
        reason=names.REFUSED,
        message='admission webhook "images.example" denied the request',
        not_counted=True,
    )
    yield Example(
        name="refused",
        words="done, except where the API server refuses the change",
        status=a_status(targets=(*targets(U, U), refused)),
        reason="CompletedWithFailures",
        **bad,
    )
    yield Example(
        name="field-conflict",
        words="done, except where another writer keeps undoing us",
        status=a_status(targets=(*targets(U, U), in_conflict(targets(U, first=3)[0], FOUGHT))),
        reason="FieldConflict",
        **bad,
    )


def _waiting() -> Iterator[Example]:
    waits: dict[str, Any] = {"ready": "Unknown", "kstatus": "InProgress", "argo": "Suspended"}
    yield Example(
        name="paused",
        words="paused by its author",
        status=a_status(U, P, P, rollout=PAUSED),
        spec={"rollout": {"paused": True}},
        reason="Paused",
        **waits,
    )
    yield Example(
        name="stopped",
        words="stopped by the emergency switch",
        status=a_status(U, P, P, stopped=True),
        reason="Stopped",
        **waits,
    )
    early = CanaryGroup(name="early", most=1, approval=Approval.MANUAL)
    yield Example(
        name="awaiting-approval",
        words="a canary group is done, and waits for its author's approval",
        status=a_status(U, P, P, rollout=Rollout(canary=(early,))),
        spec={"rollout": {"canary": [{"name": "early", "max": 1, "approval": "Manual"}]}},
        reason="AwaitingApproval",
        **waits,
    )
    yield Example(
        name="awaiting-owners",
        words="`OnNextChange`: waits for the owners' next changes",
        status=a_status(U, P, P, rollout=Rollout(strategy=Strategy.ON_NEXT_CHANGE)),
        spec={"rollout": {"strategy": "OnNextChange"}},
        reason="AwaitingOwners",
        **waits,
    )
    yield Example(
        name="removal-held",
        words="a removal is held until approved",
        status=a_status(U, rollout=Rollout(removal=Removal.MANUAL), removing=targets(U, first=90)),
        spec={"rollout": {"removal": "Manual"}},
        reason="RemovalHeld",
        **waits,
    )


def _moving() -> Iterator[Example]:
    moves: dict[str, Any] = {
        "ready": "Unknown",
        "abnormal": "Reconciling",
        "kstatus": "InProgress",
        "argo": "Progressing",
    }
    yield Example(
        name="acceptance-failed",
        words="the newest spec could not be checked or stored yet",
        status=a_status(U, U, problem="create controllerrevisions.apps shop/sidepol-web-0c3f5e88b2: exceeded quota"),
        reason="AcceptanceFailed",
        **moves,
    )
    yield Example(
        name="first-one",
        words="rolling out: one workload goes first",
        status=a_status(G, P, P),
        reason="RollingOut",
        **moves,
    )
    yield Example(
        name="rolling-out",
        words="rolling out",
        status=a_status(*[U] * 34, *[G] * 3, *[P] * 80, *[S] * 3),
        reason="RollingOut",
        **moves,
    )
    yield Example(
        name="no-longer-selected",
        words="sidecars are being removed where they are no longer selected",
        status=a_status(U, removing=targets(U, first=90)),
        reason="RollingOut",
        **moves,
    )


EXAMPLES: Sequence[Example] = (
    *_unseen(),
    *_rejected(),
    *_moving(),
    *_waiting(),
    *_ended(),
    *_deleted(),
)


def one_of_each_health() -> list[Example]:
    """The first example of each health that Argo CD knows."""
    return list({each.argo: each for each in reversed(EXAMPLES)}.values())[::-1]
