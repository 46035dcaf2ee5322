"""The files that a command line names: read all, or refused with every problem of every file at once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import click

from sidecarpolicy.cli.manifests import STDIN, is_stdin, read_files
from sidecarpolicy.manifests import BadInput, File

Decorated = TypeVar("Decorated", bound=Callable[..., object])
Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")

PATHS = click.Path(exists=True, allow_dash=True, path_type=Path)
ONCE = "standard input can be read only once"


def files_argument(command: Decorated) -> Decorated:
    """Add the manifests to read, and `-R`."""
    recursive = click.option("-R", "--recursive", is_flag=True, help="Read the directories below each DIR too.")
    return recursive(click.argument("paths", metavar="[FILE|DIR|-]...", nargs=-1, type=PATHS)(command))


@dataclass(slots=True)
class Problems:
    """Collects the problems of several steps, so that all are told at once."""

    found: list[str] = field(default_factory=list)

    def of(
        self, step: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Value | None:
        """Return what *step* returns; None where it raises BadInput, whose problems are kept."""
        try:
            return step(*args, **kwargs)
        except BadInput as error:
            self.found += error.problems
            return None

    def settle(self) -> None:
        """Raise BadInput if there was any problem."""
        if self.found:
            raise BadInput(list(dict.fromkeys(self.found)))


def read(paths: Sequence[Path], policy_paths: Sequence[Path] = (), *, recursive: bool) -> tuple[list[File], list[File]]:
    """Return the manifests in *paths*, or on standard input where there are none, and the files with policies."""
    if not paths and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("name the manifests: a FILE, a DIR, or - for standard input")
    if not paths and any(map(is_stdin, policy_paths)):
        raise click.UsageError(f"{ONCE}: name the manifests, where the policies come from -")
    refuse_two_stdins([*paths, *policy_paths])
    problems = Problems()
    files = problems.of(read_files, paths or (Path(STDIN),), recursive=recursive)
    policy_files = problems.of(read_files, policy_paths, recursive=recursive)
    problems.settle()
    return files or [], policy_files or []


def without(what: str, files: Sequence[File]) -> str:
    """Return the sentence of a summary that *files* hold no *what*, and what they hold instead."""
    kinds = Counter(found.kind or "something without a kind" for file in files for found in file.objects())
    if not kinds:
        return f"no {what}: there is no object in {', '.join(dict.fromkeys(file.source for file in files))}"
    return f"no {what} among {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}"


def refuse_two_stdins(paths: Iterable[Path]) -> None:
    """Raise click.UsageError where `-` is named twice: the second one would be found empty."""
    if sum(map(is_stdin, paths)) > 1:
        raise click.UsageError(f"{ONCE}: name - only once")


def tell(lines: Iterable[str]) -> None:
    """Print *lines* to standard error."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        click.echo(text, err=True, nl=False)


def give_up(error: BadInput, *, exit_code: int, nothing_was: str = "printed") -> NoReturn:
    """Tell every problem on standard error and leave; nothing has been printed, or *nothing_was* what it says."""
    count = len(error.problems)
    tell([*error.problems, f"{count} problem{'' if count == 1 else 's'}; nothing was {nothing_was}"])
    raise SystemExit(exit_code)
