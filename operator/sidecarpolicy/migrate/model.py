"""What migrating an object means: the object afterwards, what was done, and what is left to a person."""

from __future__ import annotations

from dataclasses import dataclass

from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint.pods import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One change, for the reason of lint's *code*, where that is one."""

    message: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a person must decide, about *path* of the object afterwards; *inner*: the line in the text there."""

    path: Path
    message: str
    code: str = ""
    inner: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Container *name* moves from place *index* of `containers` to before the init container that was at place *to*.

    Several at one place come in the order in which they are listed.
    """

    name: str
    index: int
    to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """An object *before* and *after*. *spec_path*: where its Pod spec is.

    *in_place* is *after* with the containers that move still where they were, so that their text can be moved.
    """

    title: str
    spec_path: Path
    before: Json
    in_place: Json
    after: Json
    moves: tuple[Move, ...] = ()
    done: tuple[Done, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is to be changed."""
        return self.before != self.after
