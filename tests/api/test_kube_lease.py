"""The election between candidates over a real Lease, with short times."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import localcluster
from sidecarpolicy.engine.port import Json, Resource
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import Login
from sidecarpolicy.kube.lease import LEASES, Election

DURATION, DEADLINE, RETRY = 3, 1.5, 0.2
CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    """A control plane of its own: these tests stop it."""
    with localcluster.start(f"kube-lease-{os.getpid()}", controllers=False) as running:
        yield running


@pytest_asyncio.fixture
async def api(server: localcluster.Cluster) -> AsyncIterator[HttpApi]:
    async with HttpApi(Login(str(server.kubeconfig)), timeout=5) as opened:
        yield opened


@pytest.fixture
def lease() -> str:
    return f"lease-{next(_numbers)}"


class Candidate:
    """An election that runs, and what it called back."""

    def __init__(self, api: HttpApi, lease: str, identity: str) -> None:
        self.calls: list[str] = []
        self.election = Election(
            api,
            namespace="default",
            name=lease,
            identity=identity,
            lease_duration=DURATION,
            renew_deadline=DEADLINE,
            retry_period=RETRY,
            on_gained=lambda: self.calls.append("gained"),
            on_lost=lambda: self.calls.append("lost"),
        )
        self.task = asyncio.create_task(self.election.run())

    @property
    def leading(self) -> bool:
        return self.election.leading

    async def die(self) -> None:
        """End as a killed process does: without a word to anybody."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(condition: Callable[[], bool], within: float) -> float:
    """Wait until *condition* holds; return how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within, f"not within {within} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def a_leader(api: HttpApi, lease: str, identity: str) -> Candidate:
    """A candidate that leads."""
    made = Candidate(api, lease, identity)
    await until(lambda: made.leading, 2)
    return made


async def a_standby(api: HttpApi, lease: str, identity: str) -> Candidate:
    """A candidate that has seen who leads."""
    made = Candidate(api, lease, identity)
    await asyncio.sleep(3 * RETRY)
    return made


async def spec_of(api: HttpApi, lease: str) -> Json:
    spec: Json = (await api.get(LEASES, "default", lease))["spec"]
    return spec


async def test_of_two_candidates_one_leads_and_renews(api: HttpApi, lease: str) -> None:
    first, second = Candidate(api, lease, "first"), Candidate(api, lease, "second")
    await until(lambda: first.leading or second.leading, 2)
    leader, other = (first, second) if first.leading else (second, first)
    before = await spec_of(api, lease)
    assert before["holderIdentity"] == leader.election.identity
    assert (before["leaseDurationSeconds"], before["leaseTransitions"]) == (DURATION, 0)
    for _ in range(20):
        await asyncio.sleep(DURATION * 1.5 / 20)
        assert (leader.leading, other.leading) == (True, False)
    after = await spec_of(api, lease)
    assert after["renewTime"] > before["renewTime"]
    assert after["acquireTime"] == before["acquireTime"]
    assert other.election.holder == leader.election.identity
    assert (leader.calls, other.calls) == (["gained"], [])
    await asyncio.gather(first.die(), second.die())


async def test_after_a_release_the_other_leads_at_once(api: HttpApi, lease: str) -> None:
    first = Candidate(api, lease, "first")
    await asyncio.wait_for(first.election.wait_until_leading(), 2)
    over = asyncio.create_task(first.election.wait_until_over())
    second = await a_standby(api, lease, "second")
    assert not over.done()
    await first.election.release()
    assert not first.leading
    await asyncio.wait_for(over, 0.1)
    assert await until(lambda: second.leading, 1) < 1
    assert (await spec_of(api, lease))["leaseTransitions"] == 1
    assert second.election.transitions == 1
    await asyncio.wait_for(first.task, 1)  # a released election ends by itself
    assert (first.calls, second.calls) == (["gained", "lost"], ["gained"])
    await second.die()


async def test_a_released_lease_says_that_nobody_holds_it(api: HttpApi, lease: str) -> None:
    only = await a_leader(api, lease, "only")
    await only.election.release()
    spec = await spec_of(api, lease)
    assert (spec.get("holderIdentity"), spec["leaseDurationSeconds"]) == ("", 1)
    await only.election.release()  # once more is nothing
    assert await spec_of(api, lease) == spec


async def test_who_ends_while_taking_the_lease_gives_it_up(
    api: HttpApi, lease: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that tells of it does not come any more: the next leader must not wait until it runs out."""
    before = await a_leader(api, lease, "before")
    await before.election.release()
    written = asyncio.Event()
    patch = api.merge_patch

    async def answers_late(*arguments: Any, **named: Any) -> Json:
        answer = await patch(*arguments, **named)
        written.set()
        await asyncio.sleep(DEADLINE / 4)
        return answer

    monkeypatch.setattr(api, "merge_patch", answers_late)
    ending = Candidate(api, lease, "ending")
    await asyncio.wait_for(written.wait(), 2)
    await ending.die()
    assert (await spec_of(api, lease))["holderIdentity"] == "ending"
    await ending.election.release()
    assert not (await spec_of(api, lease)).get("holderIdentity")


async def test_who_has_never_held_the_lease_says_nothing_of_a_release(
    api: HttpApi, lease: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the process ends before it has begun, since an address is taken."""
    holder = await a_leader(api, lease, "holder")
    standby = await a_standby(api, lease, "standby")
    await standby.election.release()
    await Election(HttpApi(Login()), namespace="default", name=lease).release()  # a client that was never opened
    assert not [each.message for each in caplog.records if "not released" in each.message]
    assert (await spec_of(api, lease))["holderIdentity"] == "holder"
    await holder.die()


async def test_a_release_in_the_middle_of_a_renewal_is_the_last_word(api: HttpApi, lease: str) -> None:
    for number in range(10):
        only = await a_leader(api, lease, f"only-{number}")
        await asyncio.sleep(RETRY - 0.01 + number * 0.002)  # around the next renewal
        await only.election.release()
        assert (await spec_of(api, lease)).get("holderIdentity") == ""
        await asyncio.wait_for(only.task, 1)
        assert not only.leading
        assert (await spec_of(api, lease)).get("holderIdentity") == ""


async def test_after_a_crash_the_other_leads_when_the_lease_has_run_out(api: HttpApi, lease: str) -> None:
    first = await a_leader(api, lease, "first")
    second = await a_standby(api, lease, "second")
    await first.die()
    assert not first.leading
    waited = await until(lambda: second.leading, DURATION + 2)
    assert waited > DURATION - 2 * RETRY
    assert (await spec_of(api, lease))["leaseTransitions"] == 1
    await second.die()


async def test_a_term_is_due_before_the_lease_has_run_out(api: HttpApi, lease: str) -> None:
    first = await a_leader(api, lease, "first")
    second = Candidate(api, lease, "second")
    due = asyncio.create_task(second.election.wait_until_due())
    await asyncio.sleep(3 * RETRY)
    assert not due.done()
    await first.die()
    await until(due.done, DEADLINE + 0.5)
    over = asyncio.create_task(second.election.wait_until_over())
    assert not second.leading
    assert await until(lambda: second.leading, DURATION) > 0.1
    assert not over.done(), "what was due has come"
    await second.die()
    await asyncio.wait_for(over, 1)


async def test_a_term_that_is_due_is_put_off_where_the_leader_comes_back(api: HttpApi, lease: str) -> None:
    """It was late and has stopped writing; nobody else has led, so its term goes on."""
    second = await a_leader(api, lease, "second")
    await second.die()
    standby = Candidate(api, lease, "standby")
    await asyncio.wait_for(standby.election.wait_until_due(), DURATION + 2)
    over = asyncio.create_task(standby.election.wait_until_over())
    await asyncio.sleep(0)
    assert not standby.leading
    await api.merge_patch(LEASES, "default", lease, {"spec": {"renewTime": "2026-11-29T15:04:05.000000Z"}})
    await asyncio.wait_for(over, 2 * RETRY)
    assert not standby.leading
    await asyncio.wait_for(standby.election.wait_until_due(), DURATION + 2)  # and now it is gone for good
    await until(lambda: standby.leading, DURATION)
    await standby.die()


async def test_while_the_server_stands_still_the_leader_steps_down_first(
    api: HttpApi, lease: str, server: localcluster.Cluster
) -> None:
    first = await a_leader(api, lease, "first")
    second = await a_standby(api, lease, "second")
    server.pause("kube-apiserver")
    try:
        stood_down = await until(lambda: not first.leading, DEADLINE + 0.5)
        assert stood_down <= DEADLINE + 0.1
        await until(lambda: first.calls == ["gained", "lost"], 0.5)  # told by a timer, a moment later
        paused_until = time.monotonic() + DURATION
        while time.monotonic() < paused_until:
            assert not (first.leading or second.leading)
            await asyncio.sleep(0.01)
    finally:
        server.resume("kube-apiserver")
    began = time.monotonic()
    while not (first.leading or second.leading):
        assert time.monotonic() < began + 5
        await asyncio.sleep(0.01)
    for _ in range(100):
        assert not (first.leading and second.leading)
        await asyncio.sleep(0.01)
    await asyncio.gather(first.die(), second.die())


async def test_a_blocked_loop_does_not_lead_any_longer_and_goes_on_with_its_term(api: HttpApi, lease: str) -> None:
    only = await a_leader(api, lease, "only")
    over = asyncio.create_task(only.election.wait_until_over())
    await asyncio.sleep(0)
    time.sleep(DEADLINE + 0.1)  # noqa: ASYNC251 - on purpose: nothing of the election can run now
    assert not only.leading
    await until(lambda: only.leading, 2)  # nobody took it meanwhile
    assert only.calls == ["gained", "lost", "gained"]
    assert (only.election.transitions, only.election.term, over.done()) == (0, 1, False)
    await only.die()
    await asyncio.wait_for(over, 1)


async def test_a_term_is_over_where_another_has_led_meanwhile(api: HttpApi, lease: str) -> None:
    first = await a_leader(api, lease, "first")
    over = asyncio.create_task(first.election.wait_until_over())
    await asyncio.sleep(0)
    usurped = {"holderIdentity": "usurper", "leaseTransitions": 7, "leaseDurationSeconds": 1}
    await api.merge_patch(LEASES, "default", lease, {"spec": usurped})
    await asyncio.wait_for(over, 2)
    await until(lambda: first.leading, DURATION + 2)
    assert (first.election.transitions, first.election.term) == (8, 2)
    await first.die()


async def test_a_term_is_over_where_the_lease_is_as_it_was_some_renewals_ago(api: HttpApi, lease: str) -> None:
    """As after etcd was restored from a backup: what was read since is not so any more."""
    a = Candidate(api, lease, "a")
    await until(lambda: a.leading, 5)
    before = await spec_of(api, lease)
    await asyncio.sleep(3 * RETRY)
    assert a.election.term == 1
    await api.merge_patch(LEASES, "default", lease, {"spec": before})
    await until(lambda: a.election.term == 2 and a.leading, 5)
    assert a.calls == ["gained", "lost", "gained"]
    await a.die()


async def test_of_two_with_one_name_one_leads_and_the_other_takes_nothing_from_it(
    api: HttpApi, lease: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As where SIDECARPOLICY_RUN_IDENTITY is set in a Deployment of two replicas."""
    first = await a_leader(api, lease, "same")
    second, third = Candidate(api, lease, "same"), Candidate(api, lease, "same")
    for _ in range(20):
        await asyncio.sleep(DURATION * 1.5 / 20)
        assert (first.leading, second.leading) == (True, False)
    await third.election.release()
    assert (await spec_of(api, lease))["holderIdentity"] == "same"
    told = [
        each.getMessage()
        for each in caplog.records
        if "a process with the same identity, same, holds it" in each.message
    ]
    assert len(told) == 2  # each of the two says it, and once
    await first.die()
    assert await until(lambda: second.leading, DURATION + 2) > DURATION - DEADLINE
    assert (second.election.transitions, first.calls, second.calls) == (1, ["gained", "lost"], ["gained"])
    await second.die()


async def test_a_deleted_lease_is_competed_for_anew(api: HttpApi, lease: str) -> None:
    only = await a_leader(api, lease, "only")
    await api.delete(LEASES, "default", lease)
    await until(lambda: only.calls == ["gained", "lost", "gained"], 2)
    assert (await spec_of(api, lease))["holderIdentity"] == "only"
    assert only.election.term == 2
    await only.die()


async def test_a_leader_that_was_overwritten_stands_down(api: HttpApi, lease: str) -> None:
    only = await a_leader(api, lease, "only")
    await api.merge_patch(LEASES, "default", lease, {"spec": {"holderIdentity": "usurper"}})
    await until(lambda: not only.leading, 4 * RETRY)
    assert only.election.holder == "usurper"
    await only.die()


async def test_nobody_else_shortens_or_prolongs_by_touching_metadata(api: HttpApi, lease: str) -> None:
    first = await a_leader(api, lease, "first")
    second = await a_standby(api, lease, "second")
    await first.die()
    began = time.monotonic()
    while not second.leading:
        await api.merge_patch(LEASES, "default", lease, {"metadata": {"annotations": {"x": str(time.time())}}})
        await asyncio.sleep(0.1)
        assert time.monotonic() < began + DURATION + 2
    await second.die()


async def test_missing_rights_are_told_once_and_tried_again(
    server: localcluster.Cluster, lease: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with HttpApi(Login(str(server.user_kubeconfig("nobody")))) as nobody:
        candidate = Candidate(nobody, lease, "nobody")
        await asyncio.sleep(5 * RETRY)
        assert not candidate.leading
        await candidate.die()
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert f"lease default/{lease}: " in errors[0]
    assert 'cannot get resource "leases"' in errors[0]


def test_times_that_could_give_two_leaders_are_refused() -> None:
    with pytest.raises(ValueError, match="lease_duration > renew_deadline > retry_period"):
        Election(HttpApi(Login()), namespace="n", name="l", lease_duration=10, renew_deadline=10)
