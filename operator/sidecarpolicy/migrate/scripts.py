"""Statements taken out of a script, with all else as it is written.

A statement goes with what ties it to its neighbors: the line that it has for itself, or its `;`, `&&` or `||`. Where
what would be left is not plainly the same script without it, there is no answer (None), and a person must decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from sidecarpolicy.lint.shell import Kind, Script, Statement, parse

Hack = Callable[[Statement], bool]
_HARMLESS = frozenset({"true", ":", "echo", "printf"})


def without(script: Script, hack: Hack) -> str | None:
    """Return the text of *script* without the statements of which *hack* is true; None where that is not certain.

    An empty text: nothing but them was in it.
    """
    if not script.readable:
        return None
    cuts: list[tuple[int, int]] = []
    functions = frozenset(name for name, body in script.functions.items() if _all_hacks(body.body, hack))
    for statement in script.statements:
        found = _cut(statement, hack, functions, script.text)
        if found is None:
            return None
        cuts += found
    if not cuts:
        return None
    text = _without_cuts(script.text, cuts)
    again = parse(text)
    left = [
        each for each in again.walk() if each.kind is Kind.COMMAND and each.words[:1] and each.words[0] in functions
    ]
    if not again.readable or left or any(hack(each) for each in again.reached()):
        return None
    return text if _does_something(again) else ""


def foreground(script: Script, drop: Hack) -> str | None:
    """Return *script* with the one command that it has in the background in the foreground, by `exec`.

    Only where all that comes after it is dropped, or ends the script; None otherwise.
    """
    if not script.readable:
        return None
    place = next((index for index, each in enumerate(script.statements) if each.background), None)
    if place is None:
        return None
    command = script.statements[place]
    after = script.statements[place + 1 :]
    if command.kind is not Kind.COMMAND or not all(drop(each) or _ends(each) for each in after):
        return None
    if any(each.kind in {Kind.FUNCTION} or each.name == "trap" for each in script.statements[:place]):
        return None
    written = script.text[command.start : command.end].rstrip()
    prefix = "" if command.words[:1] == ("exec",) else "exec "
    if re.match(r"\w+=", written):
        return None
    text = script.text[: command.start] + prefix + written + ("\n" if script.text.endswith("\n") else "")
    return text if parse(text).readable else None


def _ends(statement: Statement) -> bool:
    """Whether a statement only ends what runs, or takes down a process id."""
    if statement.kind is Kind.ASSIGNMENT:
        return all("$!" in each for each in statement.words)
    return statement.name in {"kill", "exit", "wait", "echo", "sleep", "printf"}


def _cut(statement: Statement, hack: Hack, functions: frozenset[str], text: str) -> list[tuple[int, int]] | None:
    """The spans to cut out of one top level statement; none where it stays, None where it is not certain."""
    if statement.kind is Kind.FUNCTION:
        return [(statement.start, statement.end)] if statement.words[0] in functions else _untouched(statement, hack)
    if _is_hack(statement, hack, functions):
        return [(statement.start, statement.end)]
    if statement.kind is Kind.LIST:
        return _cut_list(statement, hack, functions, text)
    return _untouched(statement, hack)


def _cut_list(statement: Statement, hack: Hack, functions: frozenset[str], text: str) -> list[tuple[int, int]] | None:
    """`wait && app` becomes `app`, `app && quit` and `app; quit || true` lose the call."""
    parts = _flat(statement)
    gone = [_is_hack(each, hack, functions) for each in parts]
    if not any(gone):
        return _untouched(statement, hack)
    if all(each or part.name in _HARMLESS for each, part in zip(gone, parts, strict=True)):
        return [(statement.start, statement.end)]
    joints = [text[one.end : other.start].strip() for one, other in pairwise(parts)]
    first_kept = gone.index(False)
    if not any(gone[first_kept:]) and all(each == "&&" for each in joints[:first_kept]):
        return [(statement.start, parts[first_kept].start)]
    last_kept = len(gone) - 1 - gone[::-1].index(False)
    if not any(gone[: last_kept + 1]) and joints[last_kept] == "&&":
        return [(parts[last_kept].end, statement.end)]
    return None


def _untouched(statement: Statement, hack: Hack) -> list[tuple[int, int]] | None:
    return None if any(hack(each) for each in statement.walk()) else []


def _is_hack(statement: Statement, hack: Hack, functions: frozenset[str]) -> bool:
    if hack(statement):
        return True
    if statement.kind is Kind.COMMAND and statement.words:
        if statement.words[0] in functions:
            return True
        if statement.words[0] == "trap":
            run = [each for each in statement.body if each.embedded]
            return bool(run) and all(_is_hack(each, hack, functions) for each in run)
        scripts = [each for each in statement.body if each.embedded]
        nested = statement.name in {"sh", "bash", "ash", "dash"}
        return nested and bool(scripts) and _all_hacks(tuple(scripts), hack)
    if statement.kind in {Kind.NOT, Kind.GROUP, Kind.LIST} and not statement.background:
        return _all_hacks(statement.body, hack)
    return False


def _all_hacks(statements: Sequence[Statement], hack: Hack) -> bool:
    found = [hack(each) for each in statements]
    return any(found) and all(
        each or one.name in _HARMLESS or one.kind is Kind.ASSIGNMENT
        for each, one in zip(found, statements, strict=True)
    )


def _flat(statement: Statement) -> list[Statement]:
    if statement.kind is not Kind.LIST:
        return [statement]
    return [one for each in statement.body for one in _flat(each)]


def _without_cuts(text: str, cuts: list[tuple[int, int]]) -> str:
    for start, end in sorted(cuts, reverse=True):
        if text[end:].lstrip(" \t")[:1] == ";" and text[end:].lstrip(" \t")[:2] != ";;":
            end = text.index(";", end) + 1
        line_start = text.rfind("\n", 0, start) + 1
        rest = text[end:]
        alone = not text[line_start:start].strip()
        comment = re.match(r"[ \t]*(?:#[^\n]*)?(\n|\Z)", rest)
        if alone and comment:
            start, end = line_start, end + comment.end()
        elif alone:
            end += len(rest) - len(rest.lstrip(" \t"))
        elif comment:
            start = len(text[:start].rstrip(" \t"))
            if text[:start].endswith(";"):
                start -= 1
        else:
            end += len(rest) - len(rest.lstrip(" \t"))
        text = text[:start] + text[end:]
    return text


def _does_something(script: Script) -> bool:
    preparing = {"set", "echo", "printf", "export", "true", ":"}
    return any(
        each.kind is not Kind.ASSIGNMENT and not (each.kind is Kind.COMMAND and each.name in preparing)
        for each in script.statements
    )
