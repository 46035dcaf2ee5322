"""What cannot be read or changed: sentences for people, each with the place that it is about."""

from __future__ import annotations

from collections.abc import Sequence


class BadInput(Exception):
    """The input cannot be used; *problems* are sentences for people, each with the place it is about."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Unspliceable(Exception):
    """A place in a text cannot be changed without changing something else; *line* counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line, self.why = line, why
