"""`sidecarpolicy explain`: what a Deployment runs, in which order it starts and stops, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from sidecarpolicy.cli import batch, sources
from sidecarpolicy.cli.asking import Asked, asks_cluster, deployment_place
from sidecarpolicy.cli.completing import deployments
from sidecarpolicy.cli.explaining import Explained, explanation, lines, share
from sidecarpolicy.cli.hints import did_you_mean
from sidecarpolicy.cli.manifests import yaml_of
from sidecarpolicy.cli.offline import Result, injected
from sidecarpolicy.cli.policies import Given
from sidecarpolicy.cli.text import hanging, show, width
from sidecarpolicy.core.record import INIT_CONTAINERS
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.manifests import BadInput
from sidecarpolicy.names import RECORD

# Where a manifest is that names no namespace, if nobody says.
DEFAULT_NAMESPACE = "default"


@click.command(epilog="Exit codes: 0 explained, 1 bad input, no such Deployment, or no answer, 2 wrong usage.")
@click.argument("deployment", metavar="[deploy/]NAME", shell_complete=deployments)
@click.argument("more_paths", metavar="[FILE|DIR]...", nargs=-1, type=sources.PATHS)
@click.option(
    "-p",
    "--policy",
    "policy_paths",
    metavar="FILE|DIR|-",
    type=sources.PATHS,
    multiple=True,
    help="Look in files: a file or directory with the policies; may be repeated.",
)
@click.option(
    "-f",
    "--filename",
    "paths",
    type=sources.PATHS,
    multiple=True,
    metavar="FILE|DIR|-",
    help="With -p: manifests to look in, as behind NAME; may be repeated. Default: standard input.",
)
@click.option("-R", "--recursive", is_flag=True, help="Read the directories below each DIR too.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "yaml", "json", "html"]),
    default="text",
    show_default=True,
    help="html: a page with the order of start and stop drawn, before and after.",
)
@asks_cluster
@batch.in_one_go
def explain(
    asked: Asked,
    deployment: str,
    more_paths: tuple[Path, ...],
    policy_paths: tuple[Path, ...],
    paths: tuple[Path, ...],
    recursive: bool,
    output: str,
) -> None:
    """Explain what a Deployment gets from the policies that concern it, and why.

    Which policies and revisions it has, or why it is skipped; in which order its containers start and what holds the
    next one back; in which order they stop; what that may take; and what the sidecars request. NAME is cart or
    shop/cart; without a namespace it is looked for in that of -n.

    It is a Deployment of the cluster, with what only a cluster knows: what it runs now, how far it is, pins and halts.
    With -p it is one in files, and no cluster is asked.
    """
    paths = (*more_paths, *paths)
    if (paths or recursive) and not policy_paths:
        raise click.UsageError("name the policies, too: -p FILE|DIR")
    place = deployment_place(deployment)
    if policy_paths:
        found = _in_files(place, policy_paths, paths, recursive=recursive, namespace=asked.chosen or DEFAULT_NAMESPACE)
    else:
        from sidecarpolicy.cli.explain_live import in_cluster  # what a look at files has no need of

        found = in_cluster(asked, place)
    told = explanation(found)
    if output == "text":
        show(part for line in lines(told) for part in hanging(line, width()))
    elif output == "html":
        from sidecarpolicy.cli.explain_html import html_of

        click.echo(html_of(found, told), nl=False)
    else:
        click.echo(json.dumps(told, indent=2) if output == "json" else yaml_of(told).rstrip("\n"))


def _in_files(
    place: tuple[str, str],
    policy_paths: Sequence[Path],
    paths: Sequence[Path],
    *,
    recursive: bool,
    namespace: str,
) -> Explained:
    """Return what is to be said of the Deployment *place* in files; raise click.ClickException where there is none."""
    try:
        files, policy_files = sources.read(paths, policy_paths, recursive=recursive)
        done, decided_by = batch.with_policies(files, policy_files, injected, namespace=namespace)
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    result = _named(done.results, place, namespace)
    record = record_of(at(result.body, "metadata", "annotations").get(RECORD))
    return Explained(
        workload=result.manifest.workload.id,
        source=str(result.manifest.found.place),
        before=result.manifest.template,
        recorded=record_of(result.manifest.workload.record),
        after=at(result.body, *result.manifest.workload.template),
        record=record,
        policies=_policies(result, decided_by),
        notes=result.notes,
    )


def _named(results: Sequence[Result], place: tuple[str, str], namespace: str) -> Result:
    """Return the result for the Deployment at *place*; raise click.ClickException where there is none."""
    there, name = place[0] or namespace, place[1]
    for result in results:
        identity = result.manifest.workload.id
        if (identity.namespace, identity.name) == (there, name):
            return result
    known = [
        (f"{each.namespace}/" if each.namespace != namespace else "") + each.name
        for each in (result.manifest.workload.id for result in results)
    ]
    raise click.ClickException(
        f"there is no Deployment {name!r} in namespace {there} among the manifests; {did_you_mean(known, name)}"
    )


def _policies(result: Result, decided_by: Given) -> list[Json]:
    record = record_of(at(result.body, "metadata", "annotations").get(RECORD))
    return [
        {
            "policy": policy.label,
            "revision": entry.revision,
            "sidecars": sorted(entry.names(INIT_CONTAINERS)),
            "skipped": sorted(entry.adjustment.skipped),
            "overridden": [name for name, _ in entry.adjustment.overrides],
            "maxConcurrent": share(decided_by.policies[policy].rollout if policy in decided_by.policies else None),
        }
        for policy, entry in record.entries.items()
    ]
