"""`sidecarpolicy run`: the operator, from flags and environment.

Every flag has a variable, `SIDECARPOLICY_RUN_<FLAG>`; one that is not known is refused, since a misspelt setting that
is silently ignored is found out at night. (The prefix is not `SIDECARPOLICY_`: a Service of that name would put
variables of that prefix into every Pod of its namespace.)
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping
from typing import Any

import click

from sidecarpolicy.cli import process_options
from sidecarpolicy.cli.logs import set_up
from sidecarpolicy.cli.namespace_name import namespaces_named
from sidecarpolicy.handlers.operator import EndedByKopf, operate
from sidecarpolicy.handlers.process import OperatorSettings
from sidecarpolicy.handlers.serving import CannotListen
from sidecarpolicy.kube.connection import ConnectionProblem

PREFIX = "SIDECARPOLICY_RUN"
# Above these nobody means it, and far above them a timer, a time stamp or the Lease's field overflows.
LONGEST_LEASE = 3600
LONGEST_PERIOD = 86_400
DEFAULTS = OperatorSettings()


class Seconds(click.FloatRange):
    """So many seconds; `nan`, which no bound of a FloatRange stops, is none."""

    def __init__(self, *, least: float) -> None:
        super().__init__(min=least, max=LONGEST_PERIOD)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As FloatRange, and refuse what is no number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return number


def refuse_unknown_variables(environ: Mapping[str, str], command: click.Command) -> None:
    """Raise click.UsageError where *environ* sets something that *command* does not know."""
    known = {f"{PREFIX}_{parameter.name}".upper() for parameter in command.params}
    unknown = sorted(name for name in environ if name.startswith(f"{PREFIX}_") and name not in known)
    if unknown:
        raise click.UsageError(
            f"{', '.join(unknown)}: not known; the variables are {', '.join(sorted(known))}", ctx=None
        )


@click.command(context_settings={"auto_envvar_prefix": PREFIX, "show_default": True})
@process_options.where_the_cluster_is("its Lease")
@click.option(
    "--watch-namespace",
    multiple=True,
    callback=namespaces_named,
    metavar="NAME",
    show_default="the whole cluster",
    help="Serve the SidecarPolicies and Deployments of this namespace only; may be repeated, or be a comma list. No "
    "right outside of these namespaces is needed then.",
)
@click.option("--identity", default="", help="Name in the Lease and in Events; host name and a UUID if none.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=DEFAULTS.workers, help="How many writes may be under way at once."
)
@click.option(
    "--sync-period",
    type=Seconds(least=10),
    default=DEFAULTS.sync_period,
    help="Interval between full relists, in seconds.",
)
@click.option(
    "--lease-seconds",
    type=click.IntRange(3, LONGEST_LEASE),
    default=DEFAULTS.lease_seconds,
    help="Lease duration: seconds after which another replica may lead if this one falls silent.",
)
@click.option(
    "--revert-window-seconds",
    type=Seconds(least=1),
    default=DEFAULTS.revert_window_seconds,
    help="Reverts by another writer count together where they come within so many seconds of each other.",
)
@click.option(
    "--revert-threshold",
    type=click.IntRange(min=2),
    default=DEFAULTS.revert_threshold,
    help="After so many of them the next attempt is ten minutes later, doubling to an hour.",
)
@process_options.probes_and_metrics
@click.option("--webhook", is_flag=True, help="Answer the API server's reviews in this process too.")
@process_options.webhook_bind_address
@click.option(
    "--admission-certificates",
    is_flag=True,
    help="Make and renew the webhooks' certificates while this replica leads; --webhook does that too.",
)
@process_options.logging
@click.pass_context
def run(context: click.Context, /, log_level: str, log_format: str, **options: object) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Outside a cluster it needs no flag: it takes KUBECONFIG or ~/.kube/config. Every flag can be given as a variable
    SIDECARPOLICY_RUN_<FLAG>, such as SIDECARPOLICY_RUN_LOG_LEVEL.
    """
    refuse_unknown_variables(os.environ, context.command)
    if options["watch_namespace"] and (options["webhook"] or options["admission_certificates"]):
        raise click.UsageError(
            "--watch-namespace: there is no admission for some namespaces only (--webhook, --admission-certificates): "
            "who is asked about a Deployment is configured for the whole cluster"
        )
    set_up(log_level, as_json=log_format == "json")
    try:
        asyncio.run(operate(OperatorSettings(**options)))  # type: ignore[arg-type]  # click has checked the types
    except CannotListen as problem:
        raise process_options.not_listening(problem, options) from problem
    except (ConnectionProblem, EndedByKopf) as problem:
        raise click.ClickException(str(problem)) from problem
