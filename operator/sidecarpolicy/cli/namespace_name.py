"""What may stand behind a flag that names a namespace.

An empty one is nearly always a variable that nobody has set: taken for "no namespace named" it would act somewhere
else than where its author meant, so it is wrong usage. So is what the API server would refuse as a name.
"""

from __future__ import annotations

import click

from sidecarpolicy.core.syntax import DNS_LABEL

# What somebody means by them is no namespace.
OTHER_KINDS = frozenset(
    {"pod", "pods", "po", "replicaset", "replicasets", "rs", "statefulset", "statefulsets", "sts", "daemonset"}
    | {"daemonsets", "ds", "job", "jobs", "cronjob", "cronjobs", "cj"}
)
DEPLOYMENT_WORDS = ("deployment", "deployments", "deploy", "deployment.apps", "deployments.apps")


def namespace_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return *value*, None where the flag is not there; raise click.BadParameter where no namespace is called so."""
    if value is None or DNS_LABEL.fullmatch(value):
        return value
    if not value:
        raise click.BadParameter(
            "an empty name is no namespace: leave the flag out for its default", context, parameter
        )
    meant = value.lower()
    hint = f"; did you mean {meant}?" if DNS_LABEL.fullmatch(meant) else ""
    raise click.BadParameter(
        f"{value!r} is no name of a namespace: up to 63 lower-case letters, digits and '-' inside{hint}",
        context,
        parameter,
    )


def namespaces_named(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in *values*, each a name or a comma list, sorted; raise click.BadParameter."""
    found = {each.strip() for value in values for each in value.split(",")}
    return tuple(sorted(str(namespace_name(context, parameter, each)) for each in found))
