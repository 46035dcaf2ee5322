"""How what inject and eject decide gets into the text of a manifest.

Items of the owner keep their text wherever they stand; what was an empty list before comes back when it is empty
again. The finished text is read once more and compared with what was decided, so that nothing is ever printed that
is not meant; that is left out only for files so large that somebody would wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.cli.offline import Result
from sidecarpolicy.core.record import ENV, INIT_CONTAINERS, PULL_SECRETS, VOLUME_MOUNTS, VOLUMES, ItemKey
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.manifests import BadInput, Edits, File, Object, Unspliceable, parse

READ_AGAIN = 512 * 1024
"""Up to how many characters a changed file is read again."""


@dataclass(frozen=True)
class Rewritten:
    """A file and what it has become."""

    file: File
    text: str

    @property
    def is_changed(self) -> bool:
        """Whether anything is other than before."""
        return self.text.removeprefix("\ufeff") != self.file.text

    @cached_property
    def bodies(self) -> list[Any]:
        """The documents in it."""
        return [document.value for document in parse(self.text, self.file.source).documents]


def rewritten(file: File, results: Sequence[Result]) -> Rewritten:
    """Return *file* with the *results* for its Deployments; raise BadInput where one cannot be put into the text."""
    edits = Edits(file)
    problems: list[str] = []
    for result in results:
        if result.changed:
            edit(edits, result)
    try:
        text = edits.text()
    except Unspliceable as error:
        raise BadInput([f"{file.source}, line {error.line}: {error.why}"]) from error
    if edits and len(text) <= READ_AGAIN:
        problems += _differences(file, text, results)
    if problems:
        raise BadInput(problems)
    return Rewritten(file, text)


def edit(edits: Edits, result: Result) -> None:
    """Add to *edits* what turns the Deployment into what it is to be."""
    found = result.manifest.found
    before, after = result.manifest.body, result.body
    ours = _is_ours(before, after)
    annotations = ("metadata", "annotations")
    edits.become(
        found.document,
        found.at(annotations),
        at(before, "metadata").get("annotations"),
        at(after, "metadata").get("annotations"),
        ours=ours,
    )
    edits.become(found.document, found.at(("spec",)), before["spec"], after["spec"], ours=ours)


def _is_ours(*bodies: Json) -> Callable[[tuple[str, ...]], bool]:
    """Return what tells from the trail of an item whether a record of *bodies* names it."""
    items: set[ItemKey] = set()
    for body in bodies:
        items |= record_of(at(body, "metadata", "annotations").get(names.RECORD)).items

    def ours(trail: tuple[str, ...]) -> bool:
        listed, name = trail[-2:]
        if listed in (INIT_CONTAINERS, VOLUMES, PULL_SECRETS):
            return ItemKey(listed, name) in items
        return listed in (ENV, VOLUME_MOUNTS) and ItemKey(listed, name, trail[-3]) in items

    return ours


def _differences(file: File, text: str, results: Sequence[Result]) -> list[str]:
    """Return where *text* does not say what was decided."""
    after = parse(text, file.source)
    wanted = {_key(result.manifest.found): result.body for result in results}
    return [
        f"{found.place}: cannot be changed without changing something else as well; this is an error of "
        "sidecarpolicy: please report it with the manifest"
        for old, found in zip(file.objects(), after.objects(), strict=True)
        if _bare(found.value) != _bare(wanted.get(_key(old), old.value))
    ]


def _key(found: Object) -> tuple[int, tuple[str | int, ...]]:
    return found.place.number, found.path


def _bare(value: Any) -> Any:
    """Return *value* without what is empty: an owner's empty list is the same as none."""
    if isinstance(value, dict):
        return {key: bare for key, each in value.items() if (bare := _bare(each)) not in (None, [], {})}
    if isinstance(value, list):
        return [_bare(each) for each in value]
    return value


def lines_of(found: Object) -> tuple[int, int]:
    """Return from where to where in its file the lines of *found* are."""
    places = found.document.file.places
    return places.line_start(found.node.start_mark.index), places.end(found.node)


def concerned(results: Iterable[Result]) -> list[Result]:
    """Return those of *results* that change."""
    return [result for result in results if result.changed]
