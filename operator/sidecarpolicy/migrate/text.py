"""A file with its workloads migrated: fields are spliced, and the containers that move are moved as they are written.

A container that moves keeps its comments, quotes and layout; only its indentation follows its new list. Where its lines
cannot be moved (flow style, JSON, an anchor) it is written anew in its new place. What is returned always reads as what
was planned: that is checked each time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from yaml import SequenceNode

from sidecarpolicy.core.tree import Json
from sidecarpolicy.manifests import Document, Edits, File, Object, Path, Unspliceable, parse
from sidecarpolicy.migrate.model import Migration, Move
from sidecarpolicy.migrate.moving import LEAVES

_COMMENT = re.compile(r"[ \t]*#[^\n]*\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What becomes of one workload of a file: *index* counts the objects of the file."""

    index: int
    migration: Migration


def migrated_text(file: File, found: Sequence[Migrated]) -> str:
    """Return the text of *file* with every migration of *found*; raises Unspliceable, with the line."""
    changed = [each for each in found if each.migration.changed]
    if not changed:
        return file.text
    objects = list(file.objects())
    try:
        in_place = _spliced(file, [(objects[each.index], each.migration.in_place) for each in changed])
        text = _moved(parse(in_place, file.source), changed)
        if text is not None and _reads_as(text, file.source, changed):
            return text
    except (Unspliceable, KeyError):
        pass  # then written anew, or refused with the line
    text = _spliced(file, [(objects[each.index], each.migration.after) for each in changed])
    if not _reads_as(text, file.source, changed):
        raise Unspliceable(objects[changed[0].index].position(()).line, "it would not read as planned")
    return text


def _spliced(file: File, found: Sequence[tuple[Object, Json]]) -> str:
    edits = Edits(file)
    for each, after in found:
        _become(edits, each.document, each.path, each.value, after)
    return edits.text()


def _become(edits: Edits, document: Document, path: Path, before: object, after: object) -> None:
    """Turn *before* into *after*; in lists of one length item by item, so that each keeps its place."""
    if isinstance(before, dict) and isinstance(after, dict) and before and after:
        for key in before:
            if key not in after:
                edits.remove(document, (*path, key))
            elif before[key] != after[key]:
                _become(edits, document, (*path, key), before[key], after[key])
        for key in after:
            if key not in before:
                edits.set(document, (*path, key), after[key])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                _become(edits, document, (*path, index), old, new)
    elif isinstance(before, list) and isinstance(after, list) and before and after:
        edits.become(document, path, before, after)
    else:
        edits.set(document, path, after)


def _reads_as(text: str, source: str, changed: Sequence[Migrated]) -> bool:
    objects = list(parse(text, source).objects())
    return all(objects[each.index].value == each.migration.after for each in changed)


def _moved(file: File, changed: Sequence[Migrated]) -> str | None:
    """The text with the lines of the containers moved; None where one cannot be moved by lines."""
    objects = list(file.objects())
    cuts: list[tuple[int, int, str]] = []
    for each in changed:
        if each.migration.moves:
            target = objects[each.index]
            found = _moves(target.document, target.at(each.migration.spec_path), each.migration.moves)
            if found is None:
                return None
            cuts += found
    text = file.text
    for start, end, put in sorted(cuts, reverse=True):
        text = text[:start] + put + text[end:]
    if not file.text.endswith("\n") and text.endswith("\n"):
        text = text[:-1].removesuffix("\r")
    return text


def _moves(document: Document, spec: Path, moves: Sequence[Move]) -> list[tuple[int, int, str]] | None:
    regular, inits = (*spec, "containers"), (*spec, "initContainers")
    if document.file.is_json or not _is_block_list(document, regular):
        return None
    text = document.file.text
    newline = "\r\n" if "\r\n" in text else "\n"
    spans = _item_spans(document, regular)
    has_inits = document.entry(inits) is not None
    if has_inits and not _is_block_list(document, inits):
        return None
    from_column = _column(text, _begin(document, (*regular, 0)))
    to_column = _column(text, _begin(document, (*inits, 0))) if has_inits else from_column
    cuts: list[tuple[int, int, str]] = [(*spans[move.index], "") for move in moves]
    if has_inits:
        targets = _item_spans(document, inits)
        for place in sorted({move.to for move in moves if move.to != LEAVES}):
            at = targets[place][0] if place < len(targets) else targets[-1][1]
            lines = "".join(
                _shifted(_lines(text, spans[move.index], newline), to_column - from_column)
                for move in moves
                if move.to == place
            )
            before = "" if at == 0 or text[at - 1] == "\n" else newline
            cuts.append((at, at, before + lines))
        return cuts
    staying = [move for move in moves if move.to != LEAVES]
    if not staying:
        return cuts
    key = _begin(document, regular)
    column = _column(text, key)
    start = key - column
    if text[start:key].strip():
        return None
    at = _with_comments(text, start, column)
    lines = "".join(_lines(text, spans[move.index], newline) for move in staying)
    cuts.append((at, at, f"{' ' * column}initContainers:{newline}{lines}"))
    return cuts


def _is_block_list(document: Document, path: Path) -> bool:
    entry = document.entry(path)
    if entry is None or entry.is_alias or not isinstance(entry.node, SequenceNode) or not entry.node.value:
        return False
    return not entry.node.flow_style and document.file.text[entry.start : entry.start + 1] == "-"


def _item_spans(document: Document, path: Path) -> list[tuple[int, int]]:
    """The whole lines of each item, with the comments right above it; the last ends with its last leaf."""
    text = document.file.text
    entry = document.entry(path)
    count = len(entry.node.value) if entry is not None else 0
    starts = []
    for index in range(count):
        begin = _begin(document, (*path, index))
        column = _column(text, begin)
        starts.append(_with_comments(text, begin - column, column))
    last = document.entry((*path, count - 1))
    end = last.end if last is not None else 0
    if not (end and text[end - 1] == "\n"):
        found = text.find("\n", end)
        end = len(text) if found < 0 else found + 1
    return list(zip(starts, [*starts[1:], end], strict=True))


def _begin(document: Document, path: Path) -> int:
    """Where the key, or the dash of the item, at *path* begins."""
    entry = document.entry(path)
    if entry is None:
        raise KeyError(path)
    return entry.begin


def _column(text: str, index: int) -> int:
    """How many characters stand before *index* in its line."""
    return index - text.rfind("\n", 0, index) - 1


def _with_comments(text: str, line: int, indent: int) -> int:
    """Where the comment lines right above *line* begin, that stand at *indent* or further in."""
    while line > 0:
        above = text.rfind("\n", 0, line - 1) + 1
        written = text[above:line]
        if not _COMMENT.fullmatch(written) or len(written) - len(written.lstrip()) < indent:
            break
        line = above
    return line


def _lines(text: str, span: tuple[int, int], newline: str) -> str:
    lines = text[span[0] : span[1]]
    return lines if lines.endswith("\n") else lines + newline


def _shifted(lines: str, by: int) -> str:
    if not by:
        return lines
    out = []
    for line in lines.splitlines(keepends=True):
        if not line.strip():
            out.append(line)
        elif by > 0:
            out.append(" " * by + line)
        else:
            out.append(line[min(-by, len(line) - len(line.lstrip(" "))) :])
    return "".join(out)
