"""`sidecarpolicy eject`: manifests as their owners wrote them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from sidecarpolicy.cli import batch
from sidecarpolicy.cli.manifests import BadInput, text_of
from sidecarpolicy.cli.offline import ejected
from sidecarpolicy.cli.policy_names import policy_named


@click.command(epilog="Exit codes: 0 done, 1 bad input, with nothing printed, 2 wrong usage.")
@click.option(
    "--policy",
    "only",
    metavar="POLICY",
    multiple=True,
    help="Remove the sidecars of this policy only: web, sidecarpolicy/shop/web or cluster/mesh; may be repeated.",
)
@batch.namespace_option
@batch.files_argument
def eject(only: tuple[str, ...], namespace: str, paths: tuple[Path, ...], recursive: bool) -> None:
    """Print manifests without the sidecars that were injected.

    Removes what the annotation sidecars.dev/injected names, and the annotation; no policy is needed. Reads YAML or
    JSON, also what `kubectl get -o yaml` prints. To write the result into a cluster use `kubectl replace`: `kubectl
    apply` does not remove what it never applied.
    """
    policies = frozenset(policy_named(each, lambda: namespace) for each in only)
    try:
        documents = batch.manifests(paths, recursive=recursive)
        after, results = batch.transform(documents, partial(ejected, only=policies), namespace=namespace)
    except BadInput as error:
        batch.give_up(error, exit_code=1)
    click.echo(text_of(after), nl=False)
    batch.report(results, verb="changed", untouched="with nothing to remove")
