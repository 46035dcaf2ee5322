"""What `run` and `webhook` are both told: where the cluster is, where they listen, and how they log.

Their own modules import what they run; this one must not, so that a webhook starts without Kopf.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

import click

from sidecarpolicy.cli.namespace_name import namespace_name
from sidecarpolicy.handlers.serving import OFF, CannotListen, host_and_port
from sidecarpolicy.handlers.webhook import WebhookSettings

Command = TypeVar("Command", bound=Callable[..., object])
DEFAULTS = WebhookSettings()


def address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check a bind address."""
    try:
        if value not in OFF:
            host_and_port(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error
    return value


def where_the_cluster_is(keeps: str) -> Callable[[Command], Command]:
    """Add the options that say which cluster; *keeps*: what is in the operator's namespace, for the help."""
    kubeconfig = click.option(
        "--kubeconfig", default="", help="Path of a kubeconfig; KUBECONFIG or the Pod's service account if none."
    )
    context = click.option("--context", default="", help="Context of the kubeconfig; its current one if none.")
    namespace = click.option(
        "--operator-namespace",
        callback=namespace_name,
        default=lambda: os.environ.get("POD_NAMESPACE") or DEFAULTS.operator_namespace,
        show_default="$POD_NAMESPACE, or sidecarpolicy-system",
        help=f"The operator's own namespace: {keeps}, and the revisions of cluster policies.",
    )
    return lambda command: kubeconfig(context(namespace(command)))


def not_listening(problem: CannotListen, options: Mapping[str, object]) -> click.ClickException:
    """Return what is said where an address cannot be listened on: also which of *options* names it."""
    flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value == problem.address]
    return click.ClickException(f"{problem}; {' and '.join(flags)} names another address")


webhook_bind_address = click.option(
    "--webhook-bind-address",
    default=DEFAULTS.webhook_bind_address,
    callback=address,
    help="host:port of the webhooks, over TLS.",
)


def probes_and_metrics(command: Command) -> Command:
    """Add the options that say where probes and metrics are served."""
    probes = click.option(
        "--health-probe-bind-address",
        default=DEFAULTS.health_probe_bind_address,
        callback=address,
        help="host:port of /livez and /readyz; 0 for none.",
    )
    metrics = click.option(
        "--metrics-bind-address",
        default=DEFAULTS.metrics_bind_address,
        callback=address,
        help="host:port of /metrics; 0 for none.",
    )
    return probes(metrics(command))


def logging(command: Command) -> Command:
    """Add the options that say how much and how to log."""
    level = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        help="How much to log.",
    )
    form = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        help="How to log: lines for people, or one JSON object a line.",
    )
    return level(form(command))
