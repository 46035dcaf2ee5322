"""Changes of a file, spliced into its text: what they do not touch stays byte for byte.

Changes are collected by path, always that of the file as it was read, and become one list of splices in the end.
What a change adds is laid out as what stands around it: the indentation of its siblings, the depth of the dashes,
line ends, block or flow, JSON pretty or on one line.

**An owner's empty lists.** `fill` puts something where an empty value stands and leaves a note of what stood there;
`clear` puts that back, and removes the key where nothing stood there. In block YAML the note is a comment
(`volumes: # was [] before sidecars.dev`), in flow YAML and JSON the number of spaces after the opening bracket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any

from yaml import Node

from sidecarpolicy.manifests.files import Document, File
from sidecarpolicy.manifests.places import Path, text_of_path
from sidecarpolicy.manifests.splicing import Changes, text_with

Trail = tuple[str, ...]
Ours = Callable[[Trail], bool]
"""Whether the item with this trail is ours: the keys on the way to it and, in lists, the names of items."""


class Edits:
    """The changes of one file. Paths are the document's; every method raises KeyError where a path leads nowhere."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._changes: dict[tuple[Document, Path], Changes] = {}
        self._ways: dict[tuple[Document, Path], tuple[Node, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._changes)

    def set(self, document: Document, path: Path, value: Any) -> None:
        """Replace the value at *path*, or add the key at the end of its mapping; an index must exist."""
        if isinstance(path[-1], int):
            self._way(document, path)
        self._of(document, path).put[path[-1]] = value

    def insert(self, document: Document, path: Path, value: Any) -> None:
        """Put an item before the one at *path*, or at the end of the list where the index is its length.

        Several at one place come in the order of the calls.
        """
        index = path[-1]
        if not isinstance(index, int):
            raise TypeError(f"{text_of_path(path)}: the last step must be an index")
        self._of(document, path).inserted.setdefault(index, []).append(value)

    def remove(self, document: Document, path: Path) -> None:
        """Remove a key with its value, or an item; a collection that loses its last entry stays, empty."""
        self._way(document, path)
        self._of(document, path).removed.add(path[-1])

    def fill(self, document: Document, path: Path, value: Any) -> None:
        """Put a list or mapping where an empty value or nothing stands, so that `clear` can undo it."""
        changes = self._of(document, path)
        changes.put[path[-1]] = value
        changes.filled.add(path[-1])

    def clear(self, document: Document, path: Path) -> None:
        """Put back what stood at *path* before `fill`; remove the key where nothing did."""
        self._way(document, path)
        self._of(document, path).cleared.add(path[-1])

    def become(
        self, document: Document, path: Path, before: Any, after: Any, *, ours: Ours | None = None, trail: Trail = ()
    ) -> None:
        """Turn the value *before* at *path* into *after* by the fewest changes that show the same.

        With *ours*, which tells from an item's trail whether it is not the owner's, items of the owner keep their text
        wherever they can, and empty values are treated as `fill` and `clear` do. *trail*: the names on the way.
        """
        if before is after or (before == after and type(before) is type(after)):
            return
        if isinstance(before, dict) and isinstance(after, dict) and before:
            self._become_mapping(document, path, before, after, ours, trail)
        elif isinstance(before, list) and isinstance(after, list) and before and after:
            self._become_list(document, path, before, after, ours, trail)
        elif ours is not None and not before and after and isinstance(after, dict | list):
            self.fill(document, path, after)
        elif ours is not None and isinstance(before, dict | list) and before and after in (None, type(before)()):
            self.clear(document, path)
        else:
            self.set(document, path, after)

    def text(self) -> str:
        """Return the whole file with the changes; raises Unspliceable, with the line, where that cannot be done."""
        return text_with(self.file, self._changes)

    def text_between(self, start: int, end: int) -> str:
        """Return what becomes of a part of the text, between two indexes that no change lies across."""
        return text_with(self.file, self._changes, start, end)

    def _of(self, document: Document, path: Path) -> Changes:
        if not path:
            raise KeyError("a document as a whole is not changed")
        key = (document, path[:-1])
        found = self._changes.get(key)
        if found is None:
            found = self._changes[key] = Changes(self._way(document, path[:-1]))
        return found

    def _way(self, document: Document, path: Path) -> tuple[Node, ...]:
        """Return the nodes from the document's root to the one at *path*; raise KeyError where it leads nowhere."""
        found = self._ways.get((document, path))
        if found is None:
            above = self._way(document, path[:-1]) if path else ()
            node = self.file.places.under(above[-1], path[-1]) if path else document.node
            if node is None:
                raise KeyError(text_of_path(path))
            found = self._ways[document, path] = (*above, node)
        return found

    def _become_mapping(
        self,
        document: Document,
        path: Path,
        before: dict[str, Any],
        after: dict[str, Any],
        ours: Ours | None,
        trail: Trail,
    ) -> None:
        for key, value in before.items():
            if key in after:
                if value is not after[key]:
                    self.become(document, (*path, key), value, after[key], ours=ours, trail=(*trail, key))
            elif ours is not None and isinstance(value, dict | list):
                self.clear(document, (*path, key))
            else:
                self.remove(document, (*path, key))
        for key, value in after.items():
            if key not in before:
                self.set(document, (*path, key), value)

    def _become_list(
        self, document: Document, path: Path, before: list[Any], after: list[Any], ours: Ours | None, trail: Trail
    ) -> None:
        old_of = {new: old for old, new in _paired(before, after, ours, trail)}
        kept = set(old_of.values())
        for index in range(len(before)):
            if index not in kept:
                self.remove(document, (*path, index))
        place = 0
        for index, value in enumerate(after):
            if index not in old_of:
                self.insert(document, (*path, place), value)
                continue
            old = old_of[index]
            place = old + 1
            if before[old] is value:
                continue
            self.become(document, (*path, old), before[old], value, ours=ours, trail=(*trail, identity_of(before[old])))


def _paired(before: Sequence[Any], after: Sequence[Any], ours: Ours | None, trail: Trail) -> list[tuple[int, int]]:
    """Return which items of two lists are the same one, in order: the owner's first of all, then others."""
    if (places := _places_of(before, after)) is not None:
        return list(enumerate(places))
    old, new = ([identity_of(each) for each in listed] for listed in (before, after))
    if (pairs := _all_of(old, new)) is not None:
        return pairs
    fixed: list[tuple[int, int]] = []
    if ours is not None:
        own_old = [index for index, name in enumerate(old) if not ours((*trail, name))]
        own_new = [index for index, name in enumerate(new) if not ours((*trail, name))]
        fixed = [(own_old[a], own_new[b]) for a, b in _matches([old[i] for i in own_old], [new[i] for i in own_new])]
    paired: list[tuple[int, int]] = []
    from_old = from_new = 0
    for to_old, to_new in [*fixed, (len(old), len(new))]:
        between = _matches(old[from_old:to_old], new[from_new:to_new])
        paired += [(from_old + a, from_new + b) for a, b in between]
        if to_old < len(old):
            paired.append((to_old, to_new))
        from_old, from_new = to_old + 1, to_new + 1
    return paired


def _places_of(before: Sequence[Any], after: Sequence[Any]) -> list[int] | None:
    """Return where the very items of *before* are in *after*, if nothing was done there but to add some."""
    if len(before) > len(after):
        return None
    places: list[int] = []
    place, most = 0, len(after)
    for item in before:
        while place < most and after[place] is not item:
            place += 1
        if place == most:
            return None
        places.append(place)
        place += 1
    return places


def _all_of(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]] | None:
    """Return the only way to pair lists of which one holds the other, in its order; None where there are others."""
    if len(old) <= len(new):
        places = _contained(old, new) if len(set(new)) == len(new) else None
        return None if places is None else list(enumerate(places))
    places = _contained(new, old) if len(set(old)) == len(old) else None
    return None if places is None else [(place, index) for index, place in enumerate(places)]


def _matches(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    shorter, longer = (old, new) if len(old) <= len(new) else (new, old)
    if (places := _contained(shorter, longer)) is not None:
        pairs = list(enumerate(places))
        return pairs if shorter is old else [(place, index) for index, place in pairs]
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]


def _contained(shorter: Sequence[str], longer: Sequence[str]) -> list[int] | None:
    """Return where the items of *shorter* are in *longer*, if they are there in the same order."""
    places: list[int] = []
    place = 0
    for name in shorter:
        while place < len(longer) and longer[place] != name:
            place += 1
        if place == len(longer):
            return None
        places.append(place)
        place += 1
    return places


def identity_of(value: Any) -> str:
    """Return the name by which an item of a list is known: what Kubernetes merges by, or all of it."""
    if isinstance(value, dict):
        for key in ("mountPath", "name", "containerPort", "key", "path"):
            found = value.get(key)
            if type(found) is str:
                return found
            if isinstance(found, int):
                return str(found)
    return repr(value)
