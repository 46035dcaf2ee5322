"""`sidecarpolicy diff`: what inject would change, as a unified diff."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from functools import partial
from pathlib import Path

import click

from sidecarpolicy.cli import batch
from sidecarpolicy.cli.manifests import BadInput, yaml_of
from sidecarpolicy.cli.offline import Result, injected

BAD_INPUT = 3
STYLES = {"@": "cyan", "+": "green", "-": "red"}


@click.command(
    epilog="Exit codes, as those of kubectl diff: 0 nothing would change, 1 something would, more than 1 an error "
    "(2 wrong usage, 3 bad input)."
)
@batch.policies_option
@batch.namespace_option
@batch.files_argument
def diff(policy_paths: tuple[Path, ...], namespace: str, paths: tuple[Path, ...], recursive: bool) -> None:
    """Show what inject would change.

    Takes what inject takes. The difference of every Deployment that would change goes to standard output, always as
    YAML; the report goes to standard error.
    """
    try:
        documents = batch.manifests(paths, recursive=recursive)
        decided_by = batch.policies(policy_paths, documents, namespace=namespace, recursive=recursive)
        _, results = batch.transform(documents, partial(injected, given=decided_by), namespace=namespace)
    except BadInput as error:
        batch.give_up(error, exit_code=BAD_INPUT)
    _show(line for result in results for line in difference(result))
    batch.report(results, verb="would change")
    batch.warn(decided_by, documents, results)
    raise SystemExit(1 if any(result.changed for result in results) else 0)


def difference(result: Result) -> Iterator[str]:
    """Yield the lines of the unified diff of one Deployment, without line ends; none where nothing changes."""
    name = f"Deployment {result.manifest.workload.id}"
    before, after = (yaml_of(body).splitlines() for body in (result.manifest.body, result.body))
    return unified_diff(before, after, f"{name} ({result.manifest.place})", f"{name} (injected)", lineterm="")


def _show(lines: Iterable[str]) -> None:
    if not sys.stdout.isatty():
        for line in lines:
            click.echo(line)
        return
    # Only here: rich is slow to import.
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for line in lines:
        style = "bold" if line.startswith(("---", "+++")) else STYLES.get(line[:1], "")
        console.print(Text(line, style=style), soft_wrap=True)
