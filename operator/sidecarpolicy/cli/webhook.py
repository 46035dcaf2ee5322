"""`sidecarpolicy webhook`: admission as a process of its own. Every flag is an environment variable too."""

from __future__ import annotations

import asyncio
import os

import click

from sidecarpolicy.cli.logs import set_up
from sidecarpolicy.cli.run import address
from sidecarpolicy.handlers.serving import CannotListen
from sidecarpolicy.handlers.webhook import WebhookSettings, serve
from sidecarpolicy.kube.connection import ConnectionProblem

DEFAULTS = WebhookSettings()


@click.command(context_settings={"auto_envvar_prefix": "SIDECARPOLICY_WEBHOOK", "show_default": True})
@click.option("--kubeconfig", default="", help="Path of a kubeconfig; KUBECONFIG or the Pod's service account if none.")
@click.option("--context", default="", help="Context of the kubeconfig; its current one if none.")
@click.option(
    "--operator-namespace",
    default=lambda: os.environ.get("POD_NAMESPACE", DEFAULTS.operator_namespace),
    show_default="$POD_NAMESPACE, or sidecarpolicy-system",
    help="The operator's own namespace: the Secret with the certificate, and the revisions of cluster policies.",
)
@click.option(
    "--webhook-bind-address",
    default=DEFAULTS.webhook_bind_address,
    callback=address,
    help="host:port of the webhooks, over TLS.",
)
@click.option(
    "--health-probe-bind-address",
    default=DEFAULTS.health_probe_bind_address,
    callback=address,
    help="host:port of /livez and /readyz; 0 for none.",
)
@click.option(
    "--metrics-bind-address",
    default=DEFAULTS.metrics_bind_address,
    callback=address,
    help="host:port of /metrics; 0 for none.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    help="How much to log.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How to log: lines for people, or one JSON object a line.",
)
def webhook(log_level: str, log_format: str, **options: str) -> None:
    """Answer the API server's reviews until SIGTERM or SIGINT; writes nothing.

    A new Deployment gets its sidecars while it is created, and keeps them through its owner's writes. The certificate
    comes from the Secret sidecarpolicy-webhook-certificate, which the operator fills (`run --admission-certificates`).
    """
    if options["webhook_bind_address"] in ("", "0"):
        raise click.UsageError("--webhook-bind-address: must be host:port")
    set_up(log_level, as_json=log_format == "json")
    try:
        asyncio.run(serve(WebhookSettings(**options)))
    except (ConnectionProblem, CannotListen) as problem:
        raise click.ClickException(str(problem)) from problem
