"""What the demo promises, one sentence each, and which of them held. The first broken one ends the demo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deploy.demo.witness import Unwitnessed
from localcluster.errors import KubectlError


class BrokenPromise(Exception):
    """A promise did not hold; *seen* is what was there instead."""

    def __init__(self, promise: str, seen: str) -> None:
        self.promise = promise
        self.seen = seen
        super().__init__(f"{promise}: {seen}")


@dataclass(slots=True)
class Evidence:
    """What a promise is judged by, filled in while it is looked at."""

    promise: str
    detail: str = ""

    def require(self, holds: bool, seen: str) -> None:
        """Raise BrokenPromise, with what was *seen*, unless it *holds*."""
        if not holds:
            raise BrokenPromise(self.promise, seen)


@dataclass(slots=True)
class Promises:
    """Those that held, with a detail each, and those that this machine cannot show, with the reason."""

    held: list[Evidence] = field(default_factory=list)
    not_shown: list[Evidence] = field(default_factory=list)

    @contextmanager
    def keeping(self, promise: str) -> Iterator[Evidence]:
        """Count *promise* as held if the block ends well; raise BrokenPromise where something in it says no."""
        evidence = Evidence(promise)
        try:
            yield evidence
        except (KubectlError, Unwitnessed) as error:
            raise BrokenPromise(promise, str(error)) from error
        self.held.append(evidence)

    def cannot_show(self, promise: str, why: str) -> None:
        """Note that *promise* was not looked at."""
        self.not_shown.append(Evidence(promise, why))
