"""Annotations that hold a comma list: what is in them, and adding to them. Entries of others stay as they are."""

from __future__ import annotations

from collections.abc import Iterable


def entries_of(value: str) -> list[str]:
    """Return the entries of a comma list, without white space."""
    return [entry for each in value.split(",") if (entry := each.strip())]


def with_entries(value: str, added: Iterable[str]) -> str:
    """Return *value*, its entries in their order, with each of *added* that is not in it at its end."""
    return ",".join(dict.fromkeys([*entries_of(value), *added]))


def with_pin(value: str, policy: str, pin: str | None) -> str:
    """Return *value* with *pin* as the only entry for *policy* (`web`, `cluster/web`), or with none of it."""
    others = [each for each in entries_of(value) if policy_of(each) != policy]
    return ",".join([*others, *([pin] if pin else [])])


def policy_of(pin: str) -> str:
    """Return which policy an entry pins: what stands before the `@`."""
    return pin.partition("@")[0]
