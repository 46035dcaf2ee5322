"""Manifests out of files, linted: every workload with what was found in it, and the line of each finding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from yaml import ScalarNode

from sidecarpolicy.cli import manifests
from sidecarpolicy.lint import Finding, Roles, findings, pods
from sidecarpolicy.lint.pods import POD_SPECS
from sidecarpolicy.lint.pods import Path as Field
from sidecarpolicy.manifests import BadInput, Document, parse

STDIN = "-"


def texts(paths: Iterable[Path], *, recursive: bool) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every file in *paths*; raises BadInput where one cannot be read."""
    for path in paths:
        try:
            for file in manifests._files(path, recursive=recursive):
                yield "standard input" if str(file) == STDIN else str(file), manifests._text(file)
        except manifests.BadInput as error:
            raise BadInput(error.problems) from error


def give_up(error: BadInput) -> NoReturn:
    """Tell every problem on standard error and leave; nothing has been printed."""
    for problem in error.problems:
        click.echo(problem, err=True)
    count = len(error.problems)
    click.echo(f"{count} problem{'' if count == 1 else 's'}; nothing was printed", err=True)
    raise SystemExit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding, and the line in which it stands."""

    finding: Finding
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """A workload in a file, and what was found in it."""

    file: str
    kind: str
    namespace: str
    name: str
    findings: tuple[Found, ...]

    @property
    def title(self) -> str:
        """Return the workload, for people."""
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


def linted(paths: Iterable[Path], *, recursive: bool, sure_only: bool, ignored: frozenset[str]) -> list[Linted]:
    """Return every workload in files, directories and standard input; raise BadInput with every problem."""
    found: list[Linted] = []
    problems: list[str] = []
    for file, text in texts(paths, recursive=recursive):
        try:
            found += lint_text(text, file, sure_only=sure_only, ignored=ignored)
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(problems)
    return found


def lint_text(
    text: str, source: str, *, sure_only: bool = False, ignored: frozenset[str] = frozenset()
) -> Iterator[Linted]:
    """Yield the workloads in the manifests *text*; raises BadInput with the line where they cannot be read."""
    for each in parse(text, source).objects():
        pod = pods(each.value, each.path) if each.kind in POD_SPECS else None
        if pod is not None:
            yield Linted(
                file=source,
                kind=pod.kind,
                namespace=pod.namespace,
                name=pod.name,
                findings=tuple(
                    Found(finding=finding, line=line_of(each.document, finding.path, finding.inner))
                    for finding in findings(Roles(pod))
                    if (finding.sure or not sure_only) and finding.code not in ignored
                ),
            )


def line_of(document: Document, path: Field, inner: int = 0) -> int:
    """Return the line of what stands at *path*: of a value that is a text its own, of anything else that of its key.

    *inner*: the line in that text, where it stands line by line as it is (a literal block scalar).
    """
    entry = document.entry(path)
    if entry is None or not isinstance(entry.node, ScalarNode):
        return document.key_position(path).line
    line = document.position(path).line
    return line + 1 + inner if entry.node.style == "|" else line
