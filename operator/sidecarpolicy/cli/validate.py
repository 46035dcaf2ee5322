"""`sidecarpolicy validate`: policies alone, checked without a cluster, for a pipeline or before a commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sidecarpolicy.cli import sources
from sidecarpolicy.cli.manifests import read_files
from sidecarpolicy.cli.namespace_name import namespace_name
from sidecarpolicy.cli.policies import given, is_policy, policy_warnings
from sidecarpolicy.cli.text import plural
from sidecarpolicy.manifests import BadInput


@click.command(epilog="Exit codes: 0 all are valid, 1 one is not or cannot be read, 2 wrong usage.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("-R", "--recursive", is_flag=True, help="Also what is below the directories.")
@click.option(
    "-n", "--namespace", callback=namespace_name, default="default", metavar="NAME", help="For policies without one."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@click.option("--strict", is_flag=True, help="Warnings are failures too.")
def validate(files: tuple[Path, ...], recursive: bool, namespace: str, output: str, strict: bool) -> None:
    """Check the policies in FILES: against the schema of their kinds, and for what no schema can say.

    FILES are manifests, directories, or - for standard input; objects of other kinds are passed over. What the API
    server alone knows (its own validation of containers, admission) shows at `kubectl apply --dry-run=server`.
    """
    sources.refuse_two_stdins(files)
    checked, problems, warnings = 0, list[str](), list[str]()
    try:
        read = read_files(files, recursive=recursive)
        checked = sum(is_policy(each) for file in read for each in file.objects())
        found = policy_warnings(given(read, (), default_namespace=namespace))
        warnings = [f"{about}: {reason}: {message}" for about, reason, message in found]
    except BadInput as error:
        problems = list(error.problems)
    _print(checked, problems, warnings, output)
    if problems or (strict and warnings):
        raise SystemExit(1)


def _print(checked: int, problems: Sequence[str], warnings: Sequence[str], output: str) -> None:
    if output == "json":
        from sidecarpolicy.cli.asking import print_as

        print_as(output, {"valid": not problems, "policies": checked, "problems": [*problems], "warnings": [*warnings]})
        return
    for each in problems:
        click.echo(each, err=True)
    for each in warnings:
        click.echo(f"warning: {each}", err=True)
    if problems:
        click.echo(f"{plural(len(problems), 'problem')} in {plural(checked, 'policy', 'policies')}", err=True)
    else:
        click.echo(f"{plural(checked, 'policy', 'policies')} valid")
