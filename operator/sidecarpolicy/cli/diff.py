"""`sidecarpolicy diff`: what inject would change, as a unified diff."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

import click

from sidecarpolicy.cli import batch, sources
from sidecarpolicy.cli.manifests import yaml_of
from sidecarpolicy.cli.offline import Result, injected
from sidecarpolicy.cli.rewriting import edit, lines_of
from sidecarpolicy.cli.text import painted
from sidecarpolicy.manifests import BadInput, Edits, block

BAD_INPUT = 3
STYLES = {"@": "cyan", "+": "green", "-": "red"}


@click.command(
    epilog="Exit codes, as those of kubectl diff: 0 nothing would change, 1 something would, more than 1 an error "
    "(2 wrong usage, 3 bad input)."
)
@batch.policies_option
@batch.namespace_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "yaml", "json"]),
    default="text",
    show_default=True,
    help="text: a unified diff; yaml, json: a document with every Deployment and what is to be said of it.",
)
@sources.files_argument
@batch.in_one_go
def diff(policy_paths: tuple[Path, ...], namespace: str, paths: tuple[Path, ...], recursive: bool, output: str) -> None:
    """Show what inject would change.

    Takes what inject takes. The difference of every Deployment that would change goes to standard output, line by line
    as it is written (of JSON, as YAML); the report goes to standard error.
    """
    try:
        files, policy_files = sources.read(paths, policy_paths, recursive=recursive)
        done, decided_by = batch.with_policies(files, policy_files, injected, namespace=namespace)
    except BadInput as error:
        sources.give_up(error, exit_code=BAD_INPUT)
    if output == "text":
        show_difference(line for result in done.results for line in difference(result))
    else:
        document = {
            "results": [_document(result) for result in done.results],
            "remarks": [*done.remarks, *batch.warnings(decided_by, files, done.results)],
        }
        click.echo(json.dumps(document, indent=2) + "\n" if output == "json" else yaml_of(document), nl=False)
    batch.report(done, verb="would change")
    batch.warn(decided_by, files, done.results)
    raise SystemExit(1 if any(result.changed for result in done.results) else 0)


def difference(result: Result) -> Iterator[str]:
    """Yield the lines of the unified diff of one Deployment, without line ends; none where nothing changes."""
    if not result.changed:
        return iter(())
    workload, found = result.manifest.workload.id, result.manifest.found
    name = f"Deployment {workload}"
    if found.document.file.is_json:
        before, after = (block(body) for body in (result.manifest.body, result.body))
    else:
        edits = Edits(found.document.file)
        edit(edits, result)
        start, end = lines_of(found)
        before = found.document.file.text[start:end].splitlines()
        after = edits.text_between(start, end).splitlines()
    return unified_diff(before, after, f"{name} ({found.place})", f"{name} (injected)", lineterm="")


def _document(result: Result) -> dict[str, Any]:
    workload, found = result.manifest.workload.id, result.manifest.found
    return {
        "namespace": workload.namespace,
        "name": workload.name,
        "source": found.document.file.source,
        "line": found.position(()).line,
        "selected": result.concerned,
        "changed": result.changed,
        "notes": batch.notes_json(result.notes),
        "diff": "\n".join(difference(result)),
    }


def show_difference(lines: Iterable[str]) -> None:
    """Print the *lines* of unified diffs, in colours where somebody looks and wants them."""
    for line in lines:
        is_head = line.startswith(("---", "+++"))
        click.echo(painted(line, "" if is_head else STYLES.get(line[:1], ""), bold=is_head))
