"""What ConfigMaps and Secrets a policy restarts for, and what is known of their content on one workload.

The objects that `restartOn` names are in the namespace of each workload, so their content is no part of a revision. A
workload's record keeps a hash of each as its Pods are taken to have read it. Where the content is another than that the
workload counts as being at an *older* state of its revision (`older`), and is moved like one at an older revision. What
makes its Pods roll is an entry in an annotation of the Pod template (`restarts.with_config_restarts`).

Of what is not recorded yet the present content is recorded, and no Pod restarts for that: so it is when a policy begins
to name an object, when the right to read it comes late, and where a webhook or a file injected that knows no hashes. Of
an object that is not there, or may not be read, the last hash stays.

**The hash.** It stands where everybody can read it who may read a Deployment. So that nobody can try out what a Secret
might hold until a hash fits, a Secret's is keyed (HMAC) with its uid: 122 random bits of the API server's that whoever
may not read the Secret does not see. A Secret that is deleted and made anew has another uid, and counts as changed.
What is in a ConfigMap is no secret: its hash has no key, and the same content has the same however often it is made.
Each begins with the way in which it was made (`FORMAT`): one that was made in another way says nothing, and is as good
as none.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sidecarpolicy.core.tree import at, compact

CONFIG_MAP, SECRET = "ConfigMap", "Secret"

# Hexadecimal digits of a hash: 64 bits, far more than it takes to tell two contents apart.
DIGITS = 16

# How hashes are made; to change that is to change this.
FORMAT = "1."

TOKEN_DIGITS = 10

# No revision's name has this in it.
_OLDER = "+"


class ConfigObject(NamedTuple):
    """A ConfigMap or Secret by its name, in whichever namespace."""

    kind: str
    name: str

    @property
    def key(self) -> str:
        """As the record spells it: `ConfigMap/otel-config`."""
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> ConfigObject:
        """Read what `key` gives; raise ValueError for anything else."""
        kind, _, name = text.partition("/")
        if kind not in (CONFIG_MAP, SECRET) or not name:
            raise ValueError(f"{text!r} names no ConfigMap or Secret")
        return cls(kind, name)

    def __str__(self) -> str:
        """As people name it: `ConfigMap otel-config`."""
        return f"{self.kind} {self.name}"


Hashes = Mapping[ConfigObject, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartOn:
    """The names that a policy's `restartOn` gives, of objects in the namespace of each workload."""

    config_maps: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def objects(self) -> tuple[ConfigObject, ...]:
        """All of them, in one order."""
        found = [ConfigObject(CONFIG_MAP, name) for name in self.config_maps]
        return tuple(sorted({*found, *(ConfigObject(SECRET, name) for name in self.secrets)}))

    def __bool__(self) -> bool:
        return bool(self.config_maps or self.secrets)


NO_RESTARTS = RestartOn()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the Pods of one workload are taken to have read of what one policy names, as the record keeps it.

    *hashes*: by object, sorted. *restart*: what the Pod template shows of the last restart because of a change, empty
    before the first.
    """

    hashes: tuple[tuple[ConfigObject, str], ...] = ()
    restart: str = ""

    def __bool__(self) -> bool:
        return bool(self.hashes or self.restart)


NO_CONFIG = Config()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one policy *named* for the workloads of one namespace, and what is *known* there: those that can be read."""

    named: tuple[ConfigObject, ...] = ()
    known: Hashes = field(default_factory=dict)


def hash_of(kind: str, body: Mapping[str, Any]) -> str:
    """Return the hash of the content of a ConfigMap or Secret; of nothing else that is in the object."""
    if kind == SECRET:
        key = at(body, "metadata").get("uid") or ""
        made = hmac.new(key.encode(), compact(at(body, "data")).encode(), hashlib.sha256).hexdigest()
    else:
        made = hashlib.sha256(compact([at(body, "data"), at(body, "binaryData")]).encode()).hexdigest()
    return FORMAT + made[:DIGITS]


def changed(config: Config, wanted: Wanted) -> tuple[ConfigObject, ...]:
    """Return the named objects whose content is another than the recorded one."""
    recorded = _comparable(config, wanted)
    return tuple(
        each for each in wanted.named if each in recorded and wanted.known.get(each, recorded[each]) != recorded[each]
    )


def kept(config: Config, wanted: Wanted) -> Config:
    """Return *config* where no Pod restarts: what is newly named is recorded, what is not named any more is not."""
    hashes = {**wanted.known, **_comparable(config, wanted)}
    return replace(config, hashes=_hashes(hashes, wanted))


def advanced(config: Config, wanted: Wanted, before: Config = NO_CONFIG) -> Config:
    """Return *config* with a step that restarts the Pods where something has changed.

    *before*: what the workload would go back to. Where the content is that again, so is the Pod template.
    """
    if not wanted.named:
        return NO_CONFIG
    hashes = _hashes({**dict(config.hashes), **wanted.known}, wanted)
    if not changed(config, wanted):
        return replace(config, hashes=hashes)
    if before.hashes == hashes and before.restart != config.restart:
        return before
    return Config(hashes=hashes, restart=_digest([config.restart, _json(hashes)]))


def state_of(config: Config, wanted: Wanted) -> str:
    """Return what tells one content of everything that is named from another; empty where nothing is known."""
    hashes = _hashes({**dict(config.hashes), **wanted.known}, wanted)
    return _digest(_json(hashes)) if hashes else ""


def _comparable(config: Config, wanted: Wanted) -> Hashes:
    """The recorded hashes but those that were made in another way than the known one."""
    return {each: value for each, value in config.hashes if _format(wanted.known.get(each, value)) == _format(value)}


def _format(value: str) -> str:
    return value.rpartition(".")[0]


def _hashes(hashes: Hashes, wanted: Wanted) -> tuple[tuple[ConfigObject, str], ...]:
    return tuple((each, hashes[each]) for each in wanted.named if each in hashes)


def _json(hashes: tuple[tuple[ConfigObject, str], ...]) -> list[list[str]]:
    return [[each.key, value] for each, value in hashes]


def _digest(value: object) -> str:
    return hashlib.sha256(compact(value).encode()).hexdigest()[:TOKEN_DIGITS]


def older(revision: str) -> str:
    """Return what a plan calls *revision* on a workload whose configuration has changed since."""
    return revision + _OLDER


def with_state(attempt: str, state: str) -> str:
    """Return under what a failure of *attempt* is noted that is one of a content, told by its *state*, alone."""
    return f"{attempt}{_OLDER}{state}"


def is_of_config(failed: str) -> bool:
    """Whether `with_state` made what a failure is noted under."""
    return _OLDER in failed


def plain(revision: str) -> str:
    """Return the name of the revision that `older` was given; any other name as it is."""
    return revision.removesuffix(_OLDER)


def is_older(revision: str | None) -> bool:
    """Whether `older` made that name."""
    return bool(revision) and str(revision).endswith(_OLDER)
