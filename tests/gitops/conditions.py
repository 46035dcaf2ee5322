"""What is wrong with a policy's conditions: the rules that tools rely on, one function each.

They follow the API conventions, kstatus, and Flux's own test-time checker (fluxcd/pkg `runtime/conditions/check`; its
rule is named where one has the same meaning). Two of Flux's rules are turned round on purpose:

- FAIL0003 wants Ready False while Reconciling is True; here it is Unknown, because tools that take False for a failure
  would break a sync in the middle of every rollout (argo-cd#6130). Flux's controllers do the same today.
- FAIL0010 wants the status' observedGeneration below that of Reconciling; here a status is written after the spec has
  been read, so both are the generation. What is under way is said by Reconciling alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sidecarpolicy.core.status import MOST_MESSAGE
from sidecarpolicy.core.tree import Json, at, items

KNOWN = ("Accepted", "Ready", "Reconciling", "Stalled")
ABNORMAL = ("Reconciling", "Stalled")

Rule = Callable[[Json, dict[str, Json]], Iterator[str]]


def complaints(policy: Json) -> list[str]:
    """Return everything that is wrong with the conditions of *policy*, which the operator has seen."""
    listed = items(at(policy, "status"), "conditions")
    by_type = {each["type"]: each for each in listed}
    found = [f"{len(listed) - len(by_type)} of them twice"] if len(by_type) < len(listed) else []
    return [*found, *(complaint for rule in RULES for complaint in rule(policy, by_type))]


def only_known_types_in_their_order(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """Accepted and Ready are always there (FAIL0002), and nothing is that the reference does not name."""
    if list(conditions) != [kind for kind in KNOWN if kind in conditions]:
        yield f"types are {', '.join(conditions)}"
    for kind in ("Accepted", "Ready"):
        if kind not in conditions:
            yield f"{kind} is missing"


def abnormal_ones_are_true_or_absent(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """Reconciling and Stalled are removed when they are not True (WARN0003, WARN0004)."""
    for kind in ABNORMAL:
        if kind in conditions and conditions[kind]["status"] != "True":
            yield f"{kind} is {conditions[kind]['status']}"


def never_both_under_way_and_stalled(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """Of Reconciling and Stalled there is one at most (FAIL0005)."""
    if all(kind in conditions for kind in ABNORMAL):
        yield "Reconciling and Stalled are both there"


def ready_agrees(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """True goes with nothing abnormal (FAIL0001, WARN0001), False with Stalled (FAIL0004), Unknown not with Stalled.

    Ready False without Stalled would keep kstatus waiting until its time-out: only Stalled is a failure to it.
    """
    ready = conditions.get("Ready", {}).get("status")
    if ready == "True" and any(kind in conditions for kind in ABNORMAL):
        yield "Ready is True beside something abnormal"
    if (ready == "False") != ("Stalled" in conditions):
        yield f"Ready is {ready} {'with' if 'Stalled' in conditions else 'without'} Stalled"
    if "Reconciling" in conditions and ready != "Unknown":
        yield f"Ready is {ready} while Reconciling"


def what_is_not_accepted_is_stalled(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """Only its author can do something about a policy that is rejected; one that is undecided is tried again.

    The deletion of one that cannot be read is held, and not stalled.
    """
    if "deletionTimestamp" in policy["metadata"]:
        return
    wanted = {"False": "Stalled", "Unknown": "Reconciling"}.get(conditions.get("Accepted", {}).get("status", "False"))
    if wanted is not None and wanted not in conditions:
        yield f"not Accepted, and not {wanted}"


def abnormal_ones_say_what_ready_says(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """A person who reads either reads the same (WARN0002)."""
    for kind in ABNORMAL:
        for said in ("reason", "message"):
            if kind in conditions and conditions[kind][said] != conditions.get("Ready", {}).get(said):
                yield f"{kind} has another {said} than Ready"


def generations_agree(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """Every condition tells which generation it is about, and all of one status are about the same (FAIL0006 to 9)."""
    generation, observed = policy["metadata"]["generation"], policy["status"].get("observedGeneration")
    if type(observed) is not int or not 1 <= observed <= generation:
        yield f"observedGeneration is {observed} at generation {generation}"
    for kind, each in conditions.items():
        if each.get("observedGeneration") != observed:
            yield f"{kind} is about generation {each.get('observedGeneration')}, the status about {observed}"


def words_are_well_formed(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """As the API conventions have them; messages are short enough to be read and stored."""
    for kind, each in conditions.items():
        if each["status"] not in ("True", "False", "Unknown"):
            yield f"{kind} is {each['status']!r}"
        if not re.fullmatch(r"([A-Z][a-z0-9]*)+", each["reason"]):
            yield f"{kind}: reason {each['reason']!r} is not CamelCase"
        if not 0 < len(each["message"]) <= MOST_MESSAGE:
            yield f"{kind}: a message of {len(each['message'])} characters"
        if each["message"] != each["message"].strip() or "\n" in each["message"]:
            yield f"{kind}: a message with white space at its ends or more than one line"
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each["lastTransitionTime"]):
            yield f"{kind}: lastTransitionTime is {each['lastTransitionTime']!r}"


def counts_add_up(policy: Json, conditions: dict[str, Json]) -> Iterator[str]:
    """Every matched workload is in one state; Ready is not True while any is to be changed."""
    counts = at(policy, "status", "targets")
    states = sum(counts[each] for each in ("skipped", "pending", "progressing", "updated", "failed"))
    if counts["matched"] != states:
        yield f"{counts['matched']} matched, {states} in a state"
    moving = sum(counts[each] for each in ("pending", "progressing", "failed", "removing"))
    if conditions.get("Ready", {}).get("status") == "True" and moving:
        yield f"Ready with {moving} to be changed"


RULES: tuple[Rule, ...] = (
    only_known_types_in_their_order,
    abnormal_ones_are_true_or_absent,
    never_both_under_way_and_stalled,
    ready_agrees,
    what_is_not_accepted_is_stalled,
    abnormal_ones_say_what_ready_says,
    generations_agree,
    words_are_well_formed,
    counts_add_up,
)
