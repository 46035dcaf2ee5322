"""Which items of ours somebody else has changed, moved or taken away, and who that was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.record import INIT_CONTAINERS, ItemKey, Record
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json, at, compact, items
from sidecarpolicy.core.workload import Workload


def drifted(template: Json, record: Record, wanted: Json) -> Mapping[PolicyId, frozenset[ItemKey]]:
    """Return, by policy, the items of *record* that *template* does not have as *wanted* has them.

    What goes with a container that the owner took away, and what comes to one that he added, is no drift: he undid
    nothing. Where all are there and only their order is wrong it is the init containers that have drifted.
    """
    if template == wanted:
        return {}
    live, repaired = template_items(template), template_items(wanted)
    present = {
        each["name"] for listed in (INIT_CONTAINERS, "containers") for each in items(at(template, "spec"), listed)
    }
    found = {
        policy: frozenset(
            item
            for item in entry.items
            if item in repaired
            and live.get(item) != repaired[item]
            and (not item.container or item.container in present)
        )
        for policy, entry in record.entries.items()
    }
    if not any(found.values()) and live.keys() == repaired.keys():
        before, after = _orders(live), _orders(repaired)
        moved = {place for place in after if before.get(place) != after[place]}
        found = {
            policy: frozenset(item for item in entry.items if item in repaired and (item.list, item.container) in moved)
            for policy, entry in record.entries.items()
        }
    return {policy: undone for policy, undone in found.items() if undone}


def _orders(items: Iterable[ItemKey]) -> Mapping[tuple[str, str], list[str]]:
    """The names in each list of a Pod, in their order; by the list, and the container that it is of."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        found[item.list, item.container].append(item.name)
    return found


def mends(template: Json, wanted: Json, answer: Json, undone: Mapping[PolicyId, frozenset[ItemKey]]) -> bool:
    """Whether *answer*, what the server would make of a repair of *template*, is any nearer to *wanted*.

    *undone* is what has drifted. A webhook that takes its items away again mends nothing, whatever else it changes.
    """
    live, repaired, there = (template_items(each) for each in (template, wanted, answer))
    changed = {item for found in undone.values() for item in found if live.get(item) != repaired[item]}
    return template != answer and (not changed or any(live.get(item) != there.get(item) for item in changed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A field of an item that somebody changed: where in the item (empty: all of it), what was there, what is right.

    *was* and *right* are JSON; empty for nothing.
    """

    item: ItemKey
    path: str
    was: str
    right: str

    def __str__(self) -> str:
        what = f"{self.path} of {self.item}" if self.path else str(self.item)
        if not self.path and not self.was:
            return f"{what} was gone"
        return f"{what} was {self.was or 'not set'}" + (f" instead of {self.right}" if self.right and self.path else "")


def edits(template: Json, wanted: Json, undone: Iterable[ItemKey]) -> tuple[Edit, ...]:
    """Return what was other in the *undone* items of *template* than *wanted* has it, field by field."""
    live, right = (template_items(each) for each in (template, wanted))
    return tuple(edit for item in sorted(undone) for edit in _edits(item, live.get(item), right.get(item), ""))


def _edits(item: ItemKey, was: Any, right: Any, path: str) -> Iterator[Edit]:
    if was == right:
        return
    if isinstance(was, dict) and isinstance(right, dict):
        for key in sorted(was.keys() | right.keys()):
            yield from _edits(item, was.get(key), right.get(key), f"{path}.{key}" if path else key)
        return
    shown = ("" if each is None else compact(each) for each in (was, right))
    yield Edit(item=item, path=path, was=next(shown), right=next(shown))


def culprit(workload: Workload, undone: frozenset[ItemKey], since: float) -> str:
    """Return who undid those items after *since* (seconds since the epoch), as the beginning of a sentence.

    Whoever owns a field of an item has changed it. Whoever only takes items away owns nothing of them afterwards, and
    managedFields tell no more than who took any field since; of these a manager of the template is the likelier. One
    that has not is named with a doubt: to take away what it never owned changes nothing of its entry.
    """
    touched = workload.content.claims.touched
    if (found := next((touched[item] for item in sorted(undone) if item in touched), None)) is not None:
        return repr(found)
    lately = [each for each in workload.writers if seconds_of(each.since) >= int(since)]
    if lately:
        return repr(max(lately, key=lambda each: (each.of_template, each.since)).manager)
    others = [each for each in workload.writers if each.of_template]
    perhaps = f" (perhaps {max(others).manager!r})" if others else ""
    return f"another writer{perhaps}"
