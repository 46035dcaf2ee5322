"""`sidecarpolicy eject`: manifests as their owners wrote them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from sidecarpolicy.cli import batch, sources
from sidecarpolicy.cli.offline import ejected
from sidecarpolicy.cli.policy_names import policy_named
from sidecarpolicy.manifests import BadInput


@click.command(
    epilog="Exit codes: 0 done, 1 bad input, with nothing printed, 2 wrong usage, 3 something would change (--check)."
)
@click.option(
    "--policy",
    "only",
    metavar="POLICY",
    multiple=True,
    help="Remove the sidecars of this policy only: web, sidecarpolicy/shop/web or cluster/mesh; may be repeated.",
)
@batch.namespace_option
@batch.output_options
@sources.files_argument
@batch.in_one_go
def eject(
    only: tuple[str, ...],
    namespace: str,
    paths: tuple[Path, ...],
    recursive: bool,
    output: str,
    in_place: bool,
    check: bool,
) -> None:
    """Print manifests without the sidecars that were injected.

    Removes what the annotation sidecars.dev/injected names, and the annotation; no policy is needed. What inject has
    printed becomes, byte for byte, what it has read. Reads YAML or JSON, also what `kubectl get -o yaml` prints. To
    write the result into a cluster use `kubectl replace`: `kubectl apply` does not remove what it never applied.
    """
    policies = frozenset(policy_named(each, lambda: namespace) for each in only)
    batch.refuse_wrong_use(paths, output=output, in_place=in_place)
    try:
        files, _ = sources.read(paths, recursive=recursive)
        done = batch.transform(files, partial(ejected, only=policies), namespace=namespace)
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    batch.hand_out(done, output=output, in_place=in_place, check=check)
    batch.report(done, verb="would change" if check else "changed", untouched="with nothing to remove")
    batch.leave(done, check=check)
