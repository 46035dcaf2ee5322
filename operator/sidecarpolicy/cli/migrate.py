"""`sidecarpolicy migrate`: manifests with old-school sidecars, rewritten with native ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import click

from sidecarpolicy.cli import sources
from sidecarpolicy.cli.diff import show_difference
from sidecarpolicy.cli.lint_input import line_of
from sidecarpolicy.cli.manifests import is_stdin, stream_of, write_all, yaml_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.lint.findings import path_text
from sidecarpolicy.lint.pods import POD_SPECS
from sidecarpolicy.manifests import BYTE_ORDER_MARK, BadInput, File, Unspliceable, parse
from sidecarpolicy.migrate import Lifted, Migration, Note, lift, policies
from sidecarpolicy.migrate import migrate as migration_of
from sidecarpolicy.migrate.moving import LEAVES, get
from sidecarpolicy.migrate.text import Migrated, migrated_text

CHANGES_NEEDED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A *file*, and its text *after*, with what was done to each workload in it and what was lifted out."""

    file: File
    after: str
    found: tuple[Migrated, ...]
    lifted: tuple[Lifted, ...] = ()

    @property
    def source(self) -> str:
        """Return the file's name."""
        return self.file.source

    @property
    def changed(self) -> bool:
        """Whether the file is to be written."""
        return self.file.text != self.after.removeprefix(BYTE_ORDER_MARK)


@click.command(
    epilog="Exit codes: 0 done, or nothing to do, 1 bad input, or a file that cannot be changed or written (then none "
    "is), 2 wrong usage, 3 changes are needed (--check)."
)
@sources.files_argument
@click.option("--check", is_flag=True, help="Print nothing; exit with 3 if something is to be changed.")
@click.option("--diff", "as_diff", is_flag=True, help="Print what would change, as a unified diff.")
@click.option("-i", "--in-place", is_flag=True, help="Write changed files back instead of printing them.")
@click.option(
    "--to-policy",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Lift the sidecars of Deployments into SidecarPolicies, which are written to FILE.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["yaml", "json", "html"]),
    default="yaml",
    show_default=True,
    help="yaml: the manifests; json: what was done and what is left, for machines; html: a page with both, and the "
    "order of start and stop, before and after.",
)
def migrate(
    paths: tuple[Path, ...],
    recursive: bool,
    check: bool,
    as_diff: bool,
    in_place: bool,
    to_policy: Path | None,
    output: str,
) -> None:
    """Print manifests in which old-school sidecars are native ones.

    A container that is a sidecar without doubt moves to initContainers, with restartPolicy: Always, so that it starts
    first; what held it together falls away: loops that wait for it, sleeps and loops in its preStop hook, calls that
    make it quit, kills. Only what is certain is done. Everything else is a numbered note on standard error that says
    what a person must decide. Everything that is not changed stays as it is written. Asks no cluster.
    """
    if check + as_diff + in_place + (output != "yaml") > 1:
        raise click.UsageError(f"--check, --diff, --in-place and -o {output} exclude each other")
    if in_place and (not paths or any(map(is_stdin, paths))):
        raise click.UsageError("--in-place needs files: standard input cannot be written to")
    try:
        files = _rewritten(paths, recursive=recursive, lifting=to_policy is not None)
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    _write(files, to_policy if not (check or as_diff) else None, in_place=in_place)
    if output == "json":
        click.echo(json.dumps({"workloads": [one for each in files for one in _json(each)]}, indent=2))
    elif output == "html":
        from sidecarpolicy.cli.migrate_html import html_of

        click.echo(html_of([(each.file, each.after, each.found) for each in files]), nl=False)
    elif as_diff:
        show_difference(line for each in files for line in _diff(each))
    elif not check and not in_place:
        click.echo(stream_of([each.file for each in files], [each.after for each in files]), nl=False)
    if output != "json":
        _report(files)
    raise SystemExit(CHANGES_NEEDED if check and any(each.changed for each in files) else 0)


def rewritten(file: File, *, lifting: bool = False) -> Rewritten:
    """Return one file migrated; raise BadInput with the line where that cannot be done."""
    found: list[Migrated] = []
    lifted: list[Lifted] = []
    for index, each in enumerate(file.objects()):
        migration = migration_of(each.value) if each.kind in POD_SPECS else None
        if migration is None:
            continue
        if lifting:
            migration, left = lift(migration)
            lifted += [left] if left is not None else []
        found.append(Migrated(index=index, migration=migration))
    try:
        after = migrated_text(file, found)
    except Unspliceable as error:
        raise BadInput(
            [f"{file.source}, line {error.line}: cannot be changed without touching the rest: {error.why}"]
        ) from error
    mark = BYTE_ORDER_MARK if file.has_mark else ""
    return Rewritten(
        file=file,
        after=mark + after.removeprefix(BYTE_ORDER_MARK),
        found=tuple(found),
        lifted=tuple(lifted),
    )


def _rewritten(paths: Sequence[Path], *, recursive: bool, lifting: bool) -> list[Rewritten]:
    read, _ = sources.read(paths, recursive=recursive)
    problems = sources.Problems()
    files = [problems.of(rewritten, file, lifting=lifting) for file in read]
    problems.settle()
    return [each for each in files if each is not None]


def _write(files: Sequence[Rewritten], to_policy: Path | None, *, in_place: bool) -> None:
    """Write the policies and what has changed, all or nothing, and say what to mind."""
    made = _policies(files) if to_policy is not None else []
    texts = [(to_policy, yaml_of(*made))] if to_policy is not None and made else []
    texts += [(Path(each.source), each.after) for each in files if in_place and each.changed]
    try:
        write_all(texts)
    except BadInput as error:
        sources.give_up(error, exit_code=1, nothing_was="written")
    if to_policy is not None:
        click.echo(_about_policies(made, to_policy), err=True)


def _policies(files: Sequence[Rewritten]) -> list[Json]:
    """Return the policies that stand for what was lifted."""
    lifted = [one for each in files for one in each.lifted]
    whole = [
        at(get(one.migration.before, one.migration.spec_path[:-1]), "metadata", "labels")
        for each in files
        for one in each.found
        if one.migration.before.get("kind") == "Deployment"
        and not any(move.to == LEAVES for move in one.migration.moves)
    ]
    return policies(lifted, whole)


def _about_policies(made: Sequence[Json], to: Path) -> str:
    if not made:
        return f"no sidecar could be lifted into a policy; {to} is not written"
    return (
        f"{to}: {len(made)} SidecarPolic{'y' if len(made) == 1 else 'ies'}: apply it first. Pods run without the "
        f"sidecar until the operator has injected it, unless what `sidecarpolicy inject -p {to}` prints is applied"
    )


def _diff(file: Rewritten) -> Iterator[str]:
    before, after = file.file.text.splitlines(), file.after.splitlines()
    return unified_diff(before, after, file.source, f"{file.source} (migrated)", lineterm="")


def _report(files: Sequence[Rewritten]) -> None:
    """Tell on standard error what was done, and what a person must decide, numbered through all files."""
    number = changed = workloads = 0
    for file in files:
        after = parse(file.after, file.source)
        for each in file.found:
            workloads += 1
            changed += each.migration.changed
            for done in each.migration.done:
                click.echo(f"{file.source}: {each.migration.title}: {done.message}", err=True)
        for each in file.found:
            for note in each.migration.notes:
                number += 1
                click.echo(
                    f"note {number}: {_place(after, each, note)}: {each.migration.title}: {note.message}", err=True
                )
    if not workloads:
        click.echo(sources.without("workload to migrate", [each.file for each in files]), err=True)
        return
    notes = f", {number} note{'' if number == 1 else 's'} for you to decide" if number else ""
    click.echo(f"{workloads} workload{'' if workloads == 1 else 's'}: {changed} changed{notes}", err=True)


def _place(after: File, found: Migrated, note: Note) -> str:
    target = list(after.objects())[found.index]
    return f"{after.source}:{line_of(target.document, target.at(note.path), note.inner)}"


def _json(file: Rewritten) -> Iterator[Json]:
    after = parse(file.after, file.source)
    for each in file.found:
        yield _workload(file, after, each, each.migration)


def _workload(file: Rewritten, after: File, found: Migrated, migration: Migration) -> Json:
    target = list(after.objects())[found.index]
    return {
        "file": file.source,
        "object": migration.title,
        "changed": migration.changed,
        "moved": [each.name for each in migration.moves],
        "done": [{"code": each.code, "message": each.message} for each in migration.done],
        "notes": [
            {
                "code": each.code,
                "line": line_of(target.document, target.at(each.path), each.inner),
                "path": path_text(target.at(each.path)),
                "message": each.message,
            }
            for each in migration.notes
        ],
    }
