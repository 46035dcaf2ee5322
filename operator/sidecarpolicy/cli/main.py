"""The entry point `sidecarpolicy`: a group whose commands are imported when they are called.

So `sidecarpolicy inject` in a pipeline starts without Kopf, aiohttp or a Kubernetes client, and `--help` imports no
command at all: the first line of each command's help stands here.
"""

from __future__ import annotations

from importlib import import_module

import click

from sidecarpolicy import __version__

COMMANDS = {
    "inject": ("sidecarpolicy.cli.inject", "Print manifests with the sidecars of policies."),
    "eject": ("sidecarpolicy.cli.eject", "Print manifests without the sidecars that were injected."),
    "diff": ("sidecarpolicy.cli.diff", "Show what inject would change."),
    "timeline": ("sidecarpolicy.cli.timeline", "Draw one Pod's life: who started when, and waited for whom."),
    "status": ("sidecarpolicy.cli.status", "Show how far policies are, or wait for them."),
    "targets": ("sidecarpolicy.cli.targets", "List the Deployments of a policy, and where each stands."),
    "pause": ("sidecarpolicy.cli.pausing", "Hold the rollout of a policy."),
    "resume": ("sidecarpolicy.cli.pausing", "Let a rollout go on that is paused or halted."),
    "approve": ("sidecarpolicy.cli.approve", "Approve what a policy waits for."),
    "undo": ("sidecarpolicy.cli.undo", "Put the spec of an earlier revision back."),
    "pin": ("sidecarpolicy.cli.pin", "Keep a Deployment at one revision."),
    "run": ("sidecarpolicy.cli.run", "Run the operator."),
    "webhook": ("sidecarpolicy.cli.webhook", "Answer the API server's reviews of Deployments and policies."),
}
"""By name: the module, whose attribute of that name is the command, and the command's help in one line."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they are listed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command *cmd_name*; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{cmd_name} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sidecarpolicy")
def main() -> None:
    """Native Kubernetes sidecars for whole fleets of Deployments.

    inject, eject and diff read and print manifests and need no cluster; run is the operator and webhook its admission;
    the others ask the cluster of the current kubeconfig.
    """
