"""A restart: a revision that changes nothing but rolls everywhere.

The author's annotation `sidecars.dev/restarted-at` on the policy holds a time. It is part of the words of the revision,
so the restart is rolled out as every revision is: first one, budget, watching, halt, going back. It stands on the
policy's metadata and not in its spec, because no tool that applies manifests from Git takes an annotation away that it
never wrote; and words without it are what they were before there were restarts, so no hash changes.

On a Deployment the time stands in an annotation of the Pod template, the one thing in it that changes: a comma list of
`<policy>@<time>`, one entry for each policy that has a restart there. It comes and goes with the step that moves the
Deployment from one revision to another. It is put back only in the very write that takes it away, by admission: then
it restarts nothing. It is never repaired afterwards: whoever took it away has restarted the Pods by that already, and
putting it back would do so once more.

A restart because what a policy's `restartOn` names has changed (see `configs`) is the same with another annotation:
there the entry holds a hash, and it comes with the step that the policy makes within one revision as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.configs import NO_CONFIG
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import entries_of, policy_of
from sidecarpolicy.core.pins import pinned_name
from sidecarpolicy.core.pod_metadata import with_values
from sidecarpolicy.core.record import ANNOTATIONS, Record
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.times import is_timestamp, seconds_of, timestamp
from sidecarpolicy.core.tree import Json, at

WORD = "restartedAt"
"""Under this name the time stands among the words of a revision."""


def restart_of(metadata: Mapping[str, Any]) -> str:
    """Return when the policy with *metadata* was restarted last; empty for never, or for what is no time.

    A time is RFC 3339 in UTC, in whole seconds.
    """
    annotations = metadata.get("annotations")
    text = annotations.get(names.RESTARTED_AT) if isinstance(annotations, Mapping) else None
    return text if isinstance(text, str) and is_timestamp(text) else ""


def with_restart(words: Json, metadata: Mapping[str, Any]) -> Json:
    """Return the author's *words* with the restart that the policy's *metadata* asks for, if it does."""
    restart = restart_of(metadata)
    return {**words, WORD: restart} if restart else words


def without_restart(words: Json) -> Json:
    """Return *words* as the author wrote the spec: equal for two revisions that inject the same."""
    return {key: value for key, value in words.items() if key != WORD}


def next_restart(now: float, last: str) -> str:
    """Return the time of a restart *now* (seconds since the epoch), later than the *last*, whatever clock that had."""
    return timestamp(max(now, seconds_of(last) + 1) if last else now)


def with_restarts(
    template: Json, record: Record, assigned: Collection[Revision], staying: Collection[PolicyId]
) -> Json:
    """Return *template*, on which *record* says what is there, with the restarts of the *assigned* revisions.

    A revision that is there already leaves the template as it is. The entries of *staying* policies stay; those of
    others that the record names go with their policy; what else stands there is not ours.
    """
    times: dict[PolicyId, str | None] = {}
    for revision in assigned:
        entry = record.entries.get(revision.policy)
        there = entry is not None and entry.revision == revision.name
        times[revision.policy] = None if there else revision.restarted
    return _with_entries(template, names.RESTARTED_AT, record, times, staying)


def with_config_restarts(
    template: Json, record: Record, assigned: Collection[Revision], staying: Collection[PolicyId]
) -> Json:
    """Return *template* likewise with the restarts because a configuration has changed."""
    restarts: dict[PolicyId, str | None] = {}
    for revision in assigned:
        entry = record.entries.get(revision.policy)
        recorded = entry.config if entry is not None else NO_CONFIG
        config = revision.config if revision.config is not None else recorded
        there = entry is not None and entry.revision != "" and recorded.restart == config.restart
        restarts[revision.policy] = None if there else config.restart
    return _with_entries(template, names.CONFIG, record, restarts, staying)


def _with_entries(
    template: Json, key: str, record: Record, values: Mapping[PolicyId, str | None], staying: Collection[PolicyId]
) -> Json:
    """Return *template* with *values* in the annotation *key*: empty for no entry, None for whatever is there."""
    annotations = at(template, "metadata", "annotations")
    before = _entries_in(template, key)
    if not before and not any(values.values()):
        return template
    leaving = {pinned_name(policy) for policy in record.entries} - {pinned_name(policy) for policy in staying}
    wanted = dict.fromkeys(leaving, "")
    for policy, value in values.items():
        name = pinned_name(policy)
        if value is None:
            wanted.pop(name, None)
        else:
            wanted[name] = value
    after = [each for each in before if policy_of(each.strip()) not in wanted]
    after += [f"{name}@{value}" for name, value in sorted(wanted.items()) if value]
    if sorted(after) == sorted(before):
        return template
    others = {name: each for name, each in annotations.items() if name != key or after}
    return with_values(template, ANNOTATIONS, others | ({key: ",".join(after)} if after else {}))


def with_restarts_kept(template: Json, record: Record, *, before: Json, known: Record) -> Json:
    """Return *template*, whose record is *record*, with the restarts that a write has dropped from it.

    They stood in the template *before*, with the record *known*, and come back for each policy that is still at the
    same one: `kubectl replace` of the owner's manifest must not start Pods anew.
    """
    same = [(name, entry, known.entries[name]) for name, entry in record.entries.items() if name in known.entries]
    revisions = {pinned_name(name) for name, entry, old in same if entry.revision == old.revision}
    configs = {pinned_name(name) for name, entry, old in same if entry.config.restart == old.config.restart}
    return _kept(_kept(template, names.RESTARTED_AT, before, revisions), names.CONFIG, before, configs)


def _kept(template: Json, key: str, before: Json, policies: Collection[str]) -> Json:
    """Return *template* with the entries of *policies* that the annotation *key* had *before*, where it has none."""
    annotations = at(template, "metadata", "annotations")
    stood, stand = (_entries_in(each, key) for each in (before, template))
    present = {policy_of(each.strip()) for each in stand}
    dropped = [each for each in stood if (name := policy_of(each.strip())) in policies and name not in present]
    if not dropped:
        return template
    kept = [*stand, *dropped]
    kept = stood if sorted(kept) == sorted(stood) else kept
    return with_values(template, ANNOTATIONS, annotations | {key: ",".join(kept)})


def _entries_in(template: Json, key: str) -> list[str]:
    text = at(template, "metadata", "annotations").get(key) or ""
    return text.split(",") if text else []


def config_restart_on(template: Json, policy: PolicyId) -> str:
    """Return what *template* shows of the last restart because a configuration of *policy* has changed."""
    return _told(template, names.CONFIG, policy)


def has_restart(template: Json, revision: Revision) -> bool:
    """Whether *template* shows the restart of *revision*, or that it has none."""
    return _told(template, names.RESTARTED_AT, revision.policy) == revision.restarted


def _told(template: Json, key: str, policy: PolicyId) -> str:
    """Return what the entry of *policy* in the annotation *key* says; empty where there is none."""
    text, name = at(template, "metadata", "annotations").get(key) or "", pinned_name(policy)
    return next((each.partition("@")[2] for each in entries_of(text) if policy_of(each) == name), "")
