"""Stories of two policies on the same Deployments, of which one begins to claim what the other has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from sidecarpolicy.names import OnFailure
from tests.simulation.controllers import borne_by
from tests.simulation.faults import Fault, Request
from tests.simulation.fleets import TENTH
from tests.simulation.invariants import untrue
from tests.simulation.server import Change
from tests.simulation.stories import Deployment, World, established

MON = PolicyId(kind=names.POLICY, namespace="shop", name="mon")
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


def run(web: World, log: World, number: int = 120) -> None:
    for _ in range(number):
        web.cluster_tick()
        web.note()
        log.note()


def run_both(web: World, log: World, number: int = 120) -> None:
    run(web, log, number)
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


def writes(world: World) -> list[frozenset[str]]:
    """What every Deployment bears after each write of ours from now on."""
    written: list[frozenset[str]] = []

    def note(change: Change) -> None:
        if change.manager == names.FIELD_MANAGER and change.resource == DEPLOYMENTS:
            written.append(borne_by(change.after["spec"]["template"]))

    world.server.observers.append(note)
    return written


def ready(world: World) -> list[str]:
    """The status of the condition Ready in every status that *world*'s policy has from now on."""
    told: list[str] = []

    def note(change: Change) -> None:
        if change.resource == POLICIES[world.policy.kind] and change.place[1] == world.policy.name:
            found = {each["type"]: each["status"] for each in items(at(change.after, "status"), "conditions")}
            told.append(found.get("Ready", ""))

    world.server.observers.append(note)
    return told


def by_tier() -> tuple[World, World]:
    """The policies web and log, each with a sidecar named proxy and a Deployment of its own tier."""
    deployments = [established(f"app-{tier}", tier=tier) for tier in ("web", "api")]
    spec: Json = {"selector": {"matchLabels": {"tier": "web"}}}
    web = World(deployments, TWO, update="web-a", spec=spec)
    spec = {"selector": {"matchLabels": {"tier": "api"}}}
    log = World([], TWO, policy=LOG, update="log-a", cluster=web.cluster, sidecar_name="proxy", spec=spec)
    run_both(web, log)
    return web, log


def overridden(number: int = 3, *, proven: bool = True, spec: Json | None = None) -> tuple[World, World]:
    """Deployments with web, which overrides log; *proven*: log was there before. *spec*: more of web's."""
    deployments = [established(f"app-{number}") for number in range(number)]
    web_spec: Json = {"priority": 1, **(spec or {})}
    if proven:
        log = World(deployments, TWO, policy=LOG, update="log-a", sidecar_name="proxy")
        log.run()
        web = World([], TWO, update="web-a", cluster=log.cluster, spec=web_spec)
        web.deployments = log.deployments
    else:
        web = World(deployments, TWO, update="web-a", spec=web_spec)
        web.run()
        log = World([], TWO, policy=LOG, update="log-a", cluster=web.cluster, sidecar_name="proxy")
    run(web, log)
    assert web.settled().startswith("RolloutComplete")
    assert log.settled().startswith("AllSkipped")
    return web, log


def test_a_deployment_that_is_labelled_over_to_another_policy_restarts_once() -> None:
    web, log = by_tier()
    written, told = writes(web), ready(log)
    web["app-web"].edit(relabelled)
    run(web, log)
    assert written == [{"log-a"}]
    assert log.settled().startswith("RolloutComplete: 2 of 2")
    assert told[0] == "Unknown", "from the relabelling on one of two waits"
    assert "True" not in told[:-1]


def test_what_a_deleted_policy_has_overridden_comes_in_the_write_that_takes_it_out() -> None:
    web, log = overridden()
    written, told = writes(web), ready(log)
    web.delete()
    run(web, log)
    assert web.object is None
    assert log.settled().startswith("RolloutComplete: 3 of 3")
    assert written == [{"log-a"}] * 3
    assert "True" not in told[:-1]


def test_the_budget_of_an_exchange_is_that_of_the_policy_that_leaves() -> None:
    """One removal goes first, then two at a time; log could have more of its own in flight, and has none."""
    web, log = overridden(10)
    web.cluster.invariants.most_in_flight.clear()
    web.delete()
    run(web, log)
    assert log.settled().startswith("RolloutComplete: 10 of 10")
    assert (web.most_in_flight, log.most_in_flight) == (2, 0)


def test_a_held_removal_is_what_the_gaining_policy_waits_for_and_says() -> None:
    web, log = overridden(spec={"rollout": {"removal": "Manual"}})
    written = writes(web)
    web.delete()
    run(web, log, 6)
    assert (log.status["targets"]["pending"], log.status["targets"]["skipped"]) == (3, 0)
    assert log.settled() == (
        f"RemovalHeld: set the annotation sidecars.dev/approve: removal@{web.generation} on SidecarPolicy shop/web to "
        "go on with its removal; 0 of 3 workloads run log-a; 3 waiting; shop/app-0 (and 2 more) wait until the "
        "sidecars of SidecarPolicy shop/web are taken out"
    )
    web.approve(f"removal@{web.generation}")
    web.cluster_tick()
    assert log.settled().startswith("RollingOut")
    run(web, log)
    assert log.settled().startswith("RolloutComplete: 3 of 3")
    assert written == [{"log-a"}] * 3


def test_what_a_paused_policy_deselects_stays_and_the_gaining_policy_says_so() -> None:
    web, log = overridden()
    web.rollout = replace(web.rollout, paused=True)
    web.spec["selector"] = {"matchLabels": {"tier": "none"}}
    web.write_policy()
    run(web, log, 6)
    assert log.settled().startswith("RemovalHeld: SidecarPolicy shop/web is paused; 0 of 3 workloads run log-a")
    web.rollout = replace(web.rollout, paused=False)
    run(web, log)
    assert log.settled().startswith("RolloutComplete: 3 of 3")


def test_a_revision_that_was_never_rolled_out_goes_first_on_one_in_exchange() -> None:
    """It is a step of the gaining policy as well: no second one comes before the first has completed it."""
    web, log = overridden(4, proven=False)
    written, told = writes(web), ready(log)
    web.delete()
    while "log-a" not in web.cluster.invariants.landed:
        run(web, log, 1)
        assert carrying(web) == len(written) == 1
    run(web, log)
    assert log.settled().startswith("RolloutComplete: 4 of 4")
    assert written == [{"log-a"}] * 4
    assert "True" not in told[:-1]


def test_a_halted_revision_does_not_come_in_exchange_but_the_one_before_it() -> None:
    """As a new Deployment gets it."""
    web, log = by_tier()
    web["app-api"].breaks = frozenset({"log-b"})
    log.edit("log-b")
    run(web, log)
    assert log.settled().startswith("RolledBack")
    written = writes(web)
    web["app-web"].edit(relabelled)
    run(web, log)
    assert written == [{"log-a"}]
    assert log.settled().startswith("RolledBack")


def test_a_first_revision_that_is_halted_comes_nowhere() -> None:
    """What leaves goes all the same, and the gaining policy's halt is told."""
    web, log = overridden(proven=False)
    for each in web.deployments:
        each.breaks = frozenset({"log-a"})
    written = writes(web)
    web.delete()
    run(web, log)
    assert web.object is None
    assert written.count(frozenset({"log-a"})) == 1
    assert all(not each.revisions for each in web.deployments)
    assert log.settled().startswith("RolledBack")


def test_an_exchange_that_fails_is_rolled_back_and_no_second_one_brings_the_same() -> None:
    """What it brought was rolled out completely before, and is halted now; the removal goes on."""
    web, log = overridden(6)
    for each in web.deployments:
        each.breaks = frozenset({"log-a"})
    written = writes(web)
    web.delete()
    run(web, log)
    assert web.object is None
    assert written == [{"log-a"}, *[set()] * 6]
    assert log.settled().startswith("RolledBack")


def failing(number: int = 3, **rollout: object) -> tuple[World, World]:
    """Deployments with log, and web, which would override it and breaks everywhere."""
    deployments = [established(f"app-{number}") for number in range(number)]
    log = World(deployments, TWO, policy=LOG, update="log-a", sidecar_name="proxy")
    log.run()
    for each in deployments:
        each.breaks = frozenset({"web-a"})
    web = World([], replace(TWO, **rollout), update="web-a", cluster=log.cluster, spec={"priority": 1})  # type: ignore[arg-type]
    web.deployments = log.deployments
    return web, log


def test_where_a_policy_of_precedence_fails_what_it_took_the_place_of_is_there_again() -> None:
    """In the write that takes it out: nobody is left without a sidecar because somebody else's does not start."""
    web, log = failing()
    written = writes(web)
    run(web, log)
    assert web.settled().startswith("RolledBack")
    assert written == [{"web-a"}, {"log-a"}]
    assert log.settled().startswith("RolloutComplete: 3 of 3")
    web.edit("web-b")
    run_one_over_the_other(web, log)


def run_one_over_the_other(web: World, log: World) -> None:
    run(web, log)
    assert web.settled().startswith("RolloutComplete: 3 of 3")
    assert log.settled().startswith("AllSkipped")
    assert carrying(web) == 0


def test_a_failure_that_halts_nothing_gives_its_place_back_too() -> None:
    web, log = failing(max_failures=5)
    run(web, log)
    assert carrying(web) == 3
    assert (web.status["targets"]["failed"], log.status["targets"]["updated"]) == (3, 3)


def test_a_first_revision_that_is_halted_keeps_nobody_off_a_new_deployment() -> None:
    web, log = failing()
    run(web, log)
    web.arrive(Deployment("app-new"))
    run(web, log)
    assert web["app-new"].revisions == {"log-a"}


def test_a_new_policy_that_is_paused_keeps_nobody_off_a_new_deployment() -> None:
    """It was put there to be looked at: nothing is another before it is resumed, and then everything in its turn."""
    log = World([established(f"app-{number}") for number in range(3)], TWO, policy=LOG, sidecar_name="proxy")
    log.run()
    web = World([], replace(TWO, paused=True), cluster=log.cluster, spec={"priority": 1})
    web.deployments = log.deployments
    run(web, log, 12)
    web.arrive(Deployment("app-new"))
    run(web, log, 12)
    assert web.settled().startswith("Paused")
    assert all(each.revisions == {"log-a"} for each in web.deployments)
    assert log.settled().startswith("RolloutComplete: 4 of 4")
    log.edit("log-b")
    run(web, log)
    assert log.settled().startswith("RolloutComplete: 4 of 4")
    written = writes(web)
    web.rollout = replace(web.rollout, paused=False)
    run(web, log)
    assert written == [{"web-a"}] * 4
    assert web.settled().startswith("RolloutComplete: 4 of 4")
    assert log.settled().startswith("AllSkipped")


def test_a_first_rollout_that_is_paused_half_way_keeps_nobody_off_where_it_is_not() -> None:
    web, log = failing()
    for each in web.deployments:
        each.breaks = frozenset()
    while "web-a" not in web.cluster.invariants.landed:
        run(web, log, 1)
    web.rollout = replace(web.rollout, paused=True)
    run(web, log, 12)
    there = {each.name: each.revisions for each in web.deployments}
    assert {"log-a"} in there.values() and {"web-a"} in there.values()
    web.arrive(Deployment("app-new"))
    run(web, log, 12)
    assert {each.name: each.revisions for each in web.deployments} == there | {"app-new": {"log-a"}}
    web.rollout = replace(web.rollout, paused=False)
    run(web, log)
    assert web.settled().startswith("RolloutComplete: 4 of 4")


def test_a_paused_policy_gains_what_it_had_everywhere_and_nothing_new() -> None:
    for proven, gained in ((True, {"log-a"}), (False, set[str]())):
        web, log = overridden(proven=proven)
        log.rollout = replace(log.rollout, paused=True)
        written = writes(web)
        web.delete()
        run(web, log)
        assert written == [gained] * 3


def relabelled(body: Json) -> Json:
    """*body* as its owner moves it to the other tier."""
    template = body["spec"]["template"]
    labels = {**template["metadata"]["labels"], "tier": "api"}
    moved = {**template, "metadata": {**template["metadata"], "labels": labels}}
    return {**body, "spec": {**body["spec"], "template": moved}}


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


def untrue_statuses(world: World) -> list[str]:
    """What is wrong, from now on, with each status as it is written that says Ready of the newest generation."""
    found: list[str] = []

    def note(change: Change) -> None:
        if change.resource not in POLICIES.values() or change.after is None:
            return
        status = at(change.after, "status")
        ready = [each for each in items(status, "conditions") if (each["type"], each["status"]) == ("Ready", "True")]
        if ready and status["observedGeneration"] == change.after["metadata"]["generation"]:
            found.extend(untrue(world.cluster.invariants, change.after))

    world.server.observers.append(note)
    return found


def hang_once(world: World, fault: Fault = Fault.TIMEOUT_BEFORE) -> None:
    """The next write of a Deployment takes thirty seconds, and no answer comes."""
    hung: list[Request] = []

    def rule(request: Request) -> Fault | None:
        if hung or not request.write or request.resource != DEPLOYMENTS:
            return None
        hung.append(request)
        return fault

    world.cluster.faults.rules.append(rule)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER])
def test_a_policy_that_is_deleted_while_its_first_step_is_written_leaves_nothing(fault: Fault) -> None:
    """It is kept until that is answered: what takes effect has to be taken out again."""
    web = World([established("app-01")], TENTH)
    hang_once(web, fault)
    web.cluster_tick()
    assert not web["app-01"].revision or fault is Fault.TIMEOUT_AFTER
    web.delete()
    web.cluster_tick()
    assert web.object is not None
    web.run()
    assert web.object is None
    assert not web["app-01"].record


def test_a_selector_that_is_edited_while_a_step_is_written_is_told_of() -> None:
    """The Deployment is in its fleet no more when the write ends, without any effect."""
    web = World([established("app-01")], TENTH)
    hang_once(web)
    web.cluster_tick()
    web["app-01"].selected = False
    web.run()
    assert web.status["observedGeneration"] == web.generation
    assert web.status["targets"]["matched"] == 0


def test_a_policy_that_is_new_or_edited_knows_what_another_one_is_writing() -> None:
    """Its fleet begins without the Deployment that is just being written, and must not be told as if that were all."""
    web = World([established("app-01")], TENTH)
    hang_once(web)
    web.cluster_tick()
    assert not web["app-01"].revision
    lies = untrue_statuses(web)
    log = World([], TENTH, policy=LOG, update="log-a", cluster=web.cluster)
    web.cluster_tick()
    assert log.status["targets"]["matched"] == 1
    run_both(web, log)
    hang_once(web)
    web.edit("web-b")
    web.cluster_tick()
    log.edit("log-b")
    run_both(web, log)
    assert lies == []


def test_what_is_edited_back_while_it_is_written_is_not_done() -> None:
    web = World([established("app-01", revision="web-a")], TENTH, current="web-a", update="web-a")
    web.run()
    client = web.operator.process.client
    sent: list[Request] = []

    def slowly(request: Request) -> None:
        is_step = bool(request.write) and request.resource == DEPLOYMENTS and not sent
        client.latency = 2.0 if is_step else 0.004
        sent.extend([request] if is_step else [])

    web.cluster.faults.rules.append(slowly)
    web.edit("web-b")
    for _ in range(20):
        web.cluster.loop.run_to(web.cluster.loop.now + 0.05)
        if sent:
            break
    web.edit("web-a")
    for _ in range(60):
        web.cluster.loop.run_to(web.cluster.loop.now + 0.05)
        if any(each.revision == "web-b" for each in web.moves):
            break
        if web.status["observedGeneration"] == web.generation:
            assert not web.settled().startswith(("RolloutComplete", "NoTargets")), "it is about to bear web-b"
    assert any(each.revision == "web-b" for each in web.moves)
    web.run()
    assert web.settled().startswith("RolloutComplete") and web["app-01"].revision == "web-a"


def test_a_policy_that_waits_for_a_rollout_of_another_one_says_where() -> None:
    """A rollout that is stuck there goes on until its controller gives up: whoever waits is told for what."""
    fleet = [established(f"app-{number}", revision="log-a") for number in range(2)]
    log = World(fleet, replace(TENTH, on_failure=OnFailure.HALT), policy=LOG, current="log-a", update="log-a")
    log.run()
    fleet[0].breaks = fleet[1].breaks = frozenset({"log-b"})
    log.edit("log-b")
    for _ in range(3):
        log.tick()
    web = World([], TENTH, cluster=log.cluster, spec={"priority": 1}, sidecar_name="log")
    run(log, web, 12)
    stuck = next(each for each in fleet if each.bears("log") == "log-b")
    assert web.settled().startswith("RollingOut: 1 of 2 workloads run web-a; 1 waiting; ")
    assert f"shop/{stuck.name} waits for another rollout there" in web.settled()


def three() -> tuple[World, World, World]:
    """The policies web, log and mon, of falling precedence. mon's sidecar has the name of log's, which is there."""
    web, log = sharing()
    log.spec.update(ON_DISK)
    mon = World([], TWO, policy=MON, update="mon-a", cluster=web.cluster, sidecar_name="log", spec={"priority": -1})
    run(web, log)
    assert mon.settled().startswith("AllSkipped: all 10 selected workloads are skipped: Overridden")
    return web, log, mon


def test_what_stays_of_a_policy_of_which_the_newest_revision_is_overridden_still_goes_before_others() -> None:
    web, log, mon = three()
    written = writes(web)
    log.spec.update(IN_MEMORY)
    log.write_policy()
    run(web, log)
    assert log.settled().startswith("AllSkipped") and "Overridden" in log.settled()
    assert mon.settled().startswith("AllSkipped")
    assert not written
    log.delete()
    run(web, log)
    assert mon.settled().startswith("RolloutComplete: 10 of 10")


def test_nobody_takes_the_place_of_what_is_overridden_before_it_has_gone() -> None:
    """web begins to claim what log has; until that has arrived log's sidecar stays, and mon's has its name."""
    web, log, mon = three()
    web.spec.update(IN_MEMORY)
    web.write_policy()
    run(web, log)
    assert log.settled().startswith("AllSkipped")
    assert mon.settled().startswith("RolloutComplete: 10 of 10")
    assert all(each.bears("mon") and not each.bears("log") for each in web.deployments)
