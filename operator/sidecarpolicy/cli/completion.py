"""`sidecarpolicy completion`: the script that has a shell complete verbs, flags and the names of objects."""

from __future__ import annotations

import click

PROGRAM = "sidecarpolicy"
VARIABLE = "_SIDECARPOLICY_COMPLETE"
WHERE = {
    "bash": "source <(sidecarpolicy completion bash)    # in ~/.bashrc; needs bash 4.4 or newer",
    "zsh": "source <(sidecarpolicy completion zsh)    # in ~/.zshrc, after compinit",
    "fish": "sidecarpolicy completion fish > ~/.config/fish/completions/sidecarpolicy.fish",
}


@click.command(epilog="\b\n" + "\n".join(WHERE.values()))
@click.argument("shell", type=click.Choice(list(WHERE)))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    Names come from the cluster of the flags that are typed already; where it does not answer within two seconds nothing
    is completed.
    """
    from click.shell_completion import get_completion_class

    from sidecarpolicy.cli.main import main

    found = get_completion_class(shell)
    assert found is not None
    script = found(main, {}, PROGRAM, VARIABLE)
    # What `script.source()` prints, without looking which bash is installed here.
    click.echo(script.source_template % script.source_vars())
