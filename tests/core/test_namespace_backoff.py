"""A namespace with its own trouble is left alone, and tried again when that is over, whatever is still there."""

from __future__ import annotations

from typing import Any

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.namespace_backoff import FIRST_SECONDS, MOST_SECONDS, NamespaceBackoff, namespace_backoffs
from sidecarpolicy.core.plan import steps
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.names import OnFailure
from tests.core.fleets import UPDATE, a_fleet
from tests.core.objects import START
from tests.core.test_plan import a_state


def a_target(number: int, state: State = State.PENDING, **fields: Any) -> Target:
    """One in the namespace that has trouble."""
    there: dict[str, Any] = {"revision": "web-a", "recorded": True}
    return Target(workload=WorkloadId("bank", f"app-{number}"), state=state, **(there | fields))


def failing(number: int) -> Target:
    """One that fails for its namespace's reasons, and is left so."""
    return a_target(number, State.FAILED, revision=UPDATE, failing=True, not_counted=True, holds_slot=True)


THREE = Rollout(max_concurrent=3, on_failure=OnFailure.HALT)
WAITING = [a_target(number) for number in range(4, 8)]


def after(before: dict[str, NamespaceBackoff], targets: list[Target], now: float) -> dict[str, NamespaceBackoff]:
    """What is left alone when these *targets* are seen."""
    return namespace_backoffs(before, a_fleet(UPDATE, targets), now)


def test_a_failure_that_is_still_there_does_not_renew_the_wait() -> None:
    there = [failing(1), *WAITING]
    first = after({}, there, START)
    assert first["bank"].until == START + FIRST_SECONDS
    over = after(first, there, START + FIRST_SECONDS)
    assert not over["bank"].waits(START + FIRST_SECONDS)
    state = a_state(now=START + FIRST_SECONDS, backoffs=over, rollout=THREE)
    assert len(list(steps(state, a_fleet(UPDATE, there), {}))) == 1, "one is tried, though the old one holds its slot"
    moving = a_target(4, State.PROGRESSING, revision=UPDATE, holds_slot=True)
    assert list(steps(state, a_fleet(UPDATE, [failing(1), moving, *WAITING[1:]]), {})) == [], "and no other"


def test_a_new_failure_doubles_it() -> None:
    kept = after({}, [failing(1), *WAITING], START)
    now = START
    for seconds in (1200.0, 2400.0, MOST_SECONDS, MOST_SECONDS):
        now = kept["bank"].until
        number = int(seconds + now)
        kept = after(kept, [failing(1), failing(number), *WAITING], now)
        assert kept["bank"].seconds == seconds


def test_one_that_was_rolled_back_and_fails_again_doubles_it() -> None:
    kept = after({}, [failing(1), *WAITING], START)
    back = a_target(1, State.FAILED, rolled_back=True, not_counted=True)
    kept = after(kept, [back, *WAITING], START + 10)
    kept = after(kept, [failing(1), *WAITING], START + FIRST_SECONDS + 300)
    assert kept["bank"].seconds == 1200


def test_when_one_completes_it_is_as_any_other() -> None:
    kept = after({}, [failing(1), *WAITING], START)
    done = [failing(1), a_target(4, State.UPDATED, revision=UPDATE), *WAITING[1:]]
    for later in (0, 10):
        now = START + FIRST_SECONDS + later
        kept = after(kept, done, now)
        state = a_state(now=now, backoffs=kept, rollout=THREE)
        assert len(list(steps(state, a_fleet(UPDATE, done), {}))) == 2, "the old failure does not begin it again"
    kept = after(kept, [*done, failing(9)], now)
    assert kept["bank"].seconds == FIRST_SECONDS, "but a new one does"


def test_where_nothing_is_left_to_be_done_nothing_is_waited_for() -> None:
    kept = after({}, [failing(1), *WAITING], START)
    assert after(kept, [failing(1)], START + 10) == {}
    assert after({}, [failing(1), a_target(2, State.UPDATED, revision=UPDATE)], START) == {}
