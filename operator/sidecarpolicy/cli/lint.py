"""`sidecarpolicy lint`: old-school sidecars in manifests, and what breaks native ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from sidecarpolicy.cli import sources
from sidecarpolicy.cli.lint_input import Linted, all_linted
from sidecarpolicy.cli.lint_reports import json_of, junit_of, sarif_of, text_of
from sidecarpolicy.lint.findings import CODES
from sidecarpolicy.manifests import BadInput

FORMATS: dict[str, Callable[[Sequence[Linted]], str]] = {
    "text": text_of,
    "json": json_of,
    "sarif": sarif_of,
    "junit": junit_of,
}


@click.command(
    epilog="Exit codes: 0 nothing found, 1 something found, or bad input (then nothing is printed), 2 wrong usage. "
    "docs/lint.md explains every code."
)
@sources.files_argument
@click.option("-o", "--output", type=click.Choice(list(FORMATS)), default="text", show_default=True)
@click.option("--sure", is_flag=True, help="Leave out what somebody must look at to be sure.")
@click.option(
    "--ignore",
    multiple=True,
    type=click.Choice(list(CODES)),
    metavar="CODE",
    help="Leave out findings of this code; may be repeated.",
)
def lint(paths: tuple[Path, ...], recursive: bool, output: str, sure: bool, ignore: tuple[str, ...]) -> None:
    """Find old-school sidecars in manifests, and what breaks native ones.

    Reads Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and Pods in YAML or JSON, Lists of them
    too; everything else is passed over. Asks no cluster.

    Shell in commands and hooks is parsed, so a loop is found however it is written, and words in a string or a comment
    are not. A finding that begins with "perhaps" is not sure: it depends on what the manifest does not say.
    """
    skipped = frozenset(ignore)
    problems = sources.Problems()
    try:
        files, _ = sources.read(paths, recursive=recursive)
        found = [
            each for file in files for each in problems.of(all_linted, file, sure_only=sure, ignored=skipped) or []
        ]
        problems.settle()
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    click.echo(FORMATS[output](found), nl=False)
    click.echo(_summary(found) if found else sources.without("workload to look at", files), err=True)
    raise SystemExit(1 if any(each.findings for each in found) else 0)


def _summary(found: Sequence[Linted]) -> str:
    count = sum(len(each.findings) for each in found)
    unsure = sum(not one.finding.sure for each in found for one in each.findings)
    workloads = _many(len(found), "workload")
    if not count:
        return f"{workloads}: nothing found"
    affected = sum(bool(each.findings) for each in found)
    doubt = f" ({unsure} not sure)" if unsure else ""
    return f"{workloads}: {_many(count, 'finding')}{doubt} in {affected}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
