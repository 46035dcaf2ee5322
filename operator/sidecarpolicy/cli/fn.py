"""`sidecarpolicy fn`: inject as a KRM function, for kustomize and other tools that speak ResourceList.

The tool hands over a ResourceList (config.kubernetes.io/v1) on standard input and takes one from standard output. The
functionConfig is a policy, or anything with a list of policies under `spec.policies`. What is to be said
of single Deployments goes to standard error.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from sidecarpolicy import names
from sidecarpolicy.cli import batch, sources
from sidecarpolicy.cli.manifests import yaml_of
from sidecarpolicy.cli.offline import injected
from sidecarpolicy.cli.policies import given
from sidecarpolicy.core.tree import Json
from sidecarpolicy.manifests import BadInput, Document, File, parse

KIND = "ResourceList"


@click.command(epilog="Exit codes: 0 done, 1 bad input, with nothing printed, 2 wrong usage.")
@batch.namespace_option
@batch.in_one_go
def fn(namespace: str) -> None:
    """Read a ResourceList from standard input and print it with sidecars injected into its Deployments.

    The functionConfig is a SidecarPolicy or a ClusterSidecarPolicy, or holds several in spec.policies.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("give a ResourceList on standard input: kustomize does, for a function")
    try:
        (file,), _ = sources.read((), recursive=False)
        document = _resource_list(file)
        policies = _policies(document)
        decided_by = given([policies], [file], default_namespace=namespace)
        done = batch.transform([file], partial(injected, given=decided_by), namespace=namespace)
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    batch.hand_out(done, output="text", in_place=False, check=False)
    batch.report(done, verb="changed")
    batch.warn(decided_by, [file], done.results)


def _resource_list(file: File) -> Document:
    """Return the one document, which must be a ResourceList."""
    document = file.documents[0] if len(file.documents) == 1 else None
    if document is None or not isinstance(document.value, dict) or document.value.get("kind") != KIND:
        raise BadInput([f"{file.source}: must be one {KIND}, as kustomize hands it to a function"])
    return document


def _policies(document: Document) -> File:
    """Return the policies of the functionConfig, as a file of their own."""
    config: Any = document.value.get("functionConfig")
    if not isinstance(config, dict):
        raise BadInput([f"{document.file.source}: functionConfig: must be a policy, or hold some in spec.policies"])
    if config.get("kind") in names.PLURALS:
        found: list[Json] = [config]
    else:
        spec = config.get("spec")
        listed = spec.get("policies") if isinstance(spec, dict) else None
        found = listed if isinstance(listed, list) else []
    return parse(yaml_of(*found), "functionConfig")
