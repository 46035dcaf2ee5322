"""What a TAB completes: names that the cluster has, asked for with little patience.

Whatever is in the way of an answer, nothing is completed and nothing is said: the line that is being typed is no place
for an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecarpolicy.engine.port import ApiError

if TYPE_CHECKING:
    from sidecarpolicy.cli.asking import Asked

PATIENCE = 2.0  # seconds for one answer


def policies(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete a policy: `web`, `cluster/mesh`."""
    return _begun_with(begun, _asked(context, lambda asked: asked.policy_names()))


def deployments(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete a Deployment of the namespace."""
    from sidecarpolicy.engine.resources import DEPLOYMENTS

    return _begun_with(begun, _asked(context, lambda asked: _names(asked.cluster.list(DEPLOYMENTS, asked.namespace))))


def namespaces(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete a namespace."""
    from sidecarpolicy.engine.resources import NAMESPACES

    return _begun_with(begun, _asked(context, lambda asked: _names(asked.cluster.list(NAMESPACES))))


def revisions(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete a stored revision of the policy that is named before."""
    from sidecarpolicy.cli.history import history

    # Behind an option that still wants its value, click leaves the arguments where they are.
    policy = context.params.get("policy") or next(iter(context.args), "")

    def found(asked: Asked) -> Iterable[str]:
        return (each.name for each in history(asked, asked.policy_id(policy)))

    return _begun_with(begun, _asked(context, found))


def contexts(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete a context of the kubeconfig."""
    import yaml

    files = context.params.get("kubeconfig") or os.environ.get("KUBECONFIG") or "~/.kube/config"
    found: list[str] = []
    for file in filter(None, files.split(os.pathsep)):
        try:
            config = yaml.safe_load(Path(file).expanduser().read_text())
            found += [str(each["name"]) for each in config.get("contexts") or ()]
        except (OSError, yaml.YAMLError, TypeError, AttributeError, KeyError):
            continue
    return _begun_with(begun, found)


def _asked(context: click.Context, question: Callable[[Asked], Iterable[str]]) -> Iterable[str]:
    from sidecarpolicy.cli.asking import asked_of

    try:
        return list(question(replace(asked_of(context.params), timeout=PATIENCE)))
    except (ApiError, click.ClickException):
        return ()


def _names(bodies: Iterable[dict[str, dict[str, str]]]) -> Iterable[str]:
    return (each["metadata"]["name"] for each in bodies)


def _begun_with(begun: str, found: Iterable[str]) -> list[str]:
    return sorted(each for each in dict.fromkeys(found) if each.startswith(begun))
