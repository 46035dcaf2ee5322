"""What `migrate` does, as a page: each workload before and after, what was done, and what is left to a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecarpolicy.cli.comparison_html import Comparison, Side, page
from sidecarpolicy.cli.lint_input import line_of
from sidecarpolicy.cli.rewriting import lines_of
from sidecarpolicy.core.tree import Json
from sidecarpolicy.manifests import File, Object, parse
from sidecarpolicy.migrate.moving import get
from sidecarpolicy.migrate.text import Migrated


def html_of(files: Sequence[tuple[File, str, Sequence[Migrated]]]) -> str:
    """Return the page about *files*: each with its text afterwards, and what was done to each workload in it."""
    compared = [each for file, after, found in files for each in _of_file(file, parse(after, file.source), found)]
    workloads = sum(len(found) for *_, found in files)
    changed = sum(each.migration.changed for *_, found in files for each in found)
    many = "" if workloads == 1 else "s"
    summary = f"{workloads} workload{many}: {changed} changed; what needs neither a change nor a decision is left out"
    return page("Old-school sidecars become native ones", compared, summary=summary)


def _of_file(file: File, after: File, found: Sequence[Migrated]) -> Iterator[Comparison]:
    before_objects, after_objects = list(file.objects()), list(after.objects())
    for each in found:
        migration, became = each.migration, after_objects[each.index]
        if not migration.changed and not migration.notes:
            continue
        decide = [
            f"line {line_of(became.document, became.at(note.path), note.inner)}: {note.message}"
            for note in migration.notes
        ]
        yield Comparison(
            title=migration.title,
            source=str(before_objects[each.index].place),
            before=_side("before", get(migration.before, migration.spec_path), before_objects[each.index]),
            after=_side("after", get(migration.after, migration.spec_path), became),
            notes=(("What was done", [done.message for done in migration.done]), ("For you to decide", decide)),
        )


def _side(title: str, spec: Json, found: Object) -> Side:
    start, end = lines_of(found)
    text = found.document.file.text
    number = found.document.file.places.position(start, end).line
    return Side(title=title, spec=spec, lines=text[start:end].splitlines(), number=number)
