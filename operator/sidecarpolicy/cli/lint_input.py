"""Manifests out of files, linted: every workload with what was found in it, and the line of each finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yaml import ScalarNode

from sidecarpolicy.lint import Finding, Roles, findings, pods
from sidecarpolicy.lint.pods import POD_SPECS
from sidecarpolicy.lint.pods import Path as Field
from sidecarpolicy.manifests import Document, File


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


def linted(file: File, *, sure_only: bool = False, ignored: frozenset[str] = frozenset()) -> Iterator[Linted]:
    """Yield the workloads in *file*; raises BadInput with the line where one cannot be read."""
    for each in file.objects():
        pod = pods(each.value, each.path) if each.kind in POD_SPECS else None
        if pod is not None:
            yield Linted(
                file=file.source,
                kind=pod.kind,
                namespace=pod.namespace,
                name=pod.name,
                findings=tuple(
                    Found(finding=finding, line=line_of(each.document, finding.path, finding.inner))
                    for finding in findings(Roles(pod))
                    if (finding.sure or not sure_only) and finding.code not in ignored
                ),
            )


def all_linted(file: File, *, sure_only: bool, ignored: frozenset[str]) -> list[Linted]:
    """Return what `linted` yields; raises BadInput with the line where something cannot be read."""
    return list(linted(file, sure_only=sure_only, ignored=ignored))


def line_of(document: Document, path: Field, inner: int = 0) -> int:
    """Return the line of what stands at *path*: of a value that is a text its own, of anything else that of its key.

    *inner*: the line in that text, where it stands line by line as it is (a literal block scalar).
    """
    entry = next((found for n in range(len(path), 0, -1) if (found := document.entry(path[:n]))), None)
    if entry is None:
        return int(document.node.start_mark.line) + 1
    line = int(entry.node.start_mark.line) + 1
    if isinstance(entry.node, ScalarNode) and not entry.is_alias:
        return line + 1 + inner if entry.node.style == "|" else line
    # An alias has the node, and so the line, of its anchor.
    text = document.file.text
    if entry.is_alias:
        return text.count("\n", 0, entry.begin) + 1
    return line - text.count("\n", entry.begin, entry.node.start_mark.index)
