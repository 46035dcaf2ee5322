"""The record of what on a Deployment is ours: one annotation on its metadata, in the same patch as the items.

Per policy: the revision, the names of its items, and the few facts that reality does not show. Nothing is ever
removed from a Deployment that the record does not name. A record that cannot be read is Mangled: reported, and
nothing is removed on the strength of it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sidecarpolicy.core.adjustment import UNADJUSTED, Account, Adjustment
from sidecarpolicy.core.configs import NO_CONFIG, Config, ConfigObject
from sidecarpolicy.core.field_conflicts import NOT_UNDONE, Undone
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.overrides import read
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.times import seconds_of, timestamp
from sidecarpolicy.core.tree import compact, loaded

INIT_CONTAINERS, VOLUMES, ENV, VOLUME_MOUNTS = "initContainers", "volumes", "env", "volumeMounts"
METADATA = LABELS, ANNOTATIONS = "labels", "annotations"
PULL_SECRETS = "imagePullSecrets"

WHAT = {
    INIT_CONTAINERS: "init container",
    VOLUMES: "volume",
    ENV: "env",
    VOLUME_MOUNTS: "mount",
    LABELS: "label",
    ANNOTATIONS: "annotation",
    PULL_SECRETS: "image pull secret",
}

# What is counted is never more; a number of thousands of digits could be read and not be written again.
MOST_UNDONE = 2**31 - 1

# Lists whose items are told by their name alone; the others are of a container of the application.
OF_TEMPLATE = (INIT_CONTAINERS, VOLUMES, PULL_SECRETS, *METADATA)


class ItemKey(NamedTuple):
    """One item of a Pod template: an init container, a volume, a label, …, or an env or mount of *container*.

    A named tuple, because it is hashed more often than anything else here.
    """

    list: str
    name: str
    container: str = ""

    @property
    def yields(self) -> bool:
        """Whether the owner's word on it goes before ours, at any time: it is in what they wrote themselves."""
        return bool(self.container) or self.list in (*METADATA, PULL_SECRETS)

    def __str__(self) -> str:
        return f"{WHAT[self.list]} {self.name!r}" + (f" of container {self.container!r}" if self.container else "")


def place_of(item: ItemKey) -> ItemKey:
    """Return *item* as it collides with others: a mount by its path, as the kernel resolves it, not by its spelling."""
    return item._replace(name=normpath(item.name)) if item.list == VOLUME_MOUNTS else item


def normpath(path: str) -> str:
    """Return *path* without what makes no other place of it: `/./`, `//`, a slash at the end."""
    return posixpath.normpath(f"/{path.lstrip('/')}") if path.startswith("/") else posixpath.normpath(path)


class Mangled(ValueError):
    """The annotation is not what we write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a step of a rollout writes down because reality does not show it afterwards.

    *previous*: the revision that the workload had before (empty: none), to go back to, and *config* what its Pods had
    read then. *unhealthy_before*: it was unhealthy when the step was made, so its failure is not ours. *failed*:
    `<revision>#<attempt>` that failed here and was rolled back, with what tells the content that failed from others
    (`+<hash>`) where nothing else was new. *not_counted*: the cause was the namespace's, and does not count against
    maxFailures. *undone*: how often another writer undid what is here, and when it was put back last. *stepped*: when
    the step was written, in whole seconds since the epoch (0: not said); ReplicaSets do not show whether an owner's
    change that followed found the rollout of this one over.
    """

    previous: str = ""
    config: Config = NO_CONFIG
    unhealthy_before: bool = False
    failed: str = ""
    not_counted: bool = False
    undone: Undone = NOT_UNDONE
    stepped: float = 0.0


NOTHING_NOTED = Note()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one policy has on a Deployment; *revision* is empty where only a note is left of it.

    *items* are ours to change and remove; *adopted* are sidecars that the owner wrote, equal to ours. *joined* is
    true where the policy came to a new workload outside of its budget (that rollout is the owner's own). *adjustment*:
    what the owner has changed of the revision there. *config*: what its Pods have read of what `restartOn` names.
    """

    revision: str
    note: Note = NOTHING_NOTED
    items: frozenset[ItemKey] = frozenset()
    adopted: frozenset[str] = frozenset()
    joined: bool = False
    adjustment: Adjustment = UNADJUSTED
    config: Config = NO_CONFIG

    def names(self, listed: str) -> frozenset[str]:
        """The names of its items in *listed*."""
        return frozenset(item.name for item in self.items if item.list == listed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The whole annotation; *orphaned* are items that belong to the owner since their policy was deleted."""

    entries: Mapping[PolicyId, Entry] = field(default_factory=dict)
    orphaned: frozenset[ItemKey] = frozenset()

    @property
    def items(self) -> frozenset[ItemKey]:
        """All items that are ours, of any policy."""
        return frozenset(item for entry in self.entries.values() for item in entry.items)

    def __bool__(self) -> bool:
        return bool(self.entries or self.orphaned)


def parse(text: str | None) -> Record:
    """Return the record that *text* holds; raise Mangled where it holds none."""
    if not text:
        return Record()
    try:
        data = loaded(text)
        return Record(
            entries={PolicyId.parse(key): _entry(value) for key, value in data["policies"].items()},
            orphaned=_items(data.get("orphaned", {})),
        )
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, InvalidInput) as error:
        raise Mangled(str(error)) from error


def text_of(record: Record) -> str:
    """Return the annotation's value: compact JSON, equal for equal records, empty for an empty one."""
    if not record:
        return ""
    policies = {
        str(policy): {
            "revision": entry.revision,
            **_listed(entry.items),
            **({"adopted": sorted(entry.adopted)} if entry.adopted else {}),
            **({"joined": True} if entry.joined else {}),
            **_adjusted(entry.adjustment),
            **_configured("config", entry.config),
            **_noted(entry.note),
        }
        for policy, entry in record.entries.items()
    }
    orphaned = {"orphaned": _listed(record.orphaned)} if record.orphaned else {}
    return compact({"policies": policies, **orphaned})


def _entry(value: Mapping[str, Any]) -> Entry:
    return Entry(
        revision=_text(value["revision"]) if value["revision"] != "" or not value.get("failed") else "",
        items=_items(value),
        adopted=frozenset(_text(name) for name in _list(value.get("adopted", []))),
        joined=value.get("joined", False) is True,
        adjustment=_adjustment(value),
        config=_config(value.get("config")),
        note=Note(
            previous=_text(value["previous"]) if "previous" in value else "",
            config=_config(value.get("previousConfig")),
            unhealthy_before=value.get("unhealthyBefore", False) is True,
            failed=_text(value["failed"]) if "failed" in value else "",
            not_counted=value.get("excused", False) is True,
            undone=_undone(value["undone"]) if "undone" in value else NOT_UNDONE,
            stepped=_time(value["stepped"]) if "stepped" in value else 0.0,
        ),
    )


def _adjustment(value: Mapping[str, Any]) -> Adjustment:
    if not any(key in value for key in ("skipped", "overrides", "account", "refused")):
        return UNADJUSTED
    account = value.get("account")
    return Adjustment(
        skipped=frozenset(_text(name) for name in _list(value.get("skipped", []))),
        overrides=tuple(
            (_text(name), read(compact(each))) for name, each in sorted(value.get("overrides", {}).items())
        ),
        account=Account(
            name=_text(account["name"]),
            secrets=tuple(_text(name) for name in _list(account.get("secrets", []))),
        )
        if account is not None
        else None,
        refused=frozenset(_text(mark) for mark in _list(value.get("refused", []))),
    )


def _adjusted(adjustment: Adjustment) -> dict[str, Any]:
    if not adjustment:
        return {}
    account = adjustment.account
    overrides = {name: json.loads(each) for name, each in adjustment.overrides}
    secrets = {"secrets": list(account.secrets)} if account is not None and account.secrets else {}
    return {
        **({"skipped": sorted(adjustment.skipped)} if adjustment.skipped else {}),
        **({"overrides": overrides} if overrides else {}),
        **({"account": {"name": account.name, **secrets}} if account is not None else {}),
        **({"refused": sorted(adjustment.refused)} if adjustment.refused else {}),
    }


def _config(value: Mapping[str, Any] | None) -> Config:
    if value is None:
        return NO_CONFIG
    hashes = {ConfigObject.parse(key): _text(each) for key, each in value.get("hashes", {}).items()}
    return Config(hashes=tuple(sorted(hashes.items())), restart=_text(value["restart"]) if "restart" in value else "")


def _configured(key: str, config: Config) -> dict[str, Any]:
    hashes = {"hashes": {each.key: value for each, value in config.hashes}} if config.hashes else {}
    restart = {"restart": config.restart} if config.restart else {}
    return {key: {**hashes, **restart}} if config else {}


def _undone(value: Mapping[str, Any]) -> Undone:
    count = value["count"]
    if type(count) is not int or not 1 <= count <= MOST_UNDONE:
        raise Mangled("undone has no count")
    return Undone(count=count, last=_time(value["last"]))


def _time(value: object) -> float:
    text = _text(value)
    if timestamp(seconds_of(text)) != text:
        raise Mangled("a time is not as it is written here")
    return seconds_of(text)


def _noted(note: Note) -> dict[str, Any]:
    if note is NOTHING_NOTED:
        return {}
    return _configured("previousConfig", note.config) | {
        key: value
        for key, value in (
            ("previous", note.previous),
            ("unhealthyBefore", note.unhealthy_before),
            ("failed", note.failed),
            ("excused", note.not_counted),
            ("undone", {"count": note.undone.count, "last": timestamp(note.undone.last)} if note.undone else None),
            ("stepped", timestamp(note.stepped) if note.stepped else None),
        )
        if value
    }


def _items(value: Mapping[str, Any]) -> frozenset[ItemKey]:
    flat = {ItemKey(listed, _text(name)) for listed in OF_TEMPLATE for name in _list(value.get(listed, []))}
    nested = {
        ItemKey(listed, _text(name), _text(container))
        for listed in (ENV, VOLUME_MOUNTS)
        for container, names in value.get(listed, {}).items()
        for name in _list(names)
    }
    return frozenset(flat | nested)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Mangled("names are no list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Mangled("a name is no string, or empty")
    return value


def _listed(items: Iterable[ItemKey]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for item in sorted(items):
        if item.container:
            result.setdefault(item.list, {}).setdefault(item.container, []).append(item.name)
        else:
            result.setdefault(item.list, []).append(item.name)
    return result
