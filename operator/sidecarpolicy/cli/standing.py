"""How a policy stands, told from its object alone: what `status` prints, and the exit code.

Values come from fields of the status; a message is shown and never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sidecarpolicy import names
from sidecarpolicy.cli.gitops import git_manager
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.states import State
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.names import Reason


class Verdict(StrEnum):
    """What the answer is; kstatus has the same three."""

    READY = "Ready"
    FAILED = "Failed"
    IN_PROGRESS = "InProgress"


EXIT_CODES = {Verdict.READY: 0, Verdict.FAILED: 1, Verdict.IN_PROGRESS: 3}
# Which Deployments show why a policy has failed.
SHOWN = (State.FAILED, State.SKIPPED)
# The flags of `release` where the operator is gone for good.
WITHOUT_OPERATOR = "--keep-sidecars --without-operator"
WORST_FIRST = (Verdict.FAILED, Verdict.IN_PROGRESS, Verdict.READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One policy. *reason* is that of Ready, empty while the operator has not looked at the newest generation.

    *status* is the object's own; where *observed* is false it is about an older generation. *created*: when the policy
    was (seconds since the epoch). *paused*: its spec says so. *git*: who brings it from Git, empty for nobody.
    *abandoned*: it is being deleted, and no operator runs that would let it go.
    """

    policy: PolicyId
    verdict: Verdict
    reason: str
    message: str
    generation: int
    observed: bool
    deleting: bool
    status: Json
    created: float = 0.0
    paused: bool = False
    git: str = ""
    abandoned: bool = False

    def count(self, what: str) -> int:
        """One of `status.targets`."""
        found: int = at(self.status, "targets").get(what, 0)
        return found

    @property
    def next_command(self) -> str:
        """The command that goes on, or shows why nothing does; empty where the policy needs nobody."""
        if self.abandoned:
            return "sidecarpolicy check"
        if not self.observed:
            return ""
        if self.reason == Reason.STOPPED:
            return "sidecarpolicy start"
        if self.status.get("halt") or self.reason == Reason.PAUSED:
            return command("resume", self.policy)
        if self.status.get("awaiting"):
            return command("approve", self.policy)
        shown = next((state for state in SHOWN if self.verdict is Verdict.FAILED and self.count(state)), None)
        return command("targets", self.policy, f"--state={shown.value}") if shown else ""

    @property
    def next_lines(self) -> list[str]:
        """The commands that go on; where there are two, each has behind a # what it does, or when it is meant."""
        command_line = self.next_command
        if self.abandoned:
            leave = command("release", self.policy, WITHOUT_OPERATOR)
            return [
                f"{command_line}  # why no operator runs: once one does the sidecars go",
                f"{leave}  # only where the operator is gone for good",
            ]
        is_halted = self.observed and self.status.get("halt") and self.reason != Reason.STOPPED
        if not is_halted:
            return [command_line] if command_line else []
        before, update = self.status.get("currentRevision", ""), self.status.get("updateRevision", "")
        can_go_back = before not in ("", update) and not self.git
        back = [f"{command('undo', self.policy)}  # back to {before}"] if can_go_back else []
        return [*back, f"{command_line}  # tries the same again"]

    @property
    def total(self) -> int:
        """How many workloads are to have the update revision."""
        return self.count("matched") - self.count("skipped")


def standing_of(body: Json) -> Standing:
    """Return how the policy *body* stands."""
    metadata, status = at(body, "metadata"), at(body, "status")
    generation, seen = metadata["generation"], status.get("observedGeneration", -1)
    ready = next((each for each in items(status, "conditions") if each["type"] == "Ready"), {})
    deleting = "deletionTimestamp" in metadata
    identity = PolicyId.of(body)
    observed = seen == generation and bool(ready)
    if not observed:
        older = f"; it has seen generation {seen}" if seen >= 0 else ""
        reason, verdict = "", Verdict.IN_PROGRESS
        message = f"the operator has not looked at generation {generation} yet{older}; if that lasts, see if it runs"
    elif halt_of(body) and at(metadata, "annotations").get(names.RESUME) == halt_of(body):  # no new generation
        observed, reason, verdict = False, "", Verdict.IN_PROGRESS
        message = "the operator has not gone on yet after the halt that was resumed; if that lasts, see if it runs"
    elif names.RESTARTED_AT in at(metadata, "annotations") and _awaits_restart(body, identity):  # nor here
        observed, reason, verdict = False, "", Verdict.IN_PROGRESS
        message = "the operator has not begun the restart yet; if that lasts, see if it runs"
    else:
        stalled = any(each["type"] == "Stalled" and each["status"] == "True" for each in items(status, "conditions"))
        reason, message = ready.get("reason", ""), ready.get("message", "")
        verdict = Verdict.READY if ready["status"] == "True" and not deleting else Verdict.IN_PROGRESS
        verdict = Verdict.FAILED if ready["status"] == "False" or stalled else verdict
    return Standing(
        policy=identity,
        verdict=verdict,
        reason=reason,
        message=message,
        generation=generation,
        observed=observed,
        deleting=deleting,
        status=status,
        created=seconds_of(metadata.get("creationTimestamp")),
        paused=is_paused(body),
        git=git_manager(body) or "",
    )


def _awaits_restart(body: Json, identity: PolicyId) -> bool:
    """Whether a restart is asked for, and the accepted revision is not the one that the policy declares."""
    from sidecarpolicy.cli.history import live_name  # most policies were never restarted
    from sidecarpolicy.core.restarts import restart_of

    if not restart_of(at(body, "metadata")):
        return False
    status = at(body, "status")
    accepted = next((each for each in items(status, "conditions") if each["type"] == "Accepted"), {})
    return accepted.get("status") == "True" and status.get("updateRevision", "") != live_name(identity, body)


def is_paused(body: Json) -> bool:
    """Whether the spec of the policy *body* pauses its rollout."""
    return bool(at(body, "spec", "rollout").get("paused"))


def halt_of(body: Json) -> str:
    """Return the id of the halt that the status tells of, empty for none."""
    return str(at(body, "status", "halt").get("id", ""))


def awaited_by(body: Json) -> list[str]:
    """Return the approvals that the status asks for; nothing where it is about an older generation."""
    status = at(body, "status")
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return []
    return [str(each) for each in status.get("awaiting") or ()]


def worst(standings: Sequence[Standing]) -> Verdict:
    """Return the worst of the verdicts; Ready where there is none."""
    found = {each.verdict for each in standings}
    return next((verdict for verdict in WORST_FIRST if verdict in found), Verdict.READY)


def json_of(standings: Sequence[Standing]) -> Json:
    """Return what `-o json` prints; docs/reference.md describes the fields."""
    return {
        "verdict": worst(standings).value,
        "policies": [
            {
                "kind": each.policy.kind,
                "namespace": each.policy.namespace,
                "name": each.policy.name,
                "verdict": each.verdict.value,
                "reason": each.reason,
                "message": each.message,
                "generation": each.generation,
                "observed": each.observed,
                "deleting": each.deleting,
                "paused": each.paused,
                "targets": {
                    what: each.count(what)
                    for what in ("matched", *(state.value for state in State), "available", "removing")
                },
                "currentRevision": each.status.get("currentRevision", ""),
                "updateRevision": each.status.get("updateRevision", ""),
                "halt": at(each.status, "halt").get("id", ""),
                "awaiting": list(each.status.get("awaiting") or ()),
                "next": each.next_command,
                "failures": items(each.status, "failures"),
                "skipped": items(each.status, "skipped"),
                "warnings": items(each.status, "warnings"),
            }
            for each in standings
        ],
    }
