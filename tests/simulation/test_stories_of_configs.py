"""Stories of ConfigMaps and Secrets that change: Pods restart for it as safely as for any new revision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.claims import LAST_APPLIED
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.record import parse
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import CONFIG_MAPS, DEPLOYMENTS, REVISIONS, SECRETS
from sidecarpolicy.names import DeletionPolicy, OnFailure, Removal, Strategy
from tests.simulation.faults import Fault, Request
from tests.simulation.fleets import EVERYWHERE, FIRST, TENTH, a_world, everywhere, tell, thirty, ticks, versions
from tests.simulation.server import Change
from tests.simulation.stories import Deployment, World, established

SHOP = "shop"
LOG = PolicyId(kind=names.POLICY, namespace=SHOP, name="log")
CONFIG: Json = {"restartOn": {"configMaps": ["otel"]}}
GOES_BACK = replace(TENTH, on_failure=OnFailure.ROLLBACK)


def write(world: World, content: str, *, namespace: str = SHOP, resource: object = CONFIG_MAPS) -> None:
    """Somebody writes the object `otel`."""
    assert resource in (CONFIG_MAPS, SECRETS)
    before = world.server.find(resource, namespace, "otel")
    if before is None:
        world.server.create(resource, namespace, {"metadata": {"name": "otel"}, "data": {"a": content}})
    else:
        world.server.update(resource, before, {**before, "data": {"a": content}})


def a_running_world(rollout: Rollout = TENTH, *, spec: Json = CONFIG, **fields: object) -> World:
    """Thirty Deployments that all run web-a, and have read the ConfigMap."""
    world = World(thirty(revision="web-a"), rollout, current="web-a", spec=spec, **fields)  # type: ignore[arg-type]
    write(world, "1")
    world.run()
    assert world.settled().startswith("RolloutComplete")
    return world


def restarts(world: World) -> dict[str, str]:
    """What each Pod template says of restarts for its configuration."""
    templates: dict[str, Json] = {each.name: each.body["spec"]["template"] for each in world.deployments}
    return {name: at(each, "metadata", "annotations").get(names.CONFIG, "") for name, each in templates.items()}


def restarted(world: World) -> int:
    """How many Pod templates tell of one."""
    return sum(bool(each) for each in restarts(world).values())


def hashes(world: World, name: str) -> Mapping[str, str]:
    """What the record of one has of the ConfigMap."""
    entry = parse(world[name].record).entries[world.policy]
    return {each.key: value for each, value in entry.config.hashes}


def run_counting(world: World, number: int = 200) -> int:
    """Let the world come to rest; return the most Deployments that were on their way at a time."""
    most = 0
    for _ in range(number):
        world.tick()
        most = max(most, sum(not each.complete for each in world.deployments))
    return most


def told(world: World, reason: str) -> list[str]:
    """What Events of that reason say of the policy."""
    return [
        each.message for each in world.operator.told if each.reason == reason and each.about.kind == world.policy.kind
    ]


def start_again(world: World) -> None:
    """The operator ends in the midst of whatever it does, and another process takes over."""
    world.operator.crash()
    world.operator.start()


def test_naming_a_config_map_restarts_nothing() -> None:
    world = a_running_world()
    assert restarted(world) == 0
    assert set(versions(world).values()) == {1}
    assert len({tuple(hashes(world, each.name).items()) for each in world.deployments}) == 1


def test_an_edit_restarts_every_deployment_once_within_the_budget_and_one_first() -> None:
    world = a_running_world()
    before = versions(world)
    write(world, "2")
    world.tick()
    assert restarted(world) == 1, "one first"
    assert "ConfigMap otel changed in namespace shop" in world.settled()
    assert run_counting(world) == 3
    assert restarted(world) == 30
    assert versions(world) == {name: number + 1 for name, number in before.items()}
    assert everywhere(world, "web-a")
    assert world.settled().startswith("RolloutComplete")
    assert told(world, "ConfigChanged") == [
        "ConfigMap otel changed in namespace shop: 30 workloads restart within the budget"
    ]


def test_a_second_edit_restarts_once_more_and_a_deleted_policy_leaves_no_trace() -> None:
    world = a_running_world()
    for number, content in enumerate(("2", "3"), start=1):
        write(world, content)
        run_counting(world)
        assert set(versions(world).values()) == {1 + number}
        assert len(set(restarts(world).values())) == 1
    world.delete()
    world.run()
    assert restarted(world) == 0
    assert not any(each.record for each in world.deployments)


@pytest.mark.parametrize("tick", range(1, 6))
def test_an_operator_that_starts_again_at_any_point_restarts_nothing_more(tick: int) -> None:
    world = a_running_world()
    write(world, "2")
    for _ in range(tick):
        world.tick()
    since = [each["metadata"]["annotations"].get(names.CONFIG_SINCE) for each in world.server.every(REVISIONS)]
    start_again(world)
    world.tick()
    assert since == [
        each["metadata"]["annotations"].get(names.CONFIG_SINCE) for each in world.server.every(REVISIONS)
    ], "who has gone first is still known"
    assert run_counting(world) <= 3
    assert set(versions(world).values()) == {2}
    assert world.settled().startswith("RolloutComplete")


def test_content_that_breaks_the_first_goes_back_and_restarts_no_other_until_it_is_edited() -> None:
    world = a_running_world(GOES_BACK)
    world[FIRST].breaks = frozenset({"web-a"})
    write(world, "2")
    run_counting(world)
    assert restarted(world) == 0, "back to the template it had"
    settled = world.settled()
    assert settled.startswith("RolledBack")
    assert "edit what the policy injects or ConfigMap otel in namespace shop" in settled
    assert len([number for number in versions(world).values() if number > 1]) == 1
    start_again(world)
    run_counting(world, 40)
    assert restarted(world) == 0, "a halt outlives the operator"
    world[FIRST].breaks = frozenset()
    write(world, "3")
    run_counting(world)
    assert restarted(world) == 30
    assert world.settled().startswith("RolloutComplete")


def test_content_that_is_edited_back_while_it_is_rolled_out_brings_the_old_templates_back() -> None:
    world = a_running_world()
    write(world, "2")
    for _ in range(8):
        world.tick()
    assert 0 < restarted(world) < 30
    write(world, "1")
    run_counting(world)
    assert restarted(world) == 0
    assert world.settled().startswith("RolloutComplete")


def test_content_that_is_edited_while_it_is_rolled_out_reaches_everybody() -> None:
    world = a_running_world()
    write(world, "2")
    for _ in range(8):
        world.tick()
    write(world, "3")
    assert run_counting(world) <= 3
    assert len({tuple(hashes(world, each.name).items()) for each in world.deployments}) == 1
    assert max(versions(world).values()) <= 3
    assert world.settled().startswith("RolloutComplete")


def test_a_deleted_config_map_restarts_nothing_and_one_made_anew_only_with_other_content() -> None:
    world = a_running_world()
    world.server.delete(CONFIG_MAPS, SHOP, "otel")
    run_counting(world, 20)
    write(world, "1")
    run_counting(world, 20)
    assert set(versions(world).values()) == {1}
    world.server.delete(CONFIG_MAPS, SHOP, "otel")
    write(world, "2")
    run_counting(world)
    assert set(versions(world).values()) == {2}


def test_a_config_map_that_comes_later_restarts_nothing_before_it_changes() -> None:
    world = World(thirty(revision="web-a"), TENTH, current="web-a", spec=CONFIG)
    world.run()
    assert world.settled().startswith("RolloutComplete")
    assert any(each["reason"] == "ConfigNotFound" for each in items(world.status, "warnings"))
    write(world, "1")
    run_counting(world, 20)
    assert set(versions(world).values()) == {1}
    assert not any(each["reason"] == "ConfigNotFound" for each in items(world.status, "warnings"))
    write(world, "2")
    run_counting(world)
    assert set(versions(world).values()) == {2}


def test_a_paused_policy_restarts_when_it_is_resumed() -> None:
    world = a_running_world()
    world.rollout = replace(TENTH, paused=True)
    write(world, "2")
    run_counting(world, 20)
    assert restarted(world) == 0
    world.rollout = TENTH
    run_counting(world)
    assert restarted(world) == 30


def test_a_new_deployment_has_the_content_of_now_and_is_not_restarted_for_it() -> None:
    world = a_running_world()
    write(world, "2")
    run_counting(world)
    world.arrive(Deployment("late"))
    run_counting(world, 30)
    assert hashes(world, "late") == hashes(world, "app-01")
    assert restarts(world)["late"] == ""
    assert versions(world)["late"] <= 2, "its own template, and the one with the sidecar"


def test_a_cluster_policy_restarts_only_where_it_changed() -> None:
    fleet = [
        established(f"{space}-{number}", revision="web-a", namespace=space) for space in "ab" for number in range(5)
    ]
    world = a_world(fleet, TENTH, current="web-a", policy=EVERYWHERE, spec=CONFIG)
    for space in "ab":
        write(world, "1", namespace=space)
    world.run()
    write(world, "2", namespace="b")
    run_counting(world)
    assert {name for name, text in restarts(world).items() if text} == {f"b-{number}" for number in range(5)}
    assert world.settled().startswith("RolloutComplete")


def test_one_goes_first_where_many_namespaces_change_at_once() -> None:
    fleet = [established(f"{space}-0", revision="web-a", namespace=space) for space in "abcdefgh"]
    rollout = replace(GOES_BACK, max_concurrent=8)
    world = a_world(fleet, rollout, current="web-a", policy=EVERYWHERE, spec=CONFIG)
    for space in "abcdefgh":
        write(world, "1", namespace=space)
    world.run()
    for each in world.deployments:
        each.breaks = frozenset({"web-a"})
    for space in "abcdefgh":
        write(world, "2", namespace=space)
    run_counting(world)
    assert len([number for number in versions(world).values() if number > 1]) == 1
    assert world.settled().startswith("RolledBack")


def test_a_policy_that_names_nothing_any_more_restarts_nothing() -> None:
    world = a_running_world()
    write(world, "2")
    run_counting(world)
    world.spec = {}
    world.write_policy()
    run_counting(world, 20)
    write(world, "3")
    run_counting(world, 20)
    assert set(versions(world).values()) == {2}
    assert restarted(world) == 30, "to take it away would restart them"
    world.edit("web-b")
    run_counting(world)
    assert restarted(world) == 0, "it goes with the next revision"


def test_removal_that_waits_for_approval_leaves_the_templates_as_they_are() -> None:
    world = a_running_world(replace(TENTH, removal=Removal.MANUAL))
    write(world, "2")
    run_counting(world)
    before = versions(world)
    world.delete()
    run_counting(world, 20)
    assert restarted(world) == 30
    assert versions(world) == before
    world.approve(world.status["awaiting"][0])
    world.run()
    assert restarted(world) == 0


def test_owners_who_wait_get_it_with_their_next_change() -> None:
    world = a_running_world(replace(TENTH, strategy=Strategy.ON_NEXT_CHANGE))
    write(world, "2")
    run_counting(world, 20)
    assert restarted(world) == 0


def test_an_orphaned_deployment_keeps_its_template() -> None:
    world = a_running_world(spec={**CONFIG, "deletionPolicy": DeletionPolicy.ORPHAN.value})
    write(world, "2")
    run_counting(world)
    before = versions(world)
    world.delete()
    run_counting(world, 20)
    assert versions(world) == before


def test_an_edit_that_breaks_one_is_told_as_a_story() -> None:
    deployments = [established(f"app-{number:02}", revision="web-a") for number in range(1, 13)]
    world = World(deployments, replace(GOES_BACK, max_concurrent=3), current="web-a", spec=CONFIG)
    write(world, "1")
    world.run()
    write(world, "2")
    world.run()
    for each in deployments:
        each.breaks = frozenset({"web-a"})
    write(world, "3")
    world.run()
    tell(world, "config-map-edited")


def test_two_policies_that_name_one_object_restart_one_after_the_other() -> None:
    deployments = [established(f"app-{number:02}", revision="web-a") for number in range(4)]
    web = World(deployments, replace(TENTH, max_concurrent=4), current="web-a", spec=CONFIG)
    log = World([], replace(TENTH, max_concurrent=4), policy=LOG, update="log-a", cluster=web.cluster, spec=CONFIG)
    write(web, "1")

    def run_both() -> None:
        for _ in range(60):
            web.cluster_tick()
            moved = [each.deployment for each in (*web.note(), *log.note())]
            assert len(moved) == len(set(moved)), "each rollout is one policy's"

    run_both()
    before = versions(web)
    assert restarted(web) == 0
    write(web, "2")
    run_both()
    assert all(text.count("@") == 2 for text in restarts(web).values())
    assert versions(web) == {name: number + 2 for name, number in before.items()}
    assert all(world.settled().startswith("RolloutComplete") for world in (web, log))


def a_running_cluster(rollout: Rollout, fleet: list[Deployment], spaces: str) -> World:
    """Deployments in several namespaces that all run web-a, and have read their own ConfigMap."""
    world = a_world(fleet, rollout, current="web-a", policy=EVERYWHERE, spec=CONFIG)
    for space in spaces:
        write(world, "1", namespace=space)
    world.run()
    assert world.settled().startswith("RolloutComplete")
    return world


def break_all(world: World, *, broken: bool = True) -> None:
    """Let no Pod come up that starts from now on, or all."""
    for each in world.deployments:
        each.breaks = frozenset({"web-a"} if broken else ())


def since(world: World) -> list[str]:
    """Since when workloads restart, where that is written down."""
    found = [at(each, "metadata", "annotations").get(names.CONFIG_SINCE) for each in world.server.every(REVISIONS)]
    return [each for each in found if each]


@pytest.mark.parametrize("on_failure", [OnFailure.ROLLBACK, OnFailure.HALT])
def test_one_goes_first_again_after_a_failure_within_max_failures(on_failure: OnFailure) -> None:
    fleet = [established(f"a-{number}", revision="web-a", namespace="a") for number in range(3)]
    fleet += [established(f"{space}-0", revision="web-a", namespace=space) for space in "bcdefgh"]
    rollout = replace(TENTH, on_failure=on_failure, max_concurrent=8, max_failures=1, progress_deadline_seconds=60)
    world = a_running_cluster(rollout, fleet, "abcdefgh")
    world["a-1"].breaks = frozenset({"web-a"})
    write(world, "2", namespace="a")
    for _ in range(60):
        world.tick()
        if world["a-1"].note.failed:
            world["a-1"].breaks = frozenset()
    run_counting(world, 60)
    assert "a-1" in world.settled()
    if on_failure is OnFailure.ROLLBACK:
        assert since(world) == []
    break_all(world)
    before = versions(world)
    for space in "bcdefgh":
        write(world, "2", namespace=space)
    run_counting(world, 60)
    assert sum(versions(world)[f"{space}-0"] > before[f"{space}-0"] for space in "bcdefgh") == 1


def test_one_that_waits_for_its_owner_keeps_no_namespace_from_having_one_first() -> None:
    fleet = [established(f"{space}-0", revision="web-a", namespace=space) for space in "abcdefgh"]
    fleet.append(established("a-1", revision="web-a", namespace="a"))
    world = a_running_cluster(replace(GOES_BACK, max_concurrent=8), fleet, "abcdefgh")
    world["a-1"].breaks = frozenset({"web-a"})
    world["a-1"].hotfix()
    world.tick()
    write(world, "2", namespace="a")
    run_counting(world, 40)
    assert restarts(world)["a-0"] and not restarts(world)["a-1"]
    assert since(world) == []
    break_all(world)
    before = versions(world)
    for space in "bcdefgh":
        write(world, "2", namespace=space)
    run_counting(world, 20)
    assert sum(versions(world)[f"{space}-0"] > before[f"{space}-0"] for space in "bcdefgh") == 1


def test_a_rollback_that_cannot_complete_keeps_no_other_namespace_waiting() -> None:
    fleet = [established(f"{space}-0", revision="web-a", namespace=space, replicas=4) for space in "abcdefgh"]
    rollout = replace(GOES_BACK, max_concurrent=8, max_failures=1, progress_deadline_seconds=60)
    world = a_running_cluster(rollout, fleet, "abcdefgh")
    world["a-0"].breaks = frozenset({"web-a"})
    write(world, "2", namespace="a")
    run_counting(world, 60)
    assert world["a-0"].note.failed and not world["a-0"].complete
    for space in "bcdefgh":
        write(world, "2", namespace=space)
    run_counting(world)
    assert restarted(world) == 7


def test_content_that_is_edited_back_after_a_halt_ends_it_for_good() -> None:
    fleet = [established(f"app-{number}", revision="web-a", replicas=4) for number in range(3)]
    rollout = replace(GOES_BACK, min_ready_seconds=10, progress_deadline_seconds=60)
    world = World(fleet, rollout, current="web-a", spec=CONFIG)
    write(world, "1")
    world.run()
    break_all(world)
    write(world, "2")
    run_counting(world, 120)
    assert world.settled().startswith("RolledBack")
    write(world, "1")
    for _ in range(4):
        world.tick()
    break_all(world, broken=False)
    run_counting(world, 60)
    assert world.settled().startswith("RolloutComplete")
    assert len(told(world, "RolloutHalted")) == 1
    write(world, "3")
    run_counting(world)
    assert restarted(world) == 3


def test_a_secret_that_changes_beside_it_ends_no_halt_that_a_config_map_brought() -> None:
    both: Json = {"restartOn": {"configMaps": ["otel"], "secrets": ["otel"]}}
    world = World(thirty(revision="web-a"), GOES_BACK, current="web-a", spec=both)
    write(world, "1")
    write(world, "1", resource=SECRETS)
    world.run()
    break_all(world)
    write(world, "2")
    run_counting(world)
    assert world.settled().startswith("RolledBack")
    assert "ConfigMap otel in namespace shop" in world.settled()
    write(world, "2", resource=SECRETS)
    run_counting(world, 40)
    assert len(told(world, "RolloutHalted")) == 1
    assert world.settled().startswith("RolledBack")
    break_all(world, broken=False)
    write(world, "3")
    run_counting(world)
    assert restarted(world) == 30


def test_deployments_whose_records_are_applied_from_a_file_are_told_to_restart_for_nothing() -> None:
    world = a_running_world()
    for name in ("app-01", "app-02"):
        body = world[name].body
        applied = json.dumps({"metadata": {"annotations": {names.RECORD: world[name].record}}})
        annotations = body["metadata"]["annotations"] | {LAST_APPLIED: applied}
        world.server.update(DEPLOYMENTS, body, {**body, "metadata": body["metadata"] | {"annotations": annotations}})
    write(world, "2")
    run_counting(world)
    assert restarted(world) == 28
    (warning,) = [each for each in items(world.status, "warnings") if each["reason"] == "ConfigNotNoted"]
    assert "2 Deployments do not restart when a configuration changes" in warning["message"]


SIXTEEN = [f"otel-{number}" for number in range(16)]
HOUR = 360  # ticks


class Refusals:
    """Requests for ConfigMaps with one of *verbs*, refused while *wanting*; *at*: when each came (by the loop)."""

    def __init__(self, world: World, *verbs: str, wanting: bool = True) -> None:
        self.verbs, self.wanting = verbs, wanting
        self.at: list[float] = []
        world.cluster.faults.rules.append(self)

    def __call__(self, request: Request) -> Fault | None:
        if not self.wanting or request.resource != CONFIG_MAPS or request.verb not in self.verbs:
            return None
        self.at.append(request.at)
        return Fault.FORBIDDEN


def naming_sixteen() -> World:
    """Five Deployments under a policy that names so many ConfigMaps, all of which are there."""
    fleet = [established(f"app-{number}", revision="web-a") for number in range(5)]
    world = World(fleet, TENTH, current="web-a", spec={"restartOn": {"configMaps": SIXTEEN}})
    for name in SIXTEEN:
        world.server.create(CONFIG_MAPS, SHOP, {"metadata": {"name": name}, "data": {"a": "1"}})
    return world


def cut_watches(world: World) -> None:
    """End every watch of the operator."""
    assert world.operator.process is not None
    world.operator.process.client.cut()


def unreadable(world: World) -> bool:
    """Whether the status tells that the operator may not read what the policy names."""
    return any(each["reason"] == "ConfigUnreadable" for each in items(world.status, "warnings"))


def test_what_comes_while_a_record_is_written_is_recorded_as_well() -> None:
    world = a_running_world(spec={"restartOn": {"configMaps": ["otel", "late"]}})
    late: Json = {"metadata": {"name": "late"}, "data": {"a": "1"}}

    def comes(change: Change) -> None:
        if change.resource == DEPLOYMENTS and change.manager == names.FIELD_MANAGER and not came:
            came.append(world.server.create(CONFIG_MAPS, SHOP, late))

    came: list[Json] = []
    world.server.observers.append(comes)
    write(world, "2")
    run_counting(world)
    assert came
    assert [len(hashes(world, each.name)) for each in world.deployments] == [2] * 30


@pytest.mark.parametrize("verbs", [("list", "watch"), ("watch",)])
def test_a_right_that_is_wanting_is_asked_for_by_one_of_all_names_and_ever_more_rarely(verbs: tuple[str, ...]) -> None:
    world = naming_sixteen()
    refusals = Refusals(world, *verbs)
    ticks(world, HOUR)
    assert unreadable(world)
    begin = refusals.at[0]
    later = [at for at in refusals.at if at > begin + 60]
    assert len(refusals.at) - len(later) < 6 * len(SIXTEEN)
    assert 5 <= len(later) <= 20
    assert len([at for at in later if at > begin + 1800]) <= 6, "one every ten minutes, and the one after it"
    refusals.wanting = False
    ticks(world, 65)
    assert not unreadable(world)
    if "list" in verbs:
        assert all(len(hashes(world, each.name)) == len(SIXTEEN) for each in world.deployments)
    before = world.server.get(CONFIG_MAPS, SHOP, SIXTEEN[-1])
    world.server.update(CONFIG_MAPS, before, {**before, "data": {"a": "2"}})
    run_counting(world)
    assert restarted(world) == 5


def test_a_right_that_is_taken_away_is_asked_for_ever_more_rarely_and_what_was_read_stays() -> None:
    world = naming_sixteen()
    world.run()
    refusals = Refusals(world, "list", "watch")
    cut_watches(world)
    ticks(world, HOUR)
    begin = refusals.at[0]
    assert 5 <= len([at for at in refusals.at if at > begin + 60]) <= 20
    assert unreadable(world)
    assert all(len(hashes(world, each.name)) == len(SIXTEEN) for each in world.deployments)
    refusals.wanting = False
    ticks(world, 65)
    assert not unreadable(world)
    assert restarted(world) == 0
