"""When a request that failed is tried again: what each error of the port means for the next try.

A Conflict is decided anew almost at once, for somebody else was only faster. A Transient error doubles the wait, unless
the server says how long. What is Rejected stays so until somebody edits something. What is logged and reported of an
error is decided where it is caught: `workload_pass`, `policy_pass`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecarpolicy.engine.port import ApiError, Conflict, Transient

# The first wait after a Conflict, in seconds.
FIRST_CONFLICT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Waits in seconds: doubling from *first* to *last*, after a Conflict to *last_conflict*.

    *rejected*: after a Rejected, None for as after any other error.
    """

    first: float
    last: float
    last_conflict: float
    rejected: float | None = None

    def seconds(self, error: Exception, tries: int) -> float:
        """Return how long to wait after *error*, the *tries*-th in a row."""
        doubled = 2.0 ** min(tries - 1, 12)
        if isinstance(error, Conflict):
            return min(self.last_conflict, FIRST_CONFLICT * doubled)
        if isinstance(error, Transient):
            return error.retry_after or min(self.last, self.first * doubled)
        if isinstance(error, ApiError) and self.rejected is not None:
            return self.rejected
        return min(self.last, self.first * doubled)


@dataclass(slots=True, kw_only=True)
class Trouble:
    """What keeps something from being written: *failures* in a row; nothing is tried *until* (since the epoch).

    *problem*: why, for people; it may stand without a failure, where something else must change first.
    """

    problem: str = ""
    failures: int = 0
    until: float = 0.0

    def waits(self, now: float, longest: float) -> bool:
        """Whether it is too early to try again; what is further away than *longest* a clock that was ahead has set."""
        return self.failures > 0 and 0.0 < self.until - now <= longest

    def again(self, error: Exception, retries: Retries) -> float:
        """Count one more failure; return how long to wait after it."""
        self.failures += 1
        return retries.seconds(error, self.failures)

    def is_news(self, problem: str) -> bool:
        """Take in what is in the way; return whether that is another problem than before."""
        known, self.problem = self.problem, problem
        return problem != known

    def end(self) -> None:
        """Nothing is in the way any more."""
        self.problem, self.failures = "", 0


# No wait of a workload is longer, in seconds. It is tried again earlier than that when it changes.
LONGEST = 600.0
OF_WORKLOADS = Retries(first=1.0, last=30.0, last_conflict=5.0, rejected=LONGEST)
OF_POLICIES = Retries(first=0.5, last=60.0, last_conflict=60.0)
OF_STATUSES = Retries(first=2.0, last=60.0, last_conflict=2.0)
