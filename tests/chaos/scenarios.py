"""What goes wrong, one function per scenario, while a policy is rolled out by two replicas.

A scenario begins with Deployments that are rolled out and nothing injected. It edits the policy, does its harm, and
returns when the last harm is done. What must be so then is in verdict.py.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pykube

from tests import kube
from tests.builders import Manifest
from tests.chaos.patience import steadily
from tests.chaos.replicas import LEASE_SECONDS
from tests.chaos.stage import Stage, await_quiet
from tests.polling import poll

Harm = Callable[[Stage], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """*title*: for the page. *owners_roll*: others roll the Deployments out too. *patience*: seconds without a step."""

    name: str
    title: str
    harm: Harm
    count: int = 300
    controllers: bool = True
    owners_roll: bool = False
    patience: float = 90.0


def rollouts(stage: Stage, *, until: Callable[[], bool]) -> Iterator[None]:
    """Edit the policy, and again whenever it is rolled out, until *until*; yield many times a second."""
    stage.edit()
    while not until():
        yield
        if stage.ready():
            stage.edit()
        time.sleep(0.1)


def for_seconds(stage: Stage, seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since this call, and a rollout was completed (or is not for ages)."""
    began = time.monotonic()

    def over() -> bool:
        passed = time.monotonic() - began
        return passed > (seconds if stage.edits > 1 else 10 * seconds)

    return over


def await_some(stage: Stage) -> None:
    """Wait until a rollout is on its way."""
    poll(lambda: stage.updated() > 0, timeout=180)


# --- processes -------------------------------------------------------------------------------------


def killed(stage: Stage) -> None:
    """SIGKILL at random moments: mostly of the leader, now and then of both."""
    replicas, chance, times = stage.replicas, stage.chance, stage.measure(50, short=3)
    for _ in rollouts(stage, until=lambda: stage.told.get("kills", 0) == times):
        leader = replicas.await_leader()
        time.sleep(chance.uniform(0.0, 3.0))  # the moment is what is random
        both = chance.random() < 0.2
        for each in replicas.members if both else [leader]:
            each.kill()
        for each in replicas.members:
            if not each.pid:
                each.spawn()
        stage.told["kills"] = int(str(stage.told.get("kills", 0))) + 1


def leader_frozen(stage: Stage) -> None:
    """SIGSTOP the leader for longer than its Lease in the middle of a rollout; the other goes on; then SIGCONT."""
    times = stage.measure(3, short=1)
    for _ in range(times):
        stage.edit()
        await_some(stage)
        frozen = stage.replicas.await_leader()
        frozen.signal(signal.SIGSTOP)
        try:
            stage.replicas.await_leader(other_than=frozen)
            time.sleep(LEASE_SECONDS)  # so long it stays frozen while the other one leads
        finally:
            frozen.signal(signal.SIGCONT)
        stage.await_ready()
    stage.told["freezes"] = times


# --- the API server --------------------------------------------------------------------------------


def apiserver_restarted(stage: Stage) -> None:
    """Twice in an orderly way, once killed, each time in the middle of a rollout."""
    crashes = (False, True, False)[: stage.measure(3, short=2)]
    for crash in crashes:
        stage.edit()
        await_some(stage)
        if crash:
            stage.cluster.kill("kube-apiserver")
        stage.cluster.restart("kube-apiserver")
        await_quiet(stage.api)
    stage.told["restarts"] = len(crashes)


def etcd_stopped(stage: Stage) -> None:
    """SIGSTOP etcd in the middle of a rollout: every request hangs, and fails."""
    seconds = stage.measure(20, short=8)
    stage.edit()
    await_some(stage)
    stage.cluster.pause("etcd")
    try:
        time.sleep(seconds)  # so long it is away
    finally:
        stage.cluster.resume("etcd")
    await_quiet(stage.api)
    stage.told["seconds without etcd"] = seconds


def etcd_restored(stage: Stage) -> None:
    """Restore a copy of etcd that is a rollout and a half old; then the author's edit comes once more."""
    times = stage.measure(3, short=1)
    for _ in range(times):
        stage.edit()
        await_some(stage)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "etcd"
            stage.cluster.back_up(copy)
            await_quiet(stage.api)
            stage.await_ready()
            stage.edit()
            await_some(stage)
            stage.cluster.restore(copy)
        await_quiet(stage.api)
        stage.undone += 1
        stage.edit()
    stage.told["restorations"] = times


# --- the way to it ---------------------------------------------------------------------------------


def _with_faults(**faults: Any) -> Harm:
    """A scenario with the same faults for both replicas all the time."""

    def harm(stage: Stage) -> None:
        with faulty(stage, **faults):
            for _ in rollouts(stage, until=for_seconds(stage, stage.measure(60, short=10))):
                pass

    return harm


@contextmanager
def faulty(stage: Stage, **faults: Any) -> Iterator[None]:
    """Both replicas' ways have *faults* until the block ends."""
    for each in stage.replicas.members:
        for name, value in faults.items():
            setattr(each.proxy.faults, name, value)
    try:
        yield
    finally:
        for each in stage.replicas.members:
            each.proxy.faults.clear()


def cut(stage: Stage) -> None:
    """All connections of one or both replicas are reset, every second or so."""
    due = time.monotonic()
    for _ in rollouts(stage, until=for_seconds(stage, stage.measure(60, short=10))):
        if time.monotonic() > due:
            for each in stage.replicas.members:
                if stage.chance.random() < 0.7:
                    each.proxy.cut()
            due = time.monotonic() + stage.chance.uniform(0.2, 2.0)


def silent(stage: Stage) -> None:
    """The leader's connections stay open and nothing passes, for longer than its Lease; then all arrives late."""
    times = stage.measure(3, short=1)
    for _ in range(times):
        stage.edit()
        await_some(stage)
        cut_off = stage.replicas.await_leader()
        cut_off.proxy.faults.silent = True
        try:
            stage.replicas.await_leader(other_than=cut_off)
            time.sleep(LEASE_SECONDS)  # so long the other one leads alone
        finally:
            cut_off.proxy.faults.clear()
        stage.await_ready()
    stage.told["silences"] = times


def gone(stage: Stage) -> None:
    """Every two seconds all watches end with 410, and every other attempt to go on is answered with 410."""
    with faulty(stage, gone=0.5):
        due = time.monotonic()
        for _ in rollouts(stage, until=for_seconds(stage, stage.measure(60, short=10))):
            if time.monotonic() > due:
                for each in stage.replicas.members:
                    each.proxy.end_watches()
                due = time.monotonic() + 2


def too_many(stage: Stage) -> None:
    """Storms of 429 with Retry-After: three seconds of nothing else, two of calm."""
    began = time.monotonic()
    for _ in rollouts(stage, until=for_seconds(stage, stage.measure(60, short=10))):
        storm = (time.monotonic() - began) % 5 < 3
        for each in stage.replicas.members:
            each.proxy.faults.too_many = 1.0 if storm else 0.0
    for each in stage.replicas.members:
        each.proxy.faults.clear()


def token_rotated(stage: Stage) -> None:
    """The replicas' tokens stop being valid in the middle of rollouts; new ones are in their files a moment later."""
    times = stage.measure(4, short=1)
    for _ in range(times):
        stage.edit()
        await_some(stage)
        for each in stage.replicas.members:
            each.rotate_token()
        stage.await_ready()
    stage.told["rotations"] = times


# --- others ----------------------------------------------------------------------------------------


def rival(stage: Stage) -> None:
    """Another client writes its own label to all Deployments as fast as it can, and its own env to each three times."""
    over = threading.Event()
    rivals = [_Rival(stage, over, number) for number in range(2)]
    others = [threading.Thread(target=each.run) for each in rivals]
    for each in others:
        each.start()
    try:
        stage.edit()
        await_some(stage)
        stage.edit()
        done_under_fire = True
        try:
            poll(stage.ready, timeout=120)
        except AssertionError:
            done_under_fire = False
        stage.told["Ready while it went on"] = done_under_fire
    finally:
        over.set()
        for each in others:
            each.join()
        stage.told["writes of the other client"] = sum(each.writes for each in rivals)


class _Rival:
    """One of the threads; each has every other Deployment for itself."""

    def __init__(self, stage: Stage, over: threading.Event, number: int) -> None:
        self._stage, self._over = stage, over
        self._names = sorted(stage.owned)[number::2]
        user = stage.cluster.user_kubeconfig(f"rival-{number}", "system:masters")
        self._api = kube.client(user)
        self.writes = 0

    def run(self) -> None:
        for turn in count(1):
            for position, name in enumerate(self._names):
                if self._over.is_set():
                    return
                self._label(name, str(turn))
                # Spread over the run: the third of them whose turn it is.
                if turn <= 9 and turn % 3 == position % 3:
                    self._env(name, str(turn))

    def _label(self, name: str, value: str) -> None:
        thing = pykube.Deployment(self._api, {"metadata": {"name": name, "namespace": self._stage.namespace}})
        thing.patch({"metadata": {"labels": {"rival": value}}})
        self.writes += 1
        self._stage.owned[name]["labels"] = self._stage.owned[name]["labels"] | {"rival": value}

    def _env(self, name: str, value: str) -> None:
        """Read, change and put it back whole, again and again until nobody came between."""
        while True:
            there = self._stage.fleet.deployment(name)
            container = there["spec"]["template"]["spec"]["containers"][0]
            _set(container["env"], value)
            answer = self._api.put(
                version="apps/v1",
                namespace=self._stage.namespace,
                url=f"deployments/{name}",
                json=there,
            )
            if answer.status_code == 409:
                continue
            self._api.raise_for_status(answer)
            break
        self.writes += 1
        owned = self._stage.owned[name]["spec"]["template"]["spec"]["containers"][0]
        _set(owned["env"], value)
        self._stage.owners_edits[name] += 1


def _set(env: list[Manifest], value: str) -> None:
    """Give RIVAL a value; a new one stands at the beginning, where it is among the owner's own in any case."""
    there = next((each for each in env if each["name"] == "RIVAL"), None)
    if there is None:
        env.insert(0, {"name": "RIVAL", "value": value})
    else:
        there["value"] = value


def deleted_while_down(stage: Stage) -> None:
    """All but a hundred (of few: a fifth) are deleted, and the policy edited, while no replica runs."""
    stage.rollout = {"strategy": "AllAtOnce", "minReadySeconds": 0}
    stage.edit()
    stage.await_ready()
    stage.told["problems of stopping"] = stage.replicas.stop()
    kept = sorted(stage.owned)[: min(100, len(stage.owned) // 5)]
    for name in kept:
        thing = pykube.Deployment(stage.api, {"metadata": {"name": name, "namespace": stage.namespace}})
        thing.patch({"metadata": {"labels": {"keep": "me"}}})
    answer = stage.api.delete(
        version="apps/v1", namespace=stage.namespace, url="deployments", params={"labelSelector": "!keep"}, timeout=300
    )
    stage.api.raise_for_status(answer)
    left = poll(steadily(stage.fleet.deployments), until=lambda some: sorted(some) == kept, timeout=120)
    stage.told["deleted"] = len(stage.owned) - len(left)
    for name in stage.owned.keys() - left.keys():
        del stage.owned[name]
    for name in kept:
        stage.owned[name]["labels"] = stage.owned[name]["labels"] | {"keep": "me"}
    stage.edit()
    stage.replicas.start()


SCENARIOS = {
    each.name: each
    for each in (
        Scenario(name="killed", title="operator killed 50 times at random moments", harm=killed),
        Scenario(name="frozen", title="leader frozen for longer than its Lease, then continued", harm=leader_frozen),
        Scenario(name="apiserver", title="API server restarted, once killed", harm=apiserver_restarted),
        Scenario(name="etcd", title="etcd stopped for 20 s", harm=etcd_stopped),
        Scenario(name="restored", title="etcd restored from a copy a rollout and a half old", harm=etcd_restored),
        Scenario(name="cut", title="all connections reset, every second or so", harm=cut),
        Scenario(name="silent", title="the leader's connections silent, then all arrives late", harm=silent),
        Scenario(name="delayed", title="every byte 0.3 s late", harm=_with_faults(delay=0.3)),
        Scenario(name="throttled", title="50 kB/s a connection", harm=_with_faults(bytes_per_second=50_000)),
        Scenario(name="gone", title="watches end with 410 every 2 s, LISTs and watches are refused", harm=gone),
        Scenario(name="too-many", title="storms of 429 with Retry-After", harm=too_many),
        Scenario(name="errors", title="10 % of all requests answered 500", harm=_with_faults(errors=0.1)),
        Scenario(
            name="lost-answers",
            title="20 % of the writes take effect, and their answers are lost",
            harm=_with_faults(lost_answers=0.2),
        ),
        Scenario(name="token", title="tokens rotated 4 times, the old ones invalid at once", harm=token_rotated),
        Scenario(
            name="rival",
            title="another client updates the same Deployments as fast as it can",
            harm=rival,
            owners_roll=True,
        ),
        Scenario(
            name="deleted",
            title="5,000 Deployments deleted while no operator runs",
            harm=deleted_while_down,
            count=5_100,
            controllers=False,
        ),
    )
}
"""By name, in the order in which they are run."""
