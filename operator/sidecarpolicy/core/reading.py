"""Read untyped JSON and say, for everything that is wrong, where it is and what it must be.

A Cursor stands at one place of the author's YAML and knows its path. It collects problems instead of stopping at the
first, so that an author sees all of them at once; where a value is unusable the caller gets the fallback. A field that
is not known is a problem where somebody typed it, and only noted where a newer CRD may have put it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from sidecarpolicy.core.tree import Json

Choice = TypeVar("Choice", bound=StrEnum)
NOTHING: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: *path* in the author's YAML, and a sentence that begins "must"."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidInput(Exception):
    """What was read cannot be used; *problems* says why, in the order in which they were found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(slots=True)
class Cursor:
    """A value, where it stands, and the lists in which problems and the paths of unknown fields are collected.

    *unknown* is None where an unknown field is a problem.
    """

    value: Any
    path: str
    problems: list[Problem] = field(default_factory=list)
    unknown: list[str] | None = None

    def wrong(self, message: str) -> None:
        """Note a problem here, once."""
        problem = Problem(path=self.path, message=message)
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def absent(self) -> bool:
        """Whether nothing stands here; null is nothing, as the API server has it."""
        return self.value is None

    @property
    def strict(self) -> Cursor:
        """The same place, where an unknown field is a problem."""
        return replace(self, unknown=None)

    def field(self, name: str) -> Cursor:
        """Step into a field of a mapping; absent where it is no mapping."""
        here = self.value
        value = here.get(name) if type(here) is dict or isinstance(here, Mapping) else None
        return Cursor(value, f"{self.path}.{name}" if self.path else name, self.problems, self.unknown)

    def mapping(self, *, allowed: frozenset[str] | None = None, inside: Mapping[str, frozenset[str]] = NOTHING) -> Json:
        """Return the mapping here; with *allowed*, any other field is a problem, or noted as unknown.

        *inside*: which fields belong into a field of this mapping, by its name.
        """
        if self.value is None:
            return {}
        if type(self.value) is not dict and not isinstance(self.value, Mapping):
            self.wrong(f"must be a mapping, not {_kind(self.value)}")
            return {}
        strange = [name for name in self.value if not isinstance(name, str)]  # YAML has keys that JSON has not
        for name in strange:
            self.wrong(f"must have strings as keys, not {_kind(name)}")
        unknown = sorted({str(name) for name in self.value} - allowed) if allowed is not None else ()
        for name in unknown:
            found = self.field(name)
            if self.unknown is None:
                where = next((each for each, fields in inside.items() if name in fields), "")
                known = ", ".join(sorted(allowed or ()))
                found.wrong(f"belongs under {where}" if where else f"must be one of {known}; is it misspelt?")
            elif found.path not in self.unknown:
                self.unknown.append(found.path)
        named = dict(self.value)
        for name in strange:
            del named[name]
        return named

    def entries(self) -> Iterator[Cursor]:
        """Step through a list; nothing where it is absent or no list."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            self.wrong(f"must be a list, not {_kind(self.value)}")
            return
        for index, value in enumerate(self.value):
            yield Cursor(value, f"{self.path}[{index}]", self.problems, self.unknown)

    def text(self, default: str = "") -> str:
        """Return the string here."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            self.wrong(f"must be a string, not {_kind(self.value)}")
            return default
        return self.value

    def integer(self, default: int, *, least: int, most: int) -> int:
        """Return the whole number here, between *least* and *most*."""
        if self.value is None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.wrong(f"must be a whole number, not {_kind(self.value)}")
            return default
        if not least <= self.value <= most:
            self.wrong(f"must be between {least} and {most}, not {self.value}")
            return default
        return self.value

    def flag(self, default: bool = False) -> bool:
        """Return the boolean here."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            self.wrong(f"must be true or false, not {_kind(self.value)}")
            return default
        return self.value

    def choice(self, default: Choice) -> Choice:
        """Return the member of *default*'s enumeration that stands here."""
        if self.value is None:
            return default
        try:
            return type(default)(self.value)
        except ValueError:
            self.wrong(f"must be one of {', '.join(type(default))}, not {self.value!r}")
            return default


def _kind(value: object) -> str:
    """Name a value for a message: what it is and, where short, how it reads."""
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a mapping",
    }
    shown = f" ({value!r})" if isinstance(value, bool | int | float | str) and len(str(value)) <= 40 else ""
    return names.get(type(value), type(value).__name__) + shown
