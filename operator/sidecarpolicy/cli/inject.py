"""`sidecarpolicy inject`: what the operator would make of the Deployments in these files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from sidecarpolicy.cli import batch
from sidecarpolicy.cli.manifests import BadInput, text_of
from sidecarpolicy.cli.offline import injected


@click.command(
    epilog="Exit codes: 0 done (also where Deployments are skipped), 1 bad input, with nothing printed, 2 wrong usage."
)
@batch.policies_option
@batch.namespace_option
@batch.files_argument
def inject(policy_paths: tuple[Path, ...], namespace: str, paths: tuple[Path, ...], recursive: bool) -> None:
    """Print manifests with the sidecars of the policies that select them.

    Reads YAML or JSON, also what `kubectl get -o yaml` prints, and changes Deployments only; all else passes through.
    The manifests go to standard output, a report on every selected Deployment to standard error. Injecting twice
    changes nothing, and a newer policy replaces what an older one injected.

    A SidecarPolicy reaches Deployments of its own namespace. Which namespaces a ClusterSidecarPolicy reaches is decided
    by the Namespace objects among the manifests and policies; of others only the name is known. Likewise a Deployment
    is skipped for the sake of a HorizontalPodAutoscaler where that is among them.
    """
    try:
        documents = batch.manifests(paths, recursive=recursive)
        decided_by = batch.policies(policy_paths, documents, namespace=namespace, recursive=recursive)
        after, results = batch.transform(documents, partial(injected, given=decided_by), namespace=namespace)
    except BadInput as error:
        batch.give_up(error, exit_code=1)
    click.echo(text_of(after), nl=False)
    batch.report(results, verb="changed")
    batch.warn(decided_by, documents, results)
