"""Stories of two policies on the same Deployments, of which one begins to claim what the other has."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import Json
from tests.simulation.fleets import TENTH
from tests.simulation.stories import World, established

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")
ON_DISK: Json = {"volumes": [{"name": "shared", "emptyDir": {}}]}
IN_MEMORY: Json = {"volumes": [{"name": "shared", "emptyDir": {"medium": "Memory"}}]}
TWO = replace(TENTH, max_concurrent=2)


def sharing() -> tuple[World, World]:
    """Ten Deployments with the policies web and log, which share a volume; web has precedence."""
    deployments = [established(f"app-{number:02}", revision="web-a") for number in range(10)]
    web = World(deployments, TWO, current="web-a", spec={**ON_DISK, "priority": 1})
    log = World([], TWO, policy=LOG, update="log-a", cluster=web.cluster, spec={**ON_DISK})
    run_both(web, log)
    assert carrying(web) == 10
    return web, log


def run_both(web: World, log: World, number: int = 120) -> None:
    for _ in range(number):
        web.cluster_tick()
        web.note()
        log.note()
    assert all(each.settled().startswith("RolloutComplete") for each in (web, log))


def carrying(web: World) -> int:
    """How many carry something of log."""
    return sum(each.bears("log") is not None for each in web.deployments)


def test_an_edit_that_clashes_with_a_policy_of_precedence_takes_nothing_out() -> None:
    """What is there does not clash. It goes no further, as where the application itself is in the way."""
    web, log = sharing()
    log.spec.update(IN_MEMORY)
    log.write_policy()
    for _ in range(10):
        web.cluster_tick()
    assert carrying(web) == 10
    assert log.settled().startswith("AllSkipped") and "Overridden" in log.settled()
    log.spec.update(ON_DISK)
    log.write_policy()
    run_both(web, log)
    assert carrying(web) == 10


def test_what_a_policy_of_precedence_begins_to_claim_is_lost_with_its_rollout_and_not_before() -> None:
    web, log = sharing()
    web.spec.update(IN_MEMORY)
    web.write_policy()
    web.cluster_tick()
    assert carrying(web) == 9, "one first, and the other's goes in the same write"
    while carrying(web):
        before = carrying(web)
        web.cluster_tick()
        assert before - carrying(web) <= 2
    log.spec.update(IN_MEMORY)
    log.write_policy()
    run_both(web, log)
    assert carrying(web) == 10


def test_who_keeps_undoing_what_stays_of_an_overridden_policy_is_answered_ever_more_rarely() -> None:
    web, log = sharing()
    log.spec.update(IN_MEMORY)
    log.write_policy()
    one = web["app-00"]
    undone = 0
    for _ in range(30):
        web.cluster_tick()
        if one.bears("log") is not None:
            one.edit(without_log)
            undone += 1
    assert 3 <= undone <= 6, "three times within ten minutes, then after ten, and twice as long each time"


def without_log(body: Json) -> Json:
    """*body* as a tool writes it that knows nothing of log."""
    template = body["spec"]["template"]
    left = [
        each
        for each in template["spec"]["initContainers"]
        if ":log" not in each["image"] and "/log" not in each["image"]
    ]
    return {
        **body,
        "spec": {**body["spec"], "template": {**template, "spec": {**template["spec"], "initContainers": left}}},
    }
