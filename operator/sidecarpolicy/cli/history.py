"""The stored revisions of a policy, and which of them is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.hints import listing
from sidecarpolicy.core.decode import PERMISSIONS, author_words
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.restarts import with_restart, without_restart
from sidecarpolicy.core.revision import (
    StoredRevision,
    current_revision,
    from_controller_revision,
    revision_name,
    words_of,
)
from sidecarpolicy.core.tree import Json, at, items, without_nulls

WORDS = ("priority", "sidecars", "volumes", "application", "podMetadata", "imagePullSecrets")
"""The fields of a spec that shape a Pod template: what a revision is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A stored revision with its author's words; None where they are not stored."""

    stored: StoredRevision
    words: Json | None

    @property
    def name(self) -> str:
        """The revision's name."""
        return self.stored.revision.name


def history(asked: Asked, identity: PolicyId) -> list[HistoryEntry]:
    """Return what is stored of a policy; what somebody mangled is passed over, as the operator does."""
    found: list[HistoryEntry] = []
    for body in asked.revisions(identity):
        try:
            stored = from_controller_revision(body)
        except ValueError:
            continue
        if stored.revision.policy == identity:
            found.append(HistoryEntry(stored=stored, words=words_of(body)))
    return sorted(found, key=lambda each: (each.stored.since, each.stored.number), reverse=True)


def live_words(body: Json) -> Json:
    """The words of the policy as it is now, spelt as those of a revision: without what says the same as nothing."""
    return with_restart(author_words(without_nulls(at(body, "spec"))), at(body, "metadata"))


def live_name(identity: PolicyId, body: Json) -> str:
    """Return the name of the revision that *body* declares; empty where no revision can be made of it."""
    try:
        return revision_name(identity, live_words(body))
    except (TypeError, ValueError, AttributeError):
        return ""


def named(past: Sequence[HistoryEntry], identity: PolicyId, wanted: str) -> HistoryEntry:
    """Return the revision that *wanted* names, by its name, its hash or its object; raise click.ClickException."""
    for each in past:
        if wanted in (each.name, each.name.removeprefix(f"{identity.name}-"), each.stored.object_name):
            return each
    known = f"there is {listing([each.name for each in past])} (the newest first)" if past else "there is none at all"
    raise click.ClickException(f"{identity.label} has no revision {wanted!r}; {known}")


def before(past: Sequence[HistoryEntry], live: str) -> HistoryEntry | None:
    """Return the revision to go back to from *live*: of the others, the one that was rolled out completely last.

    One whose rollout is halted, or was never completed, is no way back: it may be what somebody has just left. Nor is
    one that injects the same and that *live* has only restarted, where that restart has reached every workload.
    """
    mine = next((each for each in past if each.name == live), None)
    proven = [
        each.stored
        for each in past
        if each.name != live and each.stored.halt is None and not _has_restarted(mine, each)
    ]
    last = current_revision(proven)
    return next((each for each in past if each.stored is last), None) if last is not None else None


def _has_restarted(live: HistoryEntry | None, other: HistoryEntry) -> bool:
    """Whether *live* was rolled out completely and differs from *other* in no more than a restart."""
    if live is None or not live.stored.completion or live.words is None or other.words is None:
        return False
    return without_restart(live.words) == without_restart(other.words)


def with_words(spec: Json, words: Json) -> Json:
    """Return *spec* with *words* for everything in it that shapes a Pod template; the rest stays.

    That is what owners may override too, in sidecars of the same name.
    """
    words = without_restart(words)
    kept = {each["name"]: {key: each[key] for key in PERMISSIONS & each.keys()} for each in items(spec, "sidecars")}
    restored = {**words, "sidecars": [{**each, **kept.get(each["name"], {})} for each in items(words, "sidecars")]}
    return {key: value for key, value in spec.items() if key not in WORDS} | restored
