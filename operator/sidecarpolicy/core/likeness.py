"""Whether a live item is as it should be, and how to move it from one canonical form to the next.

*As it should be* means: every field of the canonical form is there with that value; lists with keys are compared by
key, atomic lists as a whole. Extra fields from others are left alone, so a newer API server with a new default, or a
webhook that adds a field, causes no write.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from sidecarpolicy.core.tree import Json, packed, unpacked

# The lists of a container that Kubernetes merges by key (x-kubernetes-list-map-keys of core/v1 Container).
LIST_KEYS: dict[str, tuple[str, ...]] = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
}


def is_as_it_should_be(live: Any, canonical: Any, *, field: str = "") -> bool:
    """Whether *live* has everything that *canonical* has; *field* is the name under which both stand."""
    match canonical:
        case dict():
            return isinstance(live, dict) and all(
                key in live and is_as_it_should_be(live[key], value, field=key) for key, value in canonical.items()
            )
        case list() if field in LIST_KEYS:
            by_key = _by_key(live, field)
            return all(
                key in by_key and is_as_it_should_be(by_key[key], value)
                for key, value in _by_key(canonical, field).items()
            )
        case _:
            return bool(live == canonical)


def moved(live: Json, old: Json | None, new: Json) -> Json:
    """Return *live* moved from canonical form *old* to *new*, with the fields that others added to it.

    Where *live* is not as *old* makes it (somebody edited it, or *old* is not known), *new* replaces it whole: a
    merge with half of somebody's edit could be an object that nobody ever meant.
    """
    if old is None:
        return new
    if old == new:
        return live if is_as_it_should_be(live, new) else new
    return _moved(packed((live, old, new)))


@lru_cache(maxsize=256)
def _moved(step: bytes) -> Json:
    """`moved` for three that are packed: an edit of a fleet makes the same step over and over."""
    live, old, new = cast("tuple[Json, Json, Json]", unpacked(step))
    merged = cast("Json", _merged(live, old, new))
    if is_as_it_should_be(live, old):
        return merged
    return live if live == merged else new


def _merged(live: Any, old: Any, new: Any, *, field: str = "") -> Any:
    if isinstance(new, dict) and isinstance(live, dict):
        before = old if isinstance(old, dict) else {}
        kept = {key: value for key, value in live.items() if key in new or key not in before}
        return {
            **kept,
            **{key: _merged(live.get(key), before.get(key), value, field=key) for key, value in new.items()},
        }
    if isinstance(new, list) and field in LIST_KEYS:
        lives, before_list = _by_key(live, field), _by_key(old, field)
        wanted = {
            key: _merged(lives.get(key), before_list.get(key), value) for key, value in _by_key(new, field).items()
        }
        others = [value for key, value in lives.items() if key not in wanted and key not in before_list]
        return [*wanted.values(), *others]
    return new


def _by_key(value: Any, field: str) -> dict[tuple[Any, ...], Any]:
    entries = value if isinstance(value, list) else []
    return {tuple(_key_value(entry, key) for key in LIST_KEYS[field]): entry for entry in entries}


def _key_value(entry: Any, key: str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, dict | list):  # a list of that name deep in a field that nobody knows
        return packed(value)
    return "TCP" if key == "protocol" and value is None else value
