"""`sidecarpolicy inject`: what the operator would make of the Deployments in these files."""

from __future__ import annotations

from pathlib import Path

import click

from sidecarpolicy.cli import batch, sources
from sidecarpolicy.cli.offline import injected
from sidecarpolicy.manifests import BadInput


@click.command(
    epilog="Exit codes: 0 done (also where Deployments are skipped), 1 bad input, with nothing printed, 2 wrong usage, "
    "3 something would change (--check)."
)
@batch.policies_option
@batch.namespace_option
@batch.output_options
@sources.files_argument
@batch.in_one_go
def inject(
    policy_paths: tuple[Path, ...],
    namespace: str,
    paths: tuple[Path, ...],
    recursive: bool,
    output: str,
    in_place: bool,
    check: bool,
) -> None:
    """Print manifests with the sidecars of the policies that select them.

    Reads YAML or JSON, also what `kubectl get -o yaml` prints, and changes Deployments only; all else passes through
    as it is written, with comments, quotes and layout. The manifests go to standard output, a report on every selected
    Deployment to standard error. Injecting twice changes nothing, and a newer policy replaces what an older one
    injected.

    A SidecarPolicy reaches Deployments of its own namespace. Which namespaces a ClusterSidecarPolicy reaches is decided
    by the Namespace objects among the manifests and policies; of others only the name is known. Likewise a Deployment
    is skipped for the sake of a HorizontalPodAutoscaler where that is among them.
    """
    batch.refuse_wrong_use(paths, output=output, in_place=in_place)
    try:
        files, policy_files = sources.read(paths, policy_paths, recursive=recursive)
        done, decided_by = batch.with_policies(files, policy_files, injected, namespace=namespace)
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    batch.hand_out(done, output=output, in_place=in_place, check=check)
    batch.report(done, verb="would change" if check else "changed")
    batch.warn(decided_by, files, done.results)
    batch.leave(done, check=check)
