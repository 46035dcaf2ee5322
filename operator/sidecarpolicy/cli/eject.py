"""`sidecarpolicy eject`: manifests as their owners wrote them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from sidecarpolicy import names
from sidecarpolicy.cli import batch
from sidecarpolicy.cli.manifests import BadInput, text_of
from sidecarpolicy.cli.offline import ejected
from sidecarpolicy.core.identity import PolicyId


def policy_name(text: str) -> PolicyId:
    """Return the policy that `SidecarPolicy/shop/web` or `ClusterSidecarPolicy/mesh` names."""
    kind, _, name = text.partition("/")
    try:
        return PolicyId.parse(f"{kind}//{name}" if kind == names.CLUSTER_POLICY and "/" not in name else text)
    except ValueError as error:
        raise click.BadParameter(
            f"must be {names.POLICY}/NAMESPACE/NAME or {names.CLUSTER_POLICY}/NAME, not {text!r}"
        ) from error


@click.command(epilog="Exit codes: 0 done, 1 bad input, with nothing printed, 2 wrong usage.")
@click.option(
    "--policy",
    "only",
    metavar="KIND/NAMESPACE/NAME",
    type=policy_name,
    multiple=True,
    help="Remove the sidecars of this policy only, e.g. SidecarPolicy/shop/web or ClusterSidecarPolicy/mesh; "
    "may be repeated.",
)
@batch.namespace_option
@batch.files_argument
def eject(only: tuple[PolicyId, ...], namespace: str, paths: tuple[Path, ...], recursive: bool) -> None:
    """Print manifests without the sidecars that were injected.

    Removes what the annotation sidecars.dev/injected names, and the annotation; no policy is needed. Reads YAML or
    JSON, also what `kubectl get -o yaml` prints. To write the result into a cluster use `kubectl replace`: `kubectl
    apply` does not remove what it never applied.
    """
    try:
        documents = batch.manifests(paths, recursive=recursive)
        after, results = batch.transform(documents, partial(ejected, only=frozenset(only)), namespace=namespace)
    except BadInput as error:
        batch.give_up(error, exit_code=1)
    click.echo(text_of(after), nl=False)
    batch.report(results, verb="changed", untouched="with nothing to remove")
