"""What authors and owners do in histories, and what happens to Deployments without anybody's fault."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES
from sidecarpolicy.names import OnFailure
from tests.simulation.controllers import IMAGES
from tests.simulation.deeds import Acts, Deed
from tests.simulation.invariants import FLEET
from tests.simulation.stories import Deployment

if TYPE_CHECKING:
    from tests.simulation.playing import Play

author = Acts()
"""They need a policy that is there and is not being deleted."""

anybody = Acts()
"""They need nothing."""

owner = Acts()
"""They need a Deployment."""

rivals = Acts()
"""One of two policies with a sidecar of one name comes or goes; only where there are two such."""

beside_us = Acts()
"""They need a Deployment; what comes of them is no failure of ours, and can be told from one."""

LONG_TICKS = 60


# The author


@author("the author writes the next revision", weight=4)
def _next(play: Play, _: Deed) -> None:
    play.world.edit(play.next_revision())


@author("the author goes back to what was completed")
def _back(play: Play, _: Deed) -> None:
    if play.world.current:
        play.world.edit(play.world.current)


@author("the author pauses it")
def _pause(play: Play, _: Deed) -> None:
    play.world.rollout = replace(play.world.rollout, paused=True)


@author("the author unpauses it", weight=2)
def _unpause(play: Play, _: Deed) -> None:
    play.world.rollout = replace(play.world.rollout, paused=False)


@author("the author resumes it", weight=2)
def _resume(play: Play, _: Deed) -> None:
    play.world.resume()


@author("the author sets onFailure: Halt")
def _halt(play: Play, _: Deed) -> None:
    play.world.rollout = replace(play.world.rollout, on_failure=OnFailure.HALT)


@author("the author sets onFailure: Rollback")
def _rollback(play: Play, _: Deed) -> None:
    play.world.rollout = replace(play.world.rollout, on_failure=OnFailure.ROLLBACK)


@author("the author allows two failures")
def _allow(play: Play, _: Deed) -> None:
    play.world.rollout = replace(play.world.rollout, max_failures=2)


@author("the author lets one go at a time")
def _one_at_a_time(play: Play, _: Deed) -> None:
    play.world.rollout = replace(play.world.rollout, max_concurrent=1)


@author("the author approves", weight=2)
def _approve(play: Play, _: Deed) -> None:
    play.approve(play.world)


@author("the author narrows the selector by one")
def _narrow(play: Play, deed: Deed) -> None:
    if play.world.deployments:
        play.one(deed).selected = False


@author("the author selects all again")
def _widen(play: Play, _: Deed) -> None:
    for each in play.world.deployments:
        if not each.selected:
            each.selected = True


@author("the author keeps no history")
def _no_history(play: Play, _: Deed) -> None:
    play.world.spec["revisionHistoryLimit"] = 0
    play.world.write_policy()


@author("the author deletes the policy")
def _delete(play: Play, _: Deed) -> None:
    play.torn += 1
    play.world.delete()


@author("the author deletes the policy and leaves the sidecars to their owners")
def _orphan(play: Play, _: Deed) -> None:
    play.torn += 1
    play.orphaned = True
    play.world.spec["deletionPolicy"] = "Orphan"
    play.world.write_policy()
    play.world.delete()


@anybody("the author creates the policy again", weight=2)
def _create(play: Play, _: Deed) -> None:
    play.create_again()


@anybody("the other author writes the next revision")
def _other_next(play: Play, _: Deed) -> None:
    for each in play.others:
        each.edit(f"log-{chr(ord(each.update[-1]) + 1)}")


@anybody("somebody stops everything")
def _stop(play: Play, _: Deed) -> None:
    play.world.stopped = True


@anybody("somebody lets it go on", weight=2)
def _go_on(play: Play, _: Deed) -> None:
    play.world.stopped = False


# Two authors


@rivals("one author of two deletes the policy", weight=2)
def _give_way(play: Play, _: Deed) -> None:
    if not play.world.deleting:
        play.torn += 1
        play.world.delete()


@rivals("one author of two creates the policy again")
def _come_back(play: Play, _: Deed) -> None:
    play.create_again()


@rivals("one author of two leaves one Deployment to the other")
def _leave_one(play: Play, deed: Deed) -> None:
    if play.world.deployments and not play.world.deleting:
        play.one(deed).selected = False


@rivals("the other author of two deletes the policy", weight=2)
def _other_gives_way(play: Play, _: Deed) -> None:
    for each in play.others:
        if not each.deleting:
            each.delete()


@rivals("the other author of two creates the policy again")
def _other_comes_back(play: Play, _: Deed) -> None:
    for each in play.others:
        if each.object is None and each.policy.namespace not in play.going:
            each.create_policy()


# Owners


@anybody("a new Deployment arrives")
def _arrive(play: Play, deed: Deed) -> None:
    play.arrived += 1
    namespace = play.namespaces[deed.number % len(play.namespaces)]
    if at(play.world.server.find(NAMESPACES, "", namespace), "metadata").get("deletionTimestamp"):
        return
    play.world.arrive(Deployment(f"new-{play.arrived}", namespace=namespace, ticks=1 + deed.number % 3))


@anybody("a namespace is deleted, and comes back")
def _namespace_goes(play: Play, deed: Deed) -> None:
    world, name = play.world, play.namespaces[deed.number % len(play.namespaces)]
    if name in play.going:
        return
    play.torn += 1
    play.going.add(name)
    left = [each for each in world.deployments if each.namespace == name]
    for each in left:
        world.deployments.remove(each)
    world.server.delete(NAMESPACES, "", name)

    def comes_back() -> None:
        if world.server.find(NAMESPACES, "", name) is not None:
            assert play.tick < deed.tick + LONG_TICKS, f"namespace {name} does not end"
            play.later(play.tick + 1, comes_back)
            return
        play.going.discard(name)
        world.cluster.ensure_namespace(name)
        for each in play.worlds:
            if each.policy.namespace == name and each.object is None:
                each.create_policy()
        world.arrive(*map(play.anew, left))

    play.later(deed.tick + 1, comes_back)


@owner("an owner changes their image")
def _hotfix(play: Play, deed: Deed) -> None:
    play.one(deed).hotfix()


@owner("an owner applies their manifest from the server's side")
def _apply(play: Play, deed: Deed) -> None:
    one = play.one(deed)
    metadata = {"name": one.name, "namespace": one.namespace, "labels": {"applied": "true"}}
    body = one.body["spec"]
    containers = [{"name": "app", "image": f"{IMAGES}app:{one.version + deed.number % 2}"}]
    template = {"metadata": {"labels": body["template"]["metadata"]["labels"]}, "spec": {"containers": containers}}
    spec = {"selector": body["selector"], "template": template}
    play.world.server.apply(DEPLOYMENTS, one.namespace, {"metadata": metadata, "spec": spec}, manager="argocd")


@owner("an owner ships a bad image")
def _bad_image(play: Play, deed: Deed) -> None:
    one = play.one(deed)
    one.bad_versions = frozenset({one.version + 1})
    one.hotfix()


@owner("an owner scales to nothing")
def _to_nothing(play: Play, deed: Deed) -> None:
    play.one(deed).scale(0)


@owner("an owner scales to three")
def _to_three(play: Play, deed: Deed) -> None:
    play.one(deed).scale(3)


@owner("an autoscaler moves one up and down")
def _autoscaler(play: Play, deed: Deed) -> None:
    one, ends = play.one(deed), deed.tick + 6

    def move() -> None:
        if one in play.world.deployments and play.tick < ends:
            one.scale(1 + (play.tick + deed.number) % 4)
            play.later(play.tick + 1, move)

    move()


@owner("an owner deletes a Deployment")
def _leave(play: Play, deed: Deed) -> None:
    play.world.leave(play.one(deed))


@owner("an owner deletes a Deployment in the foreground")
def _foreground(play: Play, deed: Deed) -> None:
    one, server = play.one(deed), play.world.server
    one.edit(lambda body: {**body, "metadata": {**body["metadata"], "finalizers": ["foregroundDeletion"]}})
    uid = one.body["metadata"]["uid"]
    play.world.leave(one)

    def let_go() -> None:
        found = server.find(DEPLOYMENTS, *one.place)
        if found is not None and found["metadata"]["uid"] == uid and "deletionTimestamp" in found["metadata"]:
            metadata = {key: value for key, value in found["metadata"].items() if key != "finalizers"}
            server.update(DEPLOYMENTS, found, {**found, "metadata": metadata})

    play.later(deed.tick + 1 + deed.number % 4, let_go)


@owner("an owner deletes a Deployment and creates it anew")
def _anew(play: Play, deed: Deed) -> None:
    one = play.one(deed)
    play.world.leave(one)
    play.world.arrive(play.anew(one))


@owner("an owner restores a Deployment from a backup")
def _from_backup(play: Play, deed: Deed) -> None:
    """With the sidecars and the record that it had."""
    one = play.one(deed)
    body, restored = one.body, play.anew(one)
    play.world.leave(one)
    metadata = {key: body["metadata"][key] for key in ("name", "labels", "annotations") if key in body["metadata"]}
    play.world.controllers.behaviours[restored.place] = restored.behaviour
    play.world.server.create(DEPLOYMENTS, one.namespace, {"metadata": metadata, "spec": body["spec"]})
    play.world.arrive(restored)


@owner("an owner wipes the sidecars")
def _wipe(play: Play, deed: Deed) -> None:
    play.one(deed).edit(without_inits)


@owner("an owner wipes the record")
def _wipe_record(play: Play, deed: Deed) -> None:
    play.one(deed).annotate(names.RECORD, None)


@owner("an owner opts out")
def _opt_out(play: Play, deed: Deed) -> None:
    play.one(deed).label(names.INJECT, "false")


@owner("an owner opts in again")
def _opt_in(play: Play, deed: Deed) -> None:
    for each in play.world.deployments:
        if at(each.body, "metadata", "labels").get(names.INJECT) == "false":
            each.label(names.INJECT, None)


@owner("an owner pins what they have")
def _pin(play: Play, deed: Deed) -> None:
    one = play.one(deed)
    if not play.cluster_wide and one.revision is not None:
        one.pinned_to = one.revision


@owner("owners pin nothing any more")
def _unpin(play: Play, _: Deed) -> None:
    for each in play.world.deployments:
        if each.pinned_to is not None:
            each.pinned_to = None


@owner("an owner takes the label away that selects it")
def _leave_selection(play: Play, deed: Deed) -> None:
    play.one(deed).leave_selection()


@owner("an owner puts the label back that selects it")
def _enter_selection(play: Play, deed: Deed) -> None:
    play.one(deed).edit(_with_label)


@owner("an owner pauses the Deployment")
def _pause_deployment(play: Play, deed: Deed) -> None:
    one = play.one(deed)

    def go_on() -> None:
        if one in play.world.deployments:
            one.edit(unpaused)

    one.edit(lambda body: {**body, "spec": {**body["spec"], "paused": True}})
    play.later(deed.tick + 2 + deed.number, go_on)


@owner("a node is lost")
def _lose_a_node(play: Play, deed: Deed) -> None:
    if play.one(deed).complete:
        play.one(deed).lose_a_node()


@beside_us("a node is drained, and Pods start elsewhere")
def _drain(play: Play, deed: Deed) -> None:
    one = play.one(deed)
    if not (one.complete and one.healthy and one.replicas):
        return
    one.starting = True
    one.lose_a_node()

    def started() -> None:
        one.starting = False
        if one in play.world.deployments:
            play.world.controllers.recover(one.body)

    play.later(deed.tick + 2, started)


@beside_us("an owner ships a bad image in a rollout of its own")
def _bad_image_apart(play: Play, deed: Deed) -> None:
    if play.world.controllers.has_begun(play.one(deed).body):
        _bad_image(play, deed)


def without_inits(body: Json) -> Json:
    template = body["spec"]["template"]
    pod = {key: value for key, value in template["spec"].items() if key != "initContainers"}
    return {**body, "spec": {**body["spec"], "template": {**template, "spec": pod}}}


def _with_label(body: Json) -> Json:
    metadata = body["spec"]["template"]["metadata"]
    template = {**body["spec"]["template"], "metadata": {**metadata, "labels": {**metadata["labels"], **FLEET}}}
    return {**body, "spec": {**body["spec"], "template": template}}


def unpaused(body: Json) -> Json:
    return {**body, "spec": {key: value for key, value in body["spec"].items() if key != "paused"}}
