"""`sidecarpolicy run`: the operator, from flags and environment.

Every flag has a variable, `SIDECARPOLICY_RUN_<FLAG>`; one that is not known is refused, since a misspelt setting that
is silently ignored is found out at night. (The prefix is not `SIDECARPOLICY_`: a Service of that name would put
variables of that prefix into every Pod of its namespace.)
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

import click

from sidecarpolicy.handlers.operator import OperatorSettings, operate
from sidecarpolicy.kube.connection import ConnectionProblem

PREFIX = "SIDECARPOLICY_RUN"
DEFAULTS = OperatorSettings()


def refuse_unknown_variables(environ: Mapping[str, str], command: click.Command) -> None:
    """Raise click.UsageError where *environ* sets something that *command* does not know."""
    known = {f"{PREFIX}_{parameter.name}".upper() for parameter in command.params}
    unknown = sorted(name for name in environ if name.startswith(f"{PREFIX}_") and name not in known)
    if unknown:
        raise click.UsageError(
            f"{', '.join(unknown)}: not known; the variables are {', '.join(sorted(known))}", ctx=None
        )


@click.command(context_settings={"auto_envvar_prefix": PREFIX, "show_default": True})
@click.option("--kubeconfig", default="", help="Path of a kubeconfig; KUBECONFIG or the Pod's service account if none.")
@click.option("--context", default="", help="Context of the kubeconfig; its current one if none.")
@click.option(
    "--namespace",
    default=lambda: os.environ.get("POD_NAMESPACE", DEFAULTS.namespace),
    show_default="$POD_NAMESPACE, or sidecarpolicy-system",
    help="The operator's own namespace: its Lease, and the revisions of cluster policies.",
)
@click.option("--identity", default="", help="Name in the Lease and in Events; host name and a UUID if none.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=DEFAULTS.workers, help="How many writes may be under way at once."
)
@click.option(
    "--resync-seconds",
    type=click.FloatRange(min=10),
    default=DEFAULTS.resync_seconds,
    help="Seconds between two full looks at what is there.",
)
@click.option(
    "--lease-seconds",
    type=click.IntRange(min=3),
    default=DEFAULTS.lease_seconds,
    help="Seconds after which another replica may lead if this one falls silent.",
)
@click.option(
    "--undone-window-seconds",
    type=click.FloatRange(min=1),
    default=DEFAULTS.undone_window_seconds,
    help="Reverts by another writer count together where they come within so many seconds of each other.",
)
@click.option(
    "--undone-threshold",
    type=click.IntRange(min=2),
    default=DEFAULTS.undone_threshold,
    help="After so many of them the next attempt is ten minutes later, doubling to an hour.",
)
@click.option("--health", default=DEFAULTS.health, help="host:port of /healthz; empty for none.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    help="How much to log.",
)
@click.pass_context
def run(context: click.Context, /, log_level: str, **options: object) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Outside a cluster it needs no flag: it takes KUBECONFIG or ~/.kube/config. Every flag can be given as a variable
    SIDECARPOLICY_RUN_<FLAG>, such as SIDECARPOLICY_RUN_LOG_LEVEL.
    """
    refuse_unknown_variables(os.environ, context.command)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
    for noisy in ("kopf", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        asyncio.run(operate(OperatorSettings(**options)))  # type: ignore[arg-type]  # click has checked the types
    except ConnectionProblem as problem:
        raise click.ClickException(str(problem)) from problem
