"""The entry point `sidecarpolicy`: a group whose commands are imported when they are called.

So `sidecarpolicy inject` in a pipeline starts without Kopf, aiohttp or a Kubernetes client, and `--help` imports no
command at all: the first line of each command's help stands here.

The flags that say which cluster and whose namespace may stand before the verb as well, as for kubectl: they are moved
behind it before anything is parsed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from sidecarpolicy import __version__

COMMANDS = {
    "status": ("sidecarpolicy.cli.status", "Show how far policies are, or wait for them."),
    "targets": ("sidecarpolicy.cli.targets", "List the Deployments of a policy, and where each stands."),
    "list": ("sidecarpolicy.cli.list", "List which Deployments carry which sidecars."),
    "history": ("sidecarpolicy.cli.revisions", "List the revisions of a policy, and what differs between two."),
    "timeline": ("sidecarpolicy.cli.timeline", "Draw one Pod's life: who started when, and waited for whom."),
    "explain": ("sidecarpolicy.cli.explain", "Explain what a Deployment gets, in which order, and why."),
    "pause": ("sidecarpolicy.cli.pausing", "Hold the rollout of a policy."),
    "resume": ("sidecarpolicy.cli.pausing", "Let a rollout go on that is paused or halted."),
    "approve": ("sidecarpolicy.cli.approve", "Approve what a policy waits for."),
    "undo": ("sidecarpolicy.cli.undo", "Put the spec of an earlier revision back."),
    "restart": ("sidecarpolicy.cli.restart", "Restart every Deployment of a policy, a few at a time."),
    "pin": ("sidecarpolicy.cli.pin", "Keep a Deployment at one revision."),
    "stop": ("sidecarpolicy.cli.stopping", "Stop everything: no workload is changed any more."),
    "start": ("sidecarpolicy.cli.stopping", "Lift the stop."),
    "release": ("sidecarpolicy.cli.release", "Take all policies away, for leaving for good."),
    "orphans": ("sidecarpolicy.cli.orphans", "List sidecars of policies that do not exist, or eject them."),
    "inject": ("sidecarpolicy.cli.inject", "Print manifests with the sidecars of policies."),
    "eject": ("sidecarpolicy.cli.eject", "Print manifests without the sidecars that were injected."),
    "diff": ("sidecarpolicy.cli.diff", "Show what inject would change."),
    "fn": ("sidecarpolicy.cli.fn", "Inject as a function of kustomize and other KRM tools."),
    "lint": ("sidecarpolicy.cli.lint", "Find old-school sidecars, and what breaks native ones."),
    "migrate": ("sidecarpolicy.cli.migrate", "Rewrite manifests: old-school sidecars become native ones."),
    "validate": ("sidecarpolicy.cli.validate", "Check policies in files, without a cluster."),
    "check": ("sidecarpolicy.cli.check", "Check the cluster and the installation."),
    "completion": ("sidecarpolicy.cli.completion", "Print the completion script for a shell."),
    "version": ("sidecarpolicy.cli.main", "Print the version."),
    "help": ("sidecarpolicy.cli.main", "Print help, of a verb too."),
    "run": ("sidecarpolicy.cli.run", "Run the operator."),
    "webhook": ("sidecarpolicy.cli.webhook", "Answer the API server's reviews of Deployments and policies."),
}
"""By name: the module, whose attribute of that name (or with a `_` after it) is the command, and its help in a line."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "See what is there": ("status", "targets", "list", "history", "timeline", "explain"),
    "Act on a rollout": ("pause", "resume", "approve", "undo", "restart", "pin"),
    "Act on everything": ("stop", "start", "release", "orphans"),
    "Work on files, without a cluster": ("inject", "eject", "diff", "fn", "lint", "migrate", "validate"),
    "The installation": ("check", "completion", "version", "help", "run", "webhook"),
}

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "get": ("status", "list"),
    "describe": ("status", "explain"),
    "events": ("status", "targets"),
    "wait": ("status --watch",),
    "rollback": ("undo",),
    "rollout": ("status", "undo"),
    "delete": ("release",),
    "uninstall": ("release",),
    "remove": ("release", "eject"),
    "apply": ("validate",),
    "create": ("validate",),
    "unpin": ("pin --remove",),
    "install": ("check --pre",),
    "plan": ("diff",),
}
"""What other programs call it: the verbs that may be meant."""

WITH_VALUE = frozenset(
    {"-n", "--namespace", "--context", "--kubeconfig", "--request-timeout", "--as", "--as-group"}
    | {"--operator-namespace"}
)
ALONE = frozenset({"-A", "--all-namespaces"})
OUTPUT_FAILS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write to standard output ends with, on a full disk above all."""


def behind_the_verb(arguments: list[str]) -> list[str]:
    """Return *arguments* with the flags of every verb that stand before it moved behind it."""
    moved: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        flag, sign, _ = rest[0].partition("=")
        short = rest[0][:2] in WITH_VALUE and not rest[0].startswith("--") and len(rest[0]) > 2
        if flag in ALONE or (flag in WITH_VALUE and sign) or short:
            moved.append(rest.pop(0))
        elif flag in WITH_VALUE and len(rest) > 1:
            moved += [rest.pop(0), rest.pop(0)]
        else:
            break
    return [*rest[:1], *moved, *rest[1:]]


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
        found = import_module(module)
        command = getattr(found, f"{cmd_name}_", None) or getattr(found, cmd_name)  # `list` and `help` are Python's
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{cmd_name} is no click command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move flags behind the verb, and parse."""
        try:
            with ending_as_in_a_shell():  # here `--help` is printed
                return super().parse_args(ctx, behind_the_verb(args))
        except click.NoSuchOption as error:
            ctx.fail(out_of_place(error.option_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; say which may have been meant where there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(unknown_verb(args[0]))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        with ending_as_in_a_shell():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        longest = max(map(len, COMMANDS))
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(longest), COMMANDS[name][1]) for name in verbs])


def out_of_place(flag: str) -> str:
    """Return what is said of a flag before the verb that cannot stand there."""
    if flag in WITH_VALUE | ALONE:
        return "name a verb, such as status: sidecarpolicy --help lists them all"
    return f"there is no {flag} before the verb; if it is a flag of the verb it stands behind it: VERB {flag}"


def unknown_verb(name: str) -> str:
    """Return what is said of a verb that does not exist."""
    from sidecarpolicy.cli.hints import alike

    meant = ELSEWHERE.get(name) or alike(COMMANDS, name)
    return f"there is no verb {name!r}" + (f"; did you mean {', '.join(meant)}?" if meant else "")


@contextmanager
def ending_as_in_a_shell() -> Iterator[None]:
    """End what is inside as a shell expects it: Ctrl-C is 130, and output that nobody can take is no traceback."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `| head` has seen enough
        _close_quietly()
        raise SystemExit(141) from None
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_FAILS:
            raise
        _close_quietly()
        click.echo(f"Error: standard output cannot be written: {error.strerror}", err=True)
        raise SystemExit(1) from None


def _close_quietly() -> None:
    """Give standard output away, or Python complains at the end that it could not be flushed."""
    import os
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`sidecarpolicy help VERB` says what a verb takes. Flags such as -n, --context, --as and --request-timeout "
    "stand before or after the verb.",
)
@click.version_option(__version__, prog_name="sidecarpolicy")
def main() -> None:
    """Native Kubernetes sidecars for whole fleets of Deployments.

    inject, eject, diff, fn, lint, migrate and validate read files and need no cluster, and explain does with -p; run
    and webhook are the operator; the others ask the cluster of the current kubeconfig.
    """


@click.command("version")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
def version_(output: str) -> None:
    """Print the version of this program; `check` compares it with what runs in the cluster."""
    click.echo(f'{{"version": "{__version__}"}}' if output == "json" else f"sidecarpolicy {__version__}")


@click.command("help")
@click.argument("verb", required=False, default="")
@click.pass_context
def help_(ctx: click.Context, verb: str) -> None:
    """Print help: of VERB, or which verbs there are."""
    above = ctx.parent
    assert above is not None
    if not verb:
        click.echo(above.get_help())
        return
    command = main.get_command(above, verb)
    if command is None:
        raise click.UsageError(unknown_verb(verb), ctx=above)
    with click.Context(command, info_name=verb, parent=above) as inner:
        click.echo(command.get_help(inner))
