"""Changing JSON at random, and making what fails as small as it gets. Equal chances give equal changes."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

TEXTS = (
    "",
    " ",
    "a",
    "A_b",
    "-",
    "/",
    "a/b/c",
    "web@",
    "cart",
    "proxy",
    "0",
    "-1",
    "1e3",
    "100%",
    "101%",
    "true",
    "null",
    "~",
    "{}",
    "[]",
    "a,b,,c",
    "SidecarPolicy/shop/web",
    "ClusterSidecarPolicy//web",
    "2026-11-25T12:00:00Z",
    "2026-13-45T99:00:00Z",
    "\ud800",
    "\x00",
    "é" * 300,
    "x" * 70_000,
)
NUMBERS = (0, 1, -1, 2**31 - 1, 2**31, 2**63, 10**400, 0.1, -0.0, float("inf"), float("nan"))
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    {},
    [],
    [None],
    [[]],
    [{}],
    {"": None},
    {"name": None},
    {"name": "a"},
    [{"name": "a"}] * 2,
)
YAML_KEYS = (None, 1, 1.5, True)
"""What YAML has as keys and JSON has not."""

Path = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in *value*, itself first."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def at(value: Any, path: Path) -> Any:
    """What stands there."""
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy of *value* with *new* there."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    at(changed, path[:-1])[path[-1]] = new
    return changed


def without(value: Any, path: Path) -> Any:
    """A copy of *value* without what stands there."""
    changed = copy.deepcopy(value)
    del at(changed, path[:-1])[path[-1]]
    return changed


def mangled(value: Any, chance: random.Random, *, keys: tuple[Any, ...] = ()) -> Any:
    """A copy of *value* with one thing changed to anything. *keys*: keys that are no strings and may come in."""
    path = chance.choice(list(places(value)))
    there = at(value, path)
    match chance.randrange(6):
        case 0 if path:
            return without(value, path)
        case 1 if isinstance(there, dict) and there:
            old = chance.choice(list(there))
            new = chance.choice((*TEXTS, *there, *keys))
            changed = {(new if key == old else key): field for key, field in there.items()}
            return replaced(value, path, changed)
        case 2 if isinstance(there, dict):
            key = chance.choice((*TEXTS, *keys))
            return replaced(value, path, {**there, key: anything(value, chance)})
        case 3 if isinstance(there, list):
            changed_list = [*there, anything(value, chance)] if not there or chance.random() < 0.5 else [*there, *there]
            return replaced(value, path, changed_list)
        case 4:
            return replaced(value, path, copy.deepcopy(at(value, chance.choice(list(places(value))))))
    return replaced(value, path, anything(value, chance))


def mangled_within_types(value: Any, chance: random.Random, *, required: frozenset[str], fixed: frozenset[str]) -> Any:
    """A copy of *value* with one thing changed that a schema allows: a field missing, another text or number.

    *required*: fields that are never missing; *fixed*: fields that nothing else can stand in.
    """
    path = chance.choice([path for path in places(value) if path and path[-1] not in fixed])
    there = at(value, path)
    match there:
        case bool():
            return replaced(value, path, not there)
        case int() if chance.random() < 0.8:
            return replaced(
                value, path, chance.choice([each for each in NUMBERS if type(each) is int and each < 2**63])
            )
        case str() if chance.random() < 0.8:
            return replaced(value, path, chance.choice(TEXTS))
        case list() if there and chance.random() < 0.5:
            return replaced(value, path, [*there, copy.deepcopy(chance.choice(there))])
    return value if path[-1] in required else without(value, path)


def anything(value: Any, chance: random.Random) -> Any:
    """Some value, out of *value* or quite another one."""
    kind = chance.randrange(4)
    if kind == 0:
        return copy.deepcopy(at(value, chance.choice(list(places(value)))))
    return copy.deepcopy(chance.choice((TEXTS, NUMBERS, OTHERS)[kind - 1]))


def mangled_text(text: str, chance: random.Random) -> str:
    """A copy of *text* with a few characters taken out, doubled or replaced."""
    for _ in range(chance.randint(1, 3)):
        begin = chance.randrange(len(text) + 1)
        end = min(len(text), begin + chance.choice((1, 1, 2, 5, 20)))
        new = chance.choice(
            ("", text[begin:end] * 2, *"{}[]\":,-&*!|>'%@`\t\n#? 0a", "&a ", "*a", "<<: ", "!!python/x ")
        )
        text = text[:begin] + new + text[end:]
    return text


def smallest(value: Any, still_fails: Callable[[Any], bool]) -> Any:
    """*value* with as much as possible taken away, one thing after the other, so that it still fails."""
    smaller = True
    while smaller:
        smaller = False
        for path in sorted(places(value), key=len):
            if not path or not _is_there(value, path):
                continue
            candidate = without(value, path)
            if still_fails(candidate):
                value, smaller = candidate, True
    return value


def smallest_text(text: str, still_fails: Callable[[str], bool]) -> str:
    """*text* with as many lines as possible taken away, so that it still fails."""
    lines = text.splitlines(keepends=True)
    size = max(1, len(lines) // 2)
    while size:
        for begin in range(len(lines) - size, -1, -1):
            candidate = lines[:begin] + lines[begin + size :]
            if len(candidate) < len(lines) and still_fails("".join(candidate)):
                lines = candidate
        size //= 2
    return "".join(lines)


def _is_there(value: Any, path: Path) -> bool:
    try:
        at(value, path)
    except (KeyError, IndexError, TypeError):
        return False
    return True
