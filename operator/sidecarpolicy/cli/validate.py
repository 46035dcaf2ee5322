"""`sidecarpolicy validate`: policies alone, checked without a cluster, for a pipeline or before a commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from sidecarpolicy import names
from sidecarpolicy.cli.manifests import BadInput, objects, read
from sidecarpolicy.cli.policies import given, in_namespace, policy_warnings
from sidecarpolicy.cli.schema import Schema, schema_problems, spec_schema
from sidecarpolicy.cli.text import plural
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.tree import Json


@click.command(epilog="Exit codes: 0 all are valid, 1 one is not or cannot be read, 2 wrong usage.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("-R", "--recursive", is_flag=True, help="Also what is below the directories.")
@click.option("-n", "--namespace", default="default", metavar="NAME", help="For policies without one.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@click.option("--strict", is_flag=True, help="Warnings are failures too.")
def validate(files: tuple[Path, ...], recursive: bool, namespace: str, output: str, strict: bool) -> None:
    """Check the policies in FILES: against the schema of their kinds, and for what no schema can say.

    FILES are manifests, directories, or - for standard input; objects of other kinds are passed over. What the API
    server alone knows (its own validation of containers, admission) shows at `kubectl apply --dry-run=server`.
    """
    try:
        documents = read(files, recursive=recursive)
    except BadInput as error:
        raise click.ClickException("\n".join(error.problems)) from error
    checked, problems = 0, []
    for place, body in objects(documents):
        if body.get("kind") not in names.PLURALS and not str(body.get("apiVersion")).startswith(f"{names.GROUP}/"):
            continue
        checked += 1
        problems += [f"{place}: {problem}" for problem in problems_of(in_namespace(body, namespace))]
    if not checked:
        problems = [f"{', '.join(map(str, files))}: must hold a {' or a '.join(names.PLURALS)}"]
    warnings: Sequence[str] = []
    if not problems:
        try:
            found = policy_warnings(given(documents, (), default_namespace=namespace))
            warnings = [f"{about}: {reason}: {message}" for about, reason, message in found]
        except BadInput as error:
            problems = list(error.problems)
    _print(checked, problems, warnings, output)
    if problems or (strict and warnings):
        raise SystemExit(1)


def problems_of(body: Json) -> Iterator[str]:
    """Yield what is wrong with one policy, each once: what its schema says, and only where that is nothing, decode."""
    found = list(_of_schema(body))
    yield from found
    if found:
        return
    try:
        decode_policy(body)
    except InvalidInput as error:
        yield from map(str, error.problems)


def _of_schema(body: Json) -> Iterator[str]:
    if body.get("apiVersion") != names.API_VERSION or body.get("kind") not in names.PLURALS:
        return  # decode says which there are
    schema = spec_schema()
    if body["kind"] == names.POLICY:
        schema = namespaced(schema)
    if body.get("spec") is None:
        yield "spec: must be given"
    yield from schema_problems(body.get("spec"), schema, "spec")


def namespaced(schema: Schema) -> Schema:
    """Return *schema* without any namespaceSelector: a namespaced policy reaches its own namespace only."""
    name = "namespaceSelector"
    kept: dict[str, object] = {}
    for key, value in schema.items():
        match key, value:
            case "properties", dict():
                kept[key] = {one: namespaced(each) for one, each in value.items() if one != name}
            case "required", list():
                kept[key] = [each for each in value if each != name]
            case _, dict():
                kept[key] = namespaced(value)
            case _:
                kept[key] = value
    return kept


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
