"""From command-line arguments to results: reads the files, applies one decision to every Deployment, reports.

Nothing is printed before everything is known to be good, so a pipeline never applies half of an answer.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from sidecarpolicy.cli.deployments import Manifest, is_deployment, manifest_from
from sidecarpolicy.cli.manifests import STDIN, BadInput, Document, Place, changed, read
from sidecarpolicy.cli.offline import Did, Result
from sidecarpolicy.cli.policies import Given, given, namespace_warnings, policy_warnings
from sidecarpolicy.core.tree import Json

Decorated = TypeVar("Decorated", bound=Callable[..., object])

PATHS = click.Path(exists=True, allow_dash=True, path_type=Path)


def policies_option(command: Decorated) -> Decorated:
    """Add `-p`, the policies."""
    return click.option(
        "-p",
        "--policy",
        "policy_paths",
        metavar="FILE|DIR",
        type=click.Path(exists=True, path_type=Path),
        multiple=True,
        required=True,
        help="A file or directory with SidecarPolicies and ClusterSidecarPolicies; may be repeated.",
    )(command)


def namespace_option(command: Decorated) -> Decorated:
    """Add `-n`, the namespace of manifests without one."""
    return click.option(
        "-n",
        "--namespace",
        metavar="NAME",
        default="default",
        show_default=True,
        help="The namespace of Deployments and policies that name none.",
    )(command)


def files_argument(command: Decorated) -> Decorated:
    """Add the manifests to read, and `-R`."""
    recursive = click.option("-R", "--recursive", is_flag=True, help="Read the directories below each DIR too.")
    return recursive(click.argument("paths", metavar="[FILE|DIR|-]...", nargs=-1, type=PATHS)(command))


def manifests(paths: Sequence[Path], *, recursive: bool) -> list[Document]:
    """Return what *paths* hold, or standard input where there are none and it is no terminal."""
    if not paths and sys.stdin.isatty():
        raise click.UsageError("name the manifests: a FILE, a DIR, or - for standard input")
    return read(paths or (Path(STDIN),), recursive=recursive)


def policies(paths: Sequence[Path], documents: Sequence[Document], *, namespace: str, recursive: bool) -> Given:
    """Return what *paths* declare, with the Namespaces among *documents*."""
    return given(read(paths, recursive=recursive), documents, default_namespace=namespace)


def transform(
    documents: Sequence[Document], decide: Callable[[Manifest], Result], *, namespace: str
) -> tuple[list[Document], list[Result]]:
    """Return *documents* with every Deployment as *decide* has it; raise BadInput with the problems of all of them."""
    results: list[Result] = []
    problems: list[str] = []

    def change(place: Place, body: Json) -> Json:
        if not is_deployment(body):
            return body
        try:
            result = decide(manifest_from(place, body, namespace))
        except BadInput as error:
            problems.extend(error.problems)
            return body
        results.append(result)
        return result.body

    after = changed(documents, change)
    if problems:
        raise BadInput(list(dict.fromkeys(problems)))
    return after, results


def report(results: Sequence[Result], *, verb: str, untouched: str = "not selected") -> None:
    """Tell on standard error what was done with each Deployment, and sum up."""
    for result in results:
        for note in result.notes:
            click.echo(f"{result.manifest.workload.id}: {note.did} {note.text}", err=True)
    counts = Counter(_fate(result, verb, untouched) for result in results)
    parts = [f"{counts[word]} {word}" for word in (verb, "unchanged", "skipped", untouched) if counts[word]]
    total = "1 Deployment" if len(results) == 1 else f"{len(results)} Deployments"
    click.echo(total + (f": {', '.join(parts)}" if parts else ""), err=True)


def _fate(result: Result, verb: str, untouched: str) -> str:
    if not result.concerned:
        return untouched
    if result.changed:
        return verb
    return "skipped" if any(note.did is Did.SKIPPED for note in result.notes) else "unchanged"


def warn(decided_by: Given, documents: Sequence[Document], results: Sequence[Result]) -> None:
    """Tell on standard error what is odd about the policies and namespaces."""
    for about, reason, message in (*policy_warnings(decided_by), *namespace_warnings(documents)):
        click.echo(f"{about}: warning {reason}: {message}", err=True)
    used = {result.manifest.workload.id.namespace for result in results}
    for name in decided_by.guessed_namespaces(used):
        click.echo(
            f"namespace {name}: its labels are not known, so a ClusterSidecarPolicy may select more in the cluster: "
            "add the Namespace to the manifests",
            err=True,
        )
    if results and not any(result.concerned for result in results):
        reached = sorted({policy.namespace for policy in decided_by.policies if policy.namespace})
        own = f"; SidecarPolicies reach {', '.join(reached)} only" if reached else ""
        click.echo(
            f"no policy selects a Deployment: these are in {', '.join(sorted(used))}{own} "
            "(manifests without a namespace get that of --namespace); selectors look at the labels of Pod templates",
            err=True,
        )


def give_up(error: BadInput, *, exit_code: int) -> NoReturn:
    """Tell every problem on standard error and leave; nothing has been printed."""
    for problem in error.problems:
        click.echo(problem, err=True)
    count = len(error.problems)
    click.echo(f"{count} problem{'' if count == 1 else 's'}; nothing was printed", err=True)
    raise SystemExit(exit_code)
