"""The verbs of the command line on a real API server, with the operator at work behind it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import localcluster
from sidecarpolicy import __version__, names
from sidecarpolicy.cli.cluster import Cluster
from sidecarpolicy.cli.main import main
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.engine.port import NotFound, Resource
from tests.api.conftest import Command
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_proxy, a_sidecar, carts
from tests.conftest import OPERATOR_NAMESPACE
from tests.core.objects import a_record
from tests.fleet import Fleet, image_of, traces
from tests.polling import poll

MAJOR, MINOR = (int(part) for part in __version__.split(".")[:2])
HUGE = {"resources": {"requests": {"cpu": "100000"}}}


def policy_of(fleet: Fleet) -> Manifest:
    """The policy `web`, with managedFields."""
    found: Manifest = json.loads(
        fleet.kubectl("get", "sidecarpolicy", "web", "--output=json", "--show-managed-fields").stdout
    )
    return found


def fields_of_the_cli(body: Manifest) -> Manifest:
    """What the command line owns of *body*, by its managedFields."""
    found: Manifest = {}
    for entry in body["metadata"]["managedFields"]:
        if entry["manager"] == names.CLI_FIELD_MANAGER:
            assert entry["operation"] == "Update"
            found |= entry["fieldsV1"]
    return found


def tags(fleet: Fleet) -> set[str]:
    return {image_of(each, "proxy").rpartition(":")[2] for each in fleet.deployments().values()}


def test_what_is_paused_waits_and_what_is_resumed_goes_on(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    dry = verb("pause", "web", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "sidecarpolicy.sidecars.dev/web paused (server dry run)\n")
    assert policy_of(fleet)["spec"]["rollout"]["paused"] is False
    assert verb("pause", "sidepol/web").stdout == "sidecarpolicy.sidecars.dev/web paused\n"
    assert verb("pause", "web").stdout == "sidecarpolicy.sidecars.dev/web already paused\n"
    assert fields_of_the_cli(policy_of(fleet)) == {"f:spec": {"f:rollout": {"f:paused": {}}}}
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"paused": True}))
    fleet.wait("Paused")
    waiting = verb("status", "web")
    assert waiting.exit_code == 3
    assert "Paused" in waiting.stdout
    assert "spec.rollout.paused is true" in waiting.stdout
    resumed = verb("resume", "web")
    assert resumed.stdout == "sidecarpolicy.sidecars.dev/web rollout resumed (spec.rollout.paused is false)\n"
    fleet.wait("RolloutComplete")
    assert tags(fleet) == {"2"}
    assert verb("resume", "web").stdout == "sidecarpolicy.sidecars.dev/web is neither paused nor halted\n"


def test_a_halt_is_a_failure_and_ends_with_resume(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 3), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"progressDeadlineSeconds": 3}, **HUGE))
    halted = fleet.wait("RolledBack")
    failed = verb("status", "web", "--watch", "--timeout=60s")
    assert failed.exit_code == 1
    assert "RolledBack" in failed.stdout
    assert "Insufficient cpu" in failed.stdout
    halt = f"{halted['updateRevision']}#1"
    checks = json.loads(verb("check", "-o", "json").stdout)["checks"]
    assert {
        "section": "policies",
        "result": "warning",
        "message": f"the rollout of {fleet.namespace}/web is halted: RolledBack",
        "hint": f"sidecarpolicy status web -n {fleet.namespace}",
    } in checks
    refused = verb("restart", "web")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"is halted ({halt}), and a restart would go on with what failed" in refused.stderr
    assert halted["halt"]["id"] == halt
    assert failed.stderr.splitlines()[-2:] == [
        f"next: sidecarpolicy undo web -n {fleet.namespace}  # back to {halted['currentRevision']}",
        f"next: sidecarpolicy resume web -n {fleet.namespace}  # tries the same again",
    ]
    resumed = verb("resume", "web")
    assert resumed.stdout == f"sidecarpolicy.sidecars.dev/web rollout resumed (halt {halt})\n"
    assert "which failed: " in resumed.stderr
    assert "Insufficient cpu" in resumed.stderr
    policy = policy_of(fleet)
    assert policy["metadata"]["annotations"][names.RESUME] == halt
    assert fields_of_the_cli(policy) == {"f:metadata": {"f:annotations": {f"f:{names.RESUME}": {}}}}
    poll(lambda: "#2" in fleet.condition("Ready").get("message", ""))  # the operator tried again, under the next id


def test_undo_brings_back_the_same_revision_and_the_operator_rolls_it_out(fleet: Fleet, verb: Command) -> None:
    policy = a_proxy(fleet.namespace)
    policy["spec"] |= {
        "priority": 3,
        "volumes": [{"name": "logs", "emptyDir": {"sizeLimit": "1Gi"}}],
        "application": {"env": [{"name": "A", "value": "x && y <z>"}]},
    }
    policy["spec"]["sidecars"][0]["container"] |= {
        "ports": [{"containerPort": 15000}],
        "resources": {"requests": {"cpu": "0.5"}},
    }
    fleet.apply(*carts(fleet.namespace, 2), policy)
    first = fleet.wait("RolloutComplete")["updateRevision"]
    template = fleet.templates()
    before = policy_of(fleet)["spec"]
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"maxConcurrent": 7}))
    second = poll(fleet.status, until=lambda status: status.get("currentRevision", first) != first)["currentRevision"]
    generation = policy_of(fleet)["metadata"]["generation"]
    dry = verb("undo", "web", "--dry-run")
    assert f"rolled back to revision {first} (server dry run)" in dry.stdout
    assert policy_of(fleet)["metadata"]["generation"] == generation
    undone = verb("undo", "web")
    assert undone.stdout == f"sidecarpolicy.sidecars.dev/web rolled back to revision {first}\n"
    assert undone.stderr == (
        f"it was at revision {second}; back there: sidecarpolicy undo web -n {fleet.namespace} --to-revision {second}\n"
        f"next: sidecarpolicy status web -n {fleet.namespace} --watch\n"
    )
    after = policy_of(fleet)["spec"]
    assert {key: after[key] for key in ("priority", "volumes", "application", "sidecars")} == {
        key: before[key] for key in ("priority", "volumes", "application", "sidecars")
    }
    assert after["rollout"]["maxConcurrent"] == 7
    poll(fleet.status, until=lambda status: status.get("currentRevision") == first)
    assert fleet.wait("RolloutComplete")["updateRevision"] == first
    assert fleet.templates() == template
    # The one before is now the newer one; and a revision may be named by its hash.
    assert f"rolled back to revision {second}" in verb("undo", "web").stdout
    again = verb("undo", "web", f"--to-revision={second.removeprefix('web-')}")
    assert again.stdout == f"sidecarpolicy.sidecars.dev/web not undone: it is at revision {second} already\n"
    poll(fleet.status, until=lambda status: status.get("updateRevision") == second)
    unknown = verb("undo", "web", "--to-revision=nothing")
    assert unknown.exit_code == 1
    assert f"has no revision 'nothing'; there is {second}, {first}" in unknown.stderr


def test_restart_rolls_every_deployment_once_and_undo_takes_it_back(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 3), a_proxy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    before, templates = numbers(fleet), fleet.templates()
    dry = verb("restart", "web", "--dry-run")
    extent = "3 Deployments, one first, then at most 1 at a time"
    assert dry.stdout == f"sidecarpolicy.sidecars.dev/web restarted: {extent} (server dry run)\n"
    assert names.RESTARTED_AT not in policy_of(fleet)["metadata"].get("annotations", {})
    restarted = verb("restart", "web")
    assert restarted.stdout == f"sidecarpolicy.sidecars.dev/web restarted: {extent}\n"
    assert restarted.stderr == f"next: sidecarpolicy status web -n {fleet.namespace} --watch\n"
    policy = policy_of(fleet)
    assert fields_of_the_cli(policy) == {"f:metadata": {"f:annotations": {f"f:{names.RESTARTED_AT}": {}}}}
    assert verb("status", "web", "--watch", "--timeout=60s").exit_code == 0
    second = fleet.status()["currentRevision"]
    assert second != first
    told = f"web@{policy['metadata']['annotations'][names.RESTARTED_AT]}"
    assert {name: each["metadata"].get("annotations") for name, each in fleet.templates().items()} == {
        name: {names.RESTARTED_AT: told} for name in templates
    }
    assert {name: each["spec"] for name, each in fleet.templates().items()} == {
        name: each["spec"] for name, each in templates.items()
    }
    assert numbers(fleet) == {name: number + 1 for name, number in before.items()}
    shown = verb("history", "web", first, second)
    assert [line for line in shown.stdout.splitlines() if line[:1] in "+-"][2:] == [f"+restartedAt: '{told[4:]}'"]
    same = verb("undo", "web")
    assert same.exit_code == 1
    assert f"is at revision {second}, which only restarts what {first} injects" in same.stderr
    assert f"rolled back to revision {first}" in verb("undo", "web", f"--to-revision={first}").stdout
    poll(fleet.status, until=lambda status: status.get("currentRevision") == first)
    assert fleet.templates() == templates
    fleet.delete_policy()
    assert not traces(fleet.deployments().values())


def numbers(fleet: Fleet) -> dict[str, int]:
    """How many Pod templates each Deployment has had."""
    counted = "deployment.kubernetes.io/revision"
    return {name: int(each["metadata"]["annotations"][counted]) for name, each in fleet.deployments().items()}


def test_undo_twice_does_not_return_to_what_was_halted(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 3), a_proxy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"progressDeadlineSeconds": 3}, **HUGE))
    bad = fleet.wait("RolledBack")["updateRevision"]
    assert verb("undo", "web").stdout == f"sidecarpolicy.sidecars.dev/web rolled back to revision {first}\n"
    fleet.wait("RolloutComplete")
    again = verb("undo", "web")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == (
        f"Error: SidecarPolicy {fleet.namespace}/web is at revision {first}, and no other was rolled out completely; "
        f"there is {bad}. To take one all the same: sidecarpolicy undo web -n {fleet.namespace} --to-revision {bad}\n"
    )
    assert f"rolled back to revision {bad}" in verb("undo", "web", f"--to-revision={bad}").stdout


def test_undo_leaves_to_git_what_comes_from_git(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    policy = a_proxy(fleet.namespace, "2")
    policy["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    fleet.apply(policy)
    fleet.wait("RolloutComplete")
    refused = verb("undo", "web")
    assert refused.exit_code == 1
    assert "comes from Git (the Flux Kustomization apps), which would put it back: revert it in Git" in refused.stderr
    forced = verb("undo", "web", "--force")
    assert forced.exit_code == 0
    assert "may put the newer spec back at any moment" in forced.stderr
    poll(lambda: tags(fleet) == {"1"})


def test_status_watches_to_the_end_and_no_longer_than_told(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 3), a_proxy(fleet.namespace, rollout={"paused": True}))
    fleet.wait("Paused")
    late = verb("status", "web", "--watch", "--timeout=1s")
    assert late.exit_code == 3
    assert late.stderr.startswith(f"timed out after 1 s: {fleet.namespace}/web Paused: ")
    command = [str(Path(sys.executable).with_name("sidecarpolicy")), "status", "web", "--watch", "--timeout=60s"]
    where = [f"--kubeconfig={fleet.cluster.kubeconfig}", f"--namespace={fleet.namespace}"]
    with subprocess.Popen([*command, *where], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        assert re.match(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ {fleet.namespace}/web Paused: ", first)
        verb("resume", "web")
        rest = watching.stdout.read().splitlines()
    assert watching.returncode == 0
    assert "RolloutComplete: 3 of 3 workloads run web-" in rest[-1]
    assert "\x1b" not in "".join([first, *rest])
    done = verb("status", "web", "--output=json")
    assert done.exit_code == 0
    (answer,) = json.loads(done.stdout)["policies"]
    status = fleet.status()
    assert (answer["verdict"], answer["targets"]) == ("Ready", status["targets"])
    assert answer["updateRevision"] == status["updateRevision"]
    table = verb("status")
    assert [line.split()[:4] for line in table.stdout.splitlines() if line.startswith("web ")] == [
        ["web", "Ready", "RolloutComplete", "3/3"]
    ]
    everywhere = CliRunner().invoke(main, ["-A", *where[:1], "status"])
    assert [line.split()[:5] for line in everywhere.stdout.splitlines() if fleet.namespace in line] == [
        [fleet.namespace, "web", "Ready", "RolloutComplete", "3/3"]
    ]


def test_targets_are_what_the_status_counts(fleet: Fleet, verb: Command) -> None:
    taken = {"containers": [{"name": "proxy", "image": "example.test/own:1"}]}
    fleet.apply(
        a_deployment("out", fleet.namespace, labels={names.INJECT: "false"}),
        a_deployment("taken", fleet.namespace, pod=taken),
        a_deployment("down", fleet.namespace, strategy={"type": "Recreate"}),
        *carts(fleet.namespace, 3),
    )
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"progressDeadlineSeconds": 3, "onFailure": "Halt"}, **HUGE))
    status = fleet.wait("RolloutHalted")
    (failure,) = status["failures"]
    rows = json.loads(verb("targets", "web", "--output=json").stdout)["targets"]
    counted = Counter(each["state"] for each in rows)
    assert {state: counted[state] for state in ("skipped", "pending", "progressing", "updated", "failed")} == {
        state: status["targets"][state] for state in ("skipped", "pending", "progressing", "updated", "failed")
    }
    failed = next(each for each in rows if each["state"] == "failed")
    assert (failed["name"], failed["revision"], failed["reason"]) == (
        failure["name"],
        status["updateRevision"],
        failure["reason"],
    )
    assert "Insufficient cpu" in failed["message"]
    skipped = json.loads(verb("targets", "web", "--state=skipped", "--output=json").stdout)["targets"]
    assert {each["reason"]: each["name"] for each in skipped} == {
        each["reason"]: each["examples"][0].partition("/")[2] for each in status["skipped"]
    }
    assert {f"{fleet.namespace}/{each['name']}: {each['message']}" for each in skipped} == {
        each["message"] for each in status["skipped"]
    }
    text = verb("targets", "web", "--state=skipped").stdout.splitlines()
    assert [line.split()[:2] for line in text[1:]] == [["down", "skipped"], ["out", "skipped"], ["taken", "skipped"]]
    none = verb("targets", "web", "--state=updated")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "none; there is 3 skipped, 2 pending, 1 failed\n")


def test_what_is_on_its_way_says_what_it_waits_for(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.apply(a_proxy(fleet.namespace, "2", **HUGE))

    def under_way() -> list[Manifest]:
        found: list[Manifest] = json.loads(verb("targets", "web", "--output=json").stdout)["targets"]
        return [each for each in found if each["state"] == "progressing"]

    (moving,) = poll(under_way, until=lambda found: bool(found) and "Insufficient cpu" in found[0]["message"])
    assert moving["message"].startswith("waits for its Pods: ")
    (policy,) = json.loads(verb("explain", moving["name"], "--output=json").stdout)["policies"]
    assert policy["state"] == "progressing"
    assert policy["message"].startswith("waits for its Pods: ")
    assert "Insufficient cpu" in policy["message"]


def test_what_waits_for_another_policy_is_pending_and_says_for_which(fleet: Fleet, verb: Command) -> None:
    (cart,) = carts(fleet.namespace, 1)
    policies = [
        a_policy(name, fleet.namespace, selector={"matchLabels": {"tier": tier}}, rollout={"removal": "Manual"})
        for name, tier in (("old", "web"), ("new", "api"))
    ]
    fleet.apply(cart, *policies)
    fleet.wait("RolloutComplete", "old")
    labels = {"spec": {"template": {"metadata": {"labels": {"tier": "api"}}}}}
    fleet.kubectl("patch", "deployment", cart["metadata"]["name"], "--patch", json.dumps(labels))

    def waiting() -> Manifest:
        found = json.loads(verb("explain", cart["metadata"]["name"], "--output=json").stdout)["policies"]
        return next((each for each in found if each["policy"].endswith("/new")), {"state": "", "message": ""})

    told = poll(waiting, until=lambda found: bool(found["message"]))
    assert (told["state"], told["reason"]) == ("pending", "")
    assert f"SidecarPolicy {fleet.namespace}/old" in told["message"]


def test_a_cluster_policy_is_listed_where_it_reaches_and_undone(fleet: Fleet, verb: Command) -> None:
    name = f"mesh-{fleet.namespace}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    own = a_sidecar(container={"image": "example.test/own:1"})
    policy = a_cluster_policy(name, namespaceSelector=here, rollout={"minReadySeconds": 0, "removal": "Automatic"})
    fleet.apply(*carts(fleet.namespace, 2), policy, a_policy("web", fleet.namespace, sidecars=[own]))
    try:
        first = fleet.wait("RolloutComplete", name, kind=names.CLUSTER_POLICY)["updateRevision"]
        fleet.wait("AllSkipped")
        for arguments in ((), ("--state=updated",)):
            result = verb("targets", f"cluster/{name}", *arguments, "--output=json")
            found = json.loads(result.stdout)
            assert [(each["name"], each["state"]) for each in found["targets"]] == [
                ("cart-0", "updated"),
                ("cart-1", "updated"),
            ]
        everywhere = CliRunner().invoke(
            main, ["targets", f"csidepol/{name}", f"--kubeconfig={fleet.cluster.kubeconfig}", "-o", "json"]
        )
        assert json.loads(everywhere.stdout)["targets"] == found["targets"]
        overridden = json.loads(verb("targets", "web", "--output=json").stdout)["targets"]
        assert {(each["reason"], each["message"]) for each in overridden} == {
            (
                "Overridden",
                f"init container 'proxy' comes from ClusterSidecarPolicy {name}, which has precedence: "
                "a cluster policy goes before a namespaced one",
            )
        }
        policy["spec"]["sidecars"][0]["container"]["image"] = "example.test/proxy:2"
        fleet.apply(policy)
        fleet.wait("RolloutComplete", name, kind=names.CLUSTER_POLICY)
        assert tags(fleet) == {"2"}
        undone = verb("undo", f"cluster/{name}")  # its revisions are in the operator's namespace
        assert undone.stdout == f"clustersidecarpolicy.sidecars.dev/{name} rolled back to revision {first}\n"
        fleet.wait("RolloutComplete", name, kind=names.CLUSTER_POLICY)
        assert tags(fleet) == {"1"}
    finally:
        fleet.cluster.kubectl("delete", "clustersidecarpolicy", name, "--timeout=60s")


def test_explain_tells_what_a_deployment_runs_and_what_it_gets(fleet: Fleet, verb: Command, tmp_path: Path) -> None:
    def explained(*arguments: str) -> Manifest:
        found: Manifest = json.loads(verb("explain", *arguments, "--output=json").stdout)
        return found

    probe: Manifest = {"readinessProbe": {"tcpSocket": {"port": 80}}}
    down = a_deployment("down", fleet.namespace, strategy={"type": "Recreate"})
    fleet.apply(*carts(fleet.namespace, 2), down, a_proxy(fleet.namespace, **probe))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    version = fleet.deployment("cart-0")["metadata"]["resourceVersion"]
    done = explained("deploy/cart-0")
    row = {
        "policy": f"SidecarPolicy {fleet.namespace}/web",
        "revision": first,
        "sidecars": ["proxy"],
        "skipped": [],
        "overridden": [],
        "maxConcurrent": "10%",
        "runs": first,
        "state": "updated",
        "reason": "",
        "message": "",
        "pinnedTo": "",
        "halt": "",
        "paused": False,
    }
    assert done["policies"] == [row]
    gate = "its startup probe has succeeded, for at most 120 s"
    assert [(each["container"], each["next"]) for each in done["start"]] == [("proxy", gate), ("app", "")]
    assert done["stop"] == [["app"], ["proxy"]]
    assert fleet.deployment("cart-0")["metadata"]["resourceVersion"] == version
    # Two carts, of which one is pinned, and another revision that waits.
    verb("pin", "web", "cart-1")
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"paused": True}, **probe))
    second = fleet.wait("Paused")["updateRevision"]
    (waiting,) = explained(f"{fleet.namespace}/cart-0")["policies"]
    assert waiting == row | {"revision": second, "state": "pending", "paused": True, "message": waiting["message"]}
    text = verb("explain", "cart-0").stdout
    assert f"    pending: runs {first} now, its rollout is paused" in text
    assert f"Deployment {fleet.namespace}/cart-0 ({Cluster(str(fleet.cluster.kubeconfig)).server})" in text
    (pinned,) = explained("cart-1")["policies"]
    assert (pinned["revision"], pinned["state"], pinned["reason"]) == (first, "skipped", "Pinned")
    assert pinned["pinnedTo"] == first
    skipped = explained("down")
    assert [(each["revision"], each["state"], each["reason"]) for each in skipped["policies"]] == [
        ("", "skipped", "Downtime")
    ]
    assert [(each["did"], each["reason"]) for each in skipped["notes"]] == [("skipped", "Downtime")]
    # The files that inject would read say the same.
    files = {"policy.json": policy_of(fleet), "app.json": fleet.deployment("cart-0")}
    for name, body in files.items():
        (tmp_path / name).write_text(json.dumps(body))
    offline = explained("cart-0", f"--policy={tmp_path / 'policy.json'}", f"--filename={tmp_path / 'app.json'}")
    live = explained("cart-0")
    assert {key: live[key] for key in ("start", "stop", "startup", "termination", "resources")} == {
        key: offline[key] for key in ("start", "stop", "startup", "termination", "resources")
    }
    missing = verb("explain", "crt-0")
    assert missing.exit_code == 1
    assert "there is no Deployment 'crt-0' in namespace" in missing.stderr
    assert "did you mean cart-0" in missing.stderr


def test_explain_says_what_leaves_and_what_nobody_answers_for(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace, rollout={"removal": "Manual"}))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    narrowed = a_proxy(fleet.namespace, rollout={"removal": "Manual"})
    narrowed["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    fleet.apply(narrowed)
    fleet.wait("RemovalHeld")
    leaving = json.loads(verb("explain", "cart-0", "--output=json").stdout)
    assert [(each["runs"], each["revision"], each["state"]) for each in leaving["policies"]] == [
        (first, "", "removing")
    ]
    assert leaving["start"] == [{"container": "app", "kind": "application", "policy": "", "next": ""}]
    assert leaving["notes"] == [
        {
            "did": "removed",
            "reason": "",
            "text": f"SidecarPolicy {fleet.namespace}/web at {first}: it does not select this Deployment",
        }
    ]


def test_approve_writes_what_the_status_asks_for_beside_what_is_there(fleet: Fleet, verb: Command) -> None:
    careful = {"removal": "Manual", "canary": [{"name": "eu", "max": 1}]}
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace, rollout=careful))
    fleet.wait("RolloutComplete")
    idle = verb("approve", "web")
    assert idle.exit_code == 1
    assert "waits for no approval: RolloutComplete: 2 of 2 workloads run" in idle.stderr
    assert verb("approve", "web", "canary/eu@web-1").stdout == (
        "sidecarpolicy.sidecars.dev/web approved: canary/eu@web-1\n"
    )
    unknown = verb("approve", "web", "canary/e@web-1")
    assert unknown.exit_code == 1
    assert unknown.stderr.endswith(f"SidecarPolicy {fleet.namespace}/web has no canary group 'e'; did you mean eu?\n")
    narrowed = a_proxy(fleet.namespace, rollout=careful)
    narrowed["spec"]["selector"] = {"matchLabels": {"app": "cart-0"}}
    fleet.apply(narrowed)
    fleet.wait("RemovalHeld")
    removal = f"removal@{policy_of(fleet)['metadata']['generation']}"
    assert verb("approve", "web").stdout == f"sidecarpolicy.sidecars.dev/web approved: {removal}\n"
    policy = policy_of(fleet)
    assert policy["metadata"]["annotations"][names.APPROVE] == f"canary/eu@web-1,{removal}"
    assert fields_of_the_cli(policy) == {"f:metadata": {"f:annotations": {f"f:{names.APPROVE}": {}}}}
    assert fleet.wait("RolloutComplete")["targets"]["removing"] == 0


def test_an_approved_removal_stays_approved_when_the_policy_is_resumed(fleet: Fleet, verb: Command) -> None:
    held = a_proxy(fleet.namespace, rollout={"removal": "Manual"})
    fleet.apply(*carts(fleet.namespace, 1), held)
    fleet.wait("RolloutComplete")
    assert verb("pause", "web").exit_code == 0
    fleet.kubectl("delete", "sidecarpolicy", "web", "--wait=false")
    (removal,) = poll(fleet.status, until=lambda status: bool(status.get("awaiting")))["awaiting"]
    assert verb("approve", "web").stdout == f"sidecarpolicy.sidecars.dev/web approved: {removal}\n"
    assert verb("resume", "web").exit_code == 0
    poll(
        lambda: fleet.kubectl("get", "sidecarpolicies", "--output=name").stdout,
        until=lambda left: left == "",
    )
    assert tags(fleet) == {""}


def test_pin_writes_one_annotation_and_nothing_else(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    before = fleet.deployment("cart-0")
    pinned = f"web@{first.removeprefix('web-')}"
    done = verb("pin", "web", "cart-0")
    assert done.stdout == f"deployment.apps/cart-0 pinned at {pinned}\n"
    assert done.stderr == f"next: sidecarpolicy pin web cart-0 -n {fleet.namespace} --remove, when it may go on\n"
    after = fleet.deployment("cart-0")
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"] | {names.PIN: pinned}
    assert after["spec"] == before["spec"]
    assert fields_of_the_cli(after) == {"f:metadata": {"f:annotations": {f"f:{names.PIN}": {}}}}
    fleet.apply(a_proxy(fleet.namespace, "2"))
    second = poll(fleet.status, until=lambda status: status.get("currentRevision", first) != first)["currentRevision"]
    assert image_of(fleet.deployment("cart-0"), "proxy") == "example.test/proxy:1"
    moved = verb("pin", "web", "deployment/cart-0", f"--to={second}")
    assert moved.stdout == f"deployment.apps/cart-0 pinned at web@{second.removeprefix('web-')}\n"
    fleet.wait_for(lambda cart: image_of(cart, "proxy") == "example.test/proxy:2", "cart-0")
    assert "unpinned from" in verb("pin", "web", "cart-0", "--remove").stdout
    assert names.PIN not in fleet.deployment("cart-0")["metadata"]["annotations"]
    assert "has no revision 'abc'" in verb("pin", "web", "cart-0", "--to=abc").stderr
    assert "there is no Deployment 'card-0'" in (missing := verb("pin", "web", "card-0")).stderr
    assert "did you mean cart-0, cart-1?" in missing.stderr


def test_what_is_not_there_is_said_with_what_is(fleet: Fleet, verb: Command, tmp_path: Path) -> None:
    fleet.apply(a_policy("web", fleet.namespace))
    missing = verb("status", "wed")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == (
        f"Error: there is no SidecarPolicy 'wed' in namespace {fleet.namespace}; did you mean web?\n"
    )
    unreachable = CliRunner().invoke(main, ["pause", "web", f"--kubeconfig={_elsewhere(fleet, tmp_path)}"])
    assert unreachable.exit_code == 1
    assert "no answer from the API server at https://127.0.0.1:1: Connection refused; is it up" in unreachable.stderr
    # What the server says of kinds that are not installed, and what of an object: told apart by the reason.
    cluster = Cluster(str(fleet.cluster.kubeconfig))
    for group, reason in (("not-installed.dev", ""), (names.GROUP, "NotFound")):
        resource = Resource(group=group, version=names.VERSION, plural="sidecarpolicies", kind=names.POLICY)
        with pytest.raises(NotFound) as error:
            cluster.get(resource, fleet.namespace, "none")
        assert error.value.reason == reason


def _elsewhere(fleet: Fleet, folder: Path) -> Path:
    """A kubeconfig for a place where nobody answers."""
    found = json.loads(fleet.kubectl("config", "view", "--raw", "--output=json").stdout)
    for each in found["clusters"]:
        each["cluster"]["server"] = "https://127.0.0.1:1"
    path = folder / "nobody.json"
    path.write_text(json.dumps(found))
    return path


def test_who_sees_one_namespace_only_is_told_what_is_left_out(
    fleet: Fleet, cluster: localcluster.Cluster, tmp_path: Path
) -> None:
    fleet.apply(a_deployment("out", fleet.namespace, labels={names.INJECT: "false"}), *carts(fleet.namespace, 1))
    fleet.apply(a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    fleet.kubectl("create", "serviceaccount", "reader")
    role = ["--clusterrole=view", f"--serviceaccount={fleet.namespace}:reader"]
    fleet.kubectl("create", "rolebinding", "reader", *role)
    token = fleet.kubectl("create", "token", "reader").stdout.strip()
    config = json.loads(fleet.kubectl("config", "view", "--raw", "--output=json").stdout)
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path = tmp_path / "reader.json"
    path.write_text(json.dumps(config))
    where = [f"--kubeconfig={path}", f"--namespace={fleet.namespace}"]

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, *where], catch_exceptions=False)

    listed = run("targets", "web", "--output=json")
    assert listed.exit_code == 0, listed.stderr
    found = json.loads(listed.stdout)
    assert {each["name"]: each["state"] for each in found["targets"]} == {"out": "skipped", "cart-0": "updated"}
    assert any(
        "what cluster policies override; forbidden to list clustersidecarpolicies" in each for each in found["notes"]
    )
    overview = run("status")
    assert overview.exit_code == 0
    assert overview.stderr == "left out: ClusterSidecarPolicies, which you have no right to list\n"
    listed_for_people = run("targets", "web")
    assert listed_for_people.stderr.count("\n") == 1
    assert listed_for_people.stderr.startswith("left out, because you may not read it: ")
    forbidden = run("pause", "web")
    assert forbidden.exit_code == 1
    assert f"forbidden to patch sidecarpolicies.sidecars.dev {fleet.namespace}/web: " in forbidden.stderr
    assert "kubectl auth can-i patch sidecarpolicies.sidecars.dev" in forbidden.stderr


# The emergency switch


@pytest.fixture
def switch(fleet: Fleet) -> Iterator[str]:
    """The operator's namespace; its switch is off afterwards."""
    yield OPERATOR_NAMESPACE
    fleet.kubectl("annotate", "namespace", OPERATOR_NAMESPACE, f"{names.STOP}-")


def test_what_is_stopped_says_so_everywhere_until_it_is_started(fleet: Fleet, verb: Command, switch: str) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    dry = verb("stop", "--dry-run")
    assert dry.stdout == f"namespace/{switch} stopped: no workload is changed any more (server dry run)\n"
    assert verb("start").stdout == f"namespace/{switch} is not stopped\n"
    stopped = verb("stop", "--reason=incident 7")
    assert stopped.stdout == f"namespace/{switch} stopped: no workload is changed any more\n"
    assert verb("stop").stdout == f"namespace/{switch} already stopped\n"
    at_rest = verb("status", "web")
    assert at_rest.exit_code == 0
    assert at_rest.stderr.startswith(f"STOPPED (incident 7): no workload is changed, because namespace {switch} has ")
    assert json.loads(verb("status", "-o", "json").stdout)["operator"]["stopReason"] == "incident 7"
    fleet.apply(a_proxy(fleet.namespace, "2"))
    fleet.wait("Stopped")
    message = fleet.condition("Ready")["message"]
    assert message.startswith(f"run `sidecarpolicy start`, or take the annotation {names.STOP} off namespace {switch},")
    assert verb("status", "web").stdout.splitlines()[-1] == "next: sidecarpolicy start"
    assert poll(lambda: fleet.messages("web", "Stopped")) == [
        f"no workload is changed while namespace {switch} has the annotation {names.STOP}; to lift it: "
        "sidecarpolicy start"
    ]
    assert tags(fleet) == {"1"}
    assert verb("start").stdout == f"namespace/{switch} started: rollouts go on\n"
    fleet.wait("RolloutComplete")
    assert tags(fleet) == {"2"}
    assert verb("status", "web").stderr == ""


# Who carries what, and since when


def test_list_and_history_tell_what_is_there(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_deployment("alone", fleet.namespace, labels={names.INJECT: "false"}))
    fleet.apply(a_proxy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    rows = json.loads(verb("list", "-o", "json").stdout)["deployments"]
    assert [(each["name"], each["revision"], each["sidecars"]) for each in rows] == [
        (f"cart-{number}", first, [{"name": "proxy", "image": "example.test/proxy:1", "adopted": False}])
        for number in range(2)
    ]
    table = verb("list")
    assert table.stdout.splitlines()[1].split() == ["cart-0", "web", first, "proxy"]
    assert table.stderr == "2 of 3 Deployments carry something\n"
    assert verb("list", "deployment/cart-1").stderr == f"next: sidecarpolicy status web -n {fleet.namespace}\n"
    assert verb("list", f"{fleet.namespace}/cart-1").stdout == verb("list", "cart-1").stdout
    assert "carries no sidecar" in verb("list", "alone").stderr
    assert "did you mean cart-" in verb("list", "card").stderr
    fleet.apply(a_proxy(fleet.namespace, "2"))
    second = poll(fleet.status, until=lambda status: status.get("currentRevision", first) != first)["currentRevision"]
    lines = verb("history", "web").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["REVISION", second, first]
    assert "newest, rolled out last" in lines[1]
    changed = verb("history", "web", first, second).stdout.splitlines()
    assert changed[:2] == [f"--- {first}", f"+++ {second}"]
    assert [line.split()[-1] for line in changed[2:] if line[0] in "+-"] == [
        "example.test/proxy:1",
        "example.test/proxy:2",
    ]
    assert verb("history", "web", second).stderr == f"{second} and {second} (now) are the same\n"
    assert "has no revision 'nothing'" in verb("history", "web", "nothing").stderr


# Whose cluster, and as whom


def test_flags_stand_before_the_verb_and_rights_are_those_of_somebody_else(fleet: Fleet) -> None:
    fleet.apply(a_policy("web", fleet.namespace))
    where = [f"--kubeconfig={fleet.cluster.kubeconfig}", "-n", fleet.namespace]
    assert CliRunner().invoke(main, [*where, "status", "web"]).exit_code in (0, 3)
    nobody = CliRunner().invoke(main, [*where, "--as=nobody", "status", "web"])
    assert nobody.exit_code == 1
    assert nobody.stderr.startswith(f"Error: forbidden to get sidecarpolicies.sidecars.dev {fleet.namespace}/web: ask ")
    group = CliRunner().invoke(main, [*where, "--as=nobody", "--as-group=system:masters", "status", "web"])
    assert group.exit_code in (0, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--watch"),
        *((verb, "web") for verb in ("status", "targets", "history", "pause", "resume", "approve", "undo", "restart")),
        ("targets", "cluster/web"),
        ("release", "web"),
        ("list",),
        ("list", "cart"),
        ("explain", "cart"),
        ("pin", "web", "cart"),
        ("timeline", "cart"),
        ("timeline", "deployment/cart"),
        ("orphans",),
        ("orphans", "cart"),
    ],
)
def test_a_namespace_that_is_not_there_is_no_success(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    where = ["-n", "not-there", f"--kubeconfig={fleet.cluster.kubeconfig}"]
    missing = CliRunner().invoke(main, [*arguments, *where])
    assert (missing.exit_code, missing.stderr) == (1, "Error: there is no namespace not-there\n")


def test_orphans_answers_for_the_deployments_that_are_named(fleet: Fleet, verb: Command) -> None:
    gone = PolicyId(kind=names.POLICY, namespace=fleet.namespace, name="gone")
    pod = {**a_deployment()["spec"]["template"]["spec"], "initContainers": [{"name": "proxy", "image": "p:1"}]}
    lost = a_deployment("lost", fleet.namespace, annotations={names.RECORD: a_record("gone-1", gone)}, pod=pod)
    fleet.apply(*carts(fleet.namespace, 1), lost)
    both = verb("orphans", "cart-0", "lost")
    assert both.stdout.startswith(f"{fleet.namespace}/lost: SidecarPolicy {fleet.namespace}/gone at gone-1")
    sound = verb("orphans", "cart-0", "--eject")
    assert (sound.exit_code, sound.stdout) == (0, "")
    assert both.stderr == sound.stderr == "cart-0 has no sidecars of a policy that does not exist\n"
    everywhere = verb("orphans", "card-0", "-A")
    assert (everywhere.exit_code, everywhere.stderr) == (1, "Error: there is no Deployment 'card-0' in any namespace\n")


def test_what_is_named_and_is_not_there_is_no_success(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_policy("web", fleet.namespace))
    for arguments in (["orphans", "deployment/card-0"], ["orphans", "card-0", "--eject"]):
        missing = verb(*arguments)
        assert (missing.exit_code, missing.stderr) == (
            1,
            f"Error: there is no Deployment 'card-0' in namespace {fleet.namespace}; did you mean cart-0?\n",
        )
    other_kind = verb("status", "cluster/none-such").stderr
    assert "there is no ClusterSidecarPolicy 'none-such'; " in other_kind
    assert "there is web" not in other_kind
    gone = verb("timeline", "none-such")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "Error: there is no Pod 'none-such' in namespace" in gone.stderr
    assert "problem" not in gone.stderr


def test_every_flag_that_says_where_and_as_whom_is_known_to_timeline_too(fleet: Fleet) -> None:
    where = [f"--kubeconfig={fleet.cluster.kubeconfig}", "-n", fleet.namespace]
    nobody = CliRunner().invoke(main, [*where, "--as=nobody", "--request-timeout=5s", "timeline", "cart"])
    assert nobody.exit_code == 1
    assert nobody.stderr.startswith(f"Error: forbidden to get pods {fleet.namespace}/cart: ask for that right ")
    listing = CliRunner().invoke(main, [*where, "--as=nobody", "list"])
    assert listing.stderr.startswith(f"Error: forbidden to list deployments.apps in namespace {fleet.namespace}: ask ")


def test_a_watch_ends_with_0_where_its_policy_goes_and_with_130_where_its_user_does(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace, rollout={"paused": True}))
    fleet.wait("Paused")
    program = str(Path(sys.executable).with_name("sidecarpolicy"))
    where = [f"--kubeconfig={fleet.cluster.kubeconfig}", f"--namespace={fleet.namespace}"]
    command = [program, "status", "web", "--watch", *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert "Paused" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=30)
    assert (watching.returncode, errors.strip()) == (130, "")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert "Paused" in watching.stdout.readline()
        fleet.delete_policy()
        _, errors = watching.communicate(timeout=60)
    assert (watching.returncode, errors) == (0, "sidecarpolicy.sidecars.dev/web is gone\n")


def test_a_timeline_of_a_deployment_is_that_of_its_newest_pod(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 1))
    fleet.wait_for(lambda cart: cart.get("status", {}).get("availableReplicas") == 1, "cart-0")
    (pod,) = fleet.get("pods")["items"]
    drawn = verb("timeline", "deployment/cart-0", "-o", "json")
    assert json.loads(drawn.stdout)["title"] == f"{fleet.namespace}/{pod['metadata']['name']}", drawn.stderr
    assert "there is no Deployment 'card'" in verb("timeline", "deploy/card").stderr


# The installation


def test_check_finds_nothing_wrong_where_nothing_is(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    found = json.loads(verb("check", "-o", "json").stdout)
    failed = [each["message"] for each in found["checks"] if each["result"] == "failed"]
    # The namespace of an earlier test may still be on its way out.
    assert [each for each in failed if not each.startswith("namespace ") or fleet.namespace in each] == []
    said = " ".join(each["message"] for each in found["checks"] if each["result"] == "ok")
    assert "has native sidecars" in said
    assert "both kinds of sidecars.dev/v1alpha1 are served" in said
    assert "leads, and renewed its Lease" in said
    assert f"system:serviceaccount:{OPERATOR_NAMESPACE}:sidecarpolicy has the rights that it needs" in said
    assert verb("check", "--pre").exit_code == 0


@pytest.mark.parametrize(
    ("running", "result", "words"),
    [
        (__version__, "ok", f"({__version__}) and this program ({__version__}) fit"),
        (f"v{MAJOR}.{MINOR}.99", "ok", f"({MAJOR}.{MINOR}.99) and this program ({__version__}) fit"),
        (f"{MAJOR}.{MINOR + 1}.0", "warning", f"is version {MAJOR}.{MINOR + 1}.0, this program {__version__}"),
        ("latest", "skipped", "neither its label nor its image's tag says which"),
    ],
)
def test_check_says_when_operator_and_command_line_differ(
    fleet: Fleet, verb: Command, running: str, result: str, words: str
) -> None:
    """By the image's tag; a patch version more or less is no difference."""
    image = {"containers": [{"name": "operator", "image": f"registry.example.test/sidecarpolicy:{running}"}]}
    labels = {"app.kubernetes.io/name": "sidecarpolicy"}
    operator = a_deployment("sidecarpolicy", OPERATOR_NAMESPACE, labels=labels, pod=image, replicas=0)
    fleet.cluster.kubectl("apply", "--filename=-", input=json.dumps(operator))
    try:
        checks = json.loads(verb("check", "-o", "json").stdout)["checks"]
    finally:
        fleet.cluster.kubectl("delete", "deployment", "sidecarpolicy", f"--namespace={OPERATOR_NAMESPACE}")
    assert [each["result"] for each in checks if words in each["message"]] == [result], checks


def test_check_and_status_say_that_no_operator_runs_and_what_hangs(alone: Fleet) -> None:
    where = [f"--kubeconfig={alone.cluster.kubeconfig}", f"--namespace={alone.namespace}"]
    policy = a_proxy(alone.namespace)
    policy["metadata"]["finalizers"] = [names.FINALIZER]
    alone.apply(policy)
    alone.kubectl("delete", "sidecarpolicy", "web", "--wait=false")

    def checked() -> Manifest:
        answer: Manifest = json.loads(CliRunner().invoke(main, ["check", "-o", "json", *where]).stdout)
        return {each["message"]: each["hint"] for each in answer["checks"] if each["result"] == "failed"}

    hangs = f"{alone.namespace}/web is being deleted, and there is no operator to take its sidecars out"
    failed = poll(checked, until=lambda found: hangs in found, timeout=60)  # the Lease has to run out
    assert "--without-operator" in failed[hangs]
    assert any(
        each.startswith("no operator is running: the Lease ") or "no operator has run" in each for each in failed
    )
    assert "no operator " in CliRunner().invoke(main, ["status", *where]).stderr
    released = f"sidecarpolicy release web -n {alone.namespace} --keep-sidecars --without-operator"
    said = CliRunner().invoke(main, ["status", "web", *where]).stdout.splitlines()[-2:]
    assert [each.partition("  #")[0] for each in said] == ["next: sidecarpolicy check", f"next: {released}"]
    assert said[-1].endswith("# only where the operator is gone for good"), "it may be down for a moment only"
    assert "no operator " in CliRunner().invoke(main, ["pause", "web", *where]).stderr
    refused = CliRunner().invoke(main, ["release", "web", "--yes", *where])
    assert refused.exit_code == 1
    assert "Start it, for it is what removes sidecars" in refused.stderr
    left = CliRunner().invoke(main, ["release", "web", "--yes", "--keep-sidecars", "--without-operator", *where])
    assert (left.exit_code, left.stdout) == (0, "sidecarpolicy.sidecars.dev/web deleted\n"), left.stderr
    assert alone.kubectl("get", "sidecarpolicies", "--output=name").stdout == ""


def test_release_names_what_could_not_be_taken_out(fleet: Fleet, verb: Command) -> None:
    allowed = {names.ALLOW_DOWNTIME: "true"}
    down = a_deployment("down", fleet.namespace, strategy={"type": "Recreate"}, annotations=allowed)
    fleet.apply(down, *carts(fleet.namespace, 1))
    fleet.apply(a_proxy(fleet.namespace, rollout={"progressDeadlineSeconds": 3}))
    fleet.wait("RolloutComplete")
    fleet.kubectl("annotate", "deployment", "down", f"{names.ALLOW_DOWNTIME}-")
    released = verb("release", "web", "--yes", "--timeout=60s")
    assert released.exit_code == 1
    assert released.stderr.splitlines()[-3:] == [
        f"{fleet.namespace}/web is gone",
        f"{fleet.namespace}/down still carries the sidecars of SidecarPolicy {fleet.namespace}/web, which could not be "
        "taken out: its Event RemovalGivenUp says why",
        f"next: sidecarpolicy orphans down -n {fleet.namespace} --eject",
    ]


@pytest.mark.parametrize("keep", [False, True])
def test_release_takes_policies_away_whose_removal_would_wait(fleet: Fleet, verb: Command, keep: bool) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace, rollout={"removal": "Manual"}))
    fleet.wait("RolloutComplete")
    templates = fleet.templates()
    deleted = fleet.kubectl("delete", "sidecarpolicy", "web", "--wait=false", "--dry-run=server")
    assert (
        "Warning: Validation failed for ValidatingAdmissionPolicy 'sidecarpolicy-deletions'" in deleted.stderr
    ) and f"sidecarpolicy approve web -n {fleet.namespace}" in deleted.stderr
    asked = verb("release", "web")
    assert asked.exit_code == 1
    assert "nothing was changed" in asked.stderr
    done = verb("release", "web", "--yes", "--timeout=60s", *(["--keep-sidecars"] if keep else []))
    assert done.exit_code == 0, done.stderr
    assert f"{fleet.namespace}/web is gone" in done.stderr
    assert ("approved: removal@" in done.stderr) == (not keep)
    assert (fleet.templates() == templates) == keep
    if not keep:
        assert tags(fleet) == {""}


def test_sidecars_that_start_after_each_other_are_refused_at_apply(fleet: Fleet) -> None:
    for circle in ("ba", "bca"):
        chain = dict(zip(circle[-1] + circle, circle, strict=False))
        sidecars = [a_sidecar(name, startAfter=[after]) for name, after in chain.items()]
        text = json.dumps(a_policy("circle", fleet.namespace, sidecars=sidecars))
        refused = fleet.kubectl("apply", "--filename=-", input=text, check=False)
        assert "must not have sidecars that each start after the other" in refused.stderr, circle
    straight = [a_sidecar("a"), a_sidecar("b", startAfter=["a"]), a_sidecar("c", startAfter=["a", "b"])]
    fleet.apply(a_policy("straight", fleet.namespace, sidecars=straight))
