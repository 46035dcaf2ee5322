"""`sidecarpolicy webhook`: admission as a process of its own. Every flag is an environment variable too."""

from __future__ import annotations

import asyncio

import click

from sidecarpolicy.cli import process_options
from sidecarpolicy.cli.logs import set_up
from sidecarpolicy.handlers.serving import CannotListen
from sidecarpolicy.handlers.webhook import WebhookSettings, serve
from sidecarpolicy.kube.connection import ConnectionProblem


@click.command(context_settings={"auto_envvar_prefix": "SIDECARPOLICY_WEBHOOK", "show_default": True})
@process_options.where_the_cluster_is("the Secret with the certificate")
@process_options.webhook_bind_address
@process_options.probes_and_metrics
@process_options.logging
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
    except CannotListen as problem:
        raise process_options.not_listening(problem, options) from problem
    except ConnectionProblem as problem:
        raise click.ClickException(str(problem)) from problem
