"""How a policy stands, told from its object alone: what `status` prints, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.targets import State
from sidecarpolicy.core.tree import Json, at, items


class Verdict(StrEnum):
    """What the answer is; kstatus has the same three."""

    READY = "Ready"
    FAILED = "Failed"
    IN_PROGRESS = "InProgress"


EXIT_CODES = {Verdict.READY: 0, Verdict.FAILED: 1, Verdict.IN_PROGRESS: 3}
WORST_FIRST = (Verdict.FAILED, Verdict.IN_PROGRESS, Verdict.READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One policy. *reason* is that of Ready, empty while the operator has not looked at the newest generation.

    *status* is the object's own; where *observed* is false it is about an older generation.
    """

    policy: PolicyId
    verdict: Verdict
    reason: str
    message: str
    generation: int
    observed: bool
    deleting: bool
    status: Json

    def count(self, what: str) -> int:
        """One of `status.targets`."""
        found: int = at(self.status, "targets").get(what, 0)
        return found

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
    observed = seen == generation and bool(ready)
    if not observed:
        older = f"; it has seen generation {seen}" if seen >= 0 else ""
        reason, verdict = "", Verdict.IN_PROGRESS
        message = f"the operator has not looked at generation {generation} yet{older}; if that lasts, see if it runs"
    elif _resumes(body, ready):
        observed, reason, verdict = False, "", Verdict.IN_PROGRESS
        message = "the operator has not gone on yet after the halt that was resumed; if that lasts, see if it runs"
    else:
        stalled = any(each["type"] == "Stalled" and each["status"] == "True" for each in items(status, "conditions"))
        reason, message = ready.get("reason", ""), ready.get("message", "")
        verdict = Verdict.READY if ready["status"] == "True" and not deleting else Verdict.IN_PROGRESS
        verdict = Verdict.FAILED if ready["status"] == "False" or stalled else verdict
    return Standing(
        policy=PolicyId(kind=body["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"]),
        verdict=verdict,
        reason=reason,
        message=message,
        generation=generation,
        observed=observed,
        deleting=deleting,
        status=status,
    )


def _resumes(body: Json, ready: Json) -> bool:
    """Whether *ready* still tells of the very halt that the author has ended; that changes no generation."""
    resumed = at(body, "metadata", "annotations").get(names.RESUME)
    return bool(resumed) and str(ready.get("message", "")).endswith(f"{names.RESUME}: {resumed}")


def worst(standings: Sequence[Standing]) -> Verdict:
    """Return the worst of the verdicts; Ready where there is none."""
    found = {each.verdict for each in standings}
    return next((verdict for verdict in WORST_FIRST if verdict in found), Verdict.READY)


def shown_name(policy: PolicyId) -> str:
    """As kubectl names it: `sidecarpolicy.sidecars.dev/web`."""
    return f"{policy.kind.lower()}.{names.GROUP}/{policy.name}"


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
                "targets": {
                    what: each.count(what)
                    for what in ("matched", *(state.value for state in State), "available", "removing")
                },
                "currentRevision": each.status.get("currentRevision", ""),
                "updateRevision": each.status.get("updateRevision", ""),
                "failures": items(each.status, "failures"),
                "skipped": items(each.status, "skipped"),
                "warnings": items(each.status, "warnings"),
            }
            for each in standings
        ],
    }
