"""What somebody who has just installed it asks: where a rollout is, what it waits for, what a TAB completes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecarpolicy import names
from tests.api.conftest import Command
from tests.builders import Manifest, a_cluster_policy, a_proxy, a_sidecar, carts
from tests.fleet import Fleet
from tests.polling import poll

HUGE: Manifest = {"resources": {"requests": {"cpu": "100000"}}}


def test_status_says_what_the_first_one_waits_for_long_before_it_fails(fleet: Fleet, verb: Command) -> None:
    group = [{"name": "eu", "max": 1}]
    fleet.apply(*carts(fleet.namespace, 3), a_proxy(fleet.namespace, rollout={"canary": group}, **HUGE))
    waiting = poll(
        lambda: verb("status", "web").stdout, until=lambda text: "Insufficient cpu" in text and "fails in" in text
    )
    assert "step: canary group 'eu', 0 of 1 done; 1 of at most 1 at a time, 2 Deployments to go\n" in waiting
    assert re.search(rf"^  {fleet.namespace}/cart-\d: waits for its Pods: .*; fails in \d+", waiting, re.MULTILINE)
    assert fleet.condition("Ready")["reason"] == "RollingOut"


def test_status_says_for_how_long_one_is_watched(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace, rollout={"minReadySeconds": 30}))
    watched = poll(lambda: verb("status", "web").stdout, until=lambda text: "complete, watched" in text)
    assert re.search(rf"^  {fleet.namespace}/cart-\d: complete, watched \d+ of 30 s$", watched, re.MULTILINE)
    assert "step: one goes first, the others wait for it, 1 Deployment to go\n" in watched


def test_a_watch_without_a_policy_waits_for_those_of_the_namespace_alone(fleet: Fleet, verb: Command) -> None:
    other = f"mesh-{fleet.namespace}"
    reach = {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}}
    held = a_cluster_policy(other, sidecars=[a_sidecar("mesh")], namespaceSelector=reach, rollout={"paused": True})
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace))
    try:
        fleet.apply(held)
        fleet.wait("Paused", other, kind=names.CLUSTER_POLICY)
        watched = verb("status", "--watch", "--timeout=60s")
        assert watched.exit_code == 0
        assert f"{fleet.namespace}/web RolloutComplete: " in watched.stdout
        assert other not in watched.stdout
        everywhere = verb("status", "--all-namespaces", "--watch", "--timeout=1s")
        assert everywhere.exit_code != 0
        assert f"cluster/{other} Paused: " in everywhere.stdout
    finally:
        fleet.cluster.kubectl("delete", "clustersidecarpolicy", other, "--timeout=60s")


def test_a_tab_completes_the_names_that_the_cluster_has(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 2), a_proxy(fleet.namespace))
    revision = fleet.wait("RolloutComplete")["updateRevision"]

    def completed(*words: str) -> list[str]:
        typed = ["sidecarpolicy", words[0], f"--kubeconfig={fleet.cluster.kubeconfig}", *words[1:]]
        environ = {"_SIDECARPOLICY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(typed)}
        environ |= {"COMP_CWORD": str(len(typed) - 1), "PATH": os.environ["PATH"]}
        program = [str(Path(sys.executable).with_name("sidecarpolicy"))]
        done = subprocess.run(program, env=environ, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    here = ("-n", fleet.namespace)
    assert completed("status", *here, "we") == ["web"]
    assert completed("pin", "web", *here, "cart-") == ["cart-0", "cart-1"]
    assert completed("undo", "web", *here, "--to-revision", "web-") == [revision]
    assert fleet.namespace in completed("list", "-n", fleet.namespace[:-1])


def test_kubectl_get_shows_how_many_are_on_their_way(fleet: Fleet) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace))
    fleet.wait("RolloutComplete")
    head, row = fleet.kubectl("get", "sidecarpolicies", "--output=wide").stdout.splitlines()
    assert row.split()[head.split().index("PROGRESSING")] == "0"


def test_explain_warns_of_nothing_that_does_not_come(fleet: Fleet, verb: Command) -> None:
    fleet.apply(*carts(fleet.namespace, 1), a_proxy(fleet.namespace))
    first = fleet.wait("RolloutComplete")["updateRevision"]
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"paused": True}, **HUGE))
    fleet.wait("Paused")

    def told() -> dict[str, str]:
        notes = json.loads(verb("explain", "cart-0", "--output=json").stdout)["notes"]
        return {each["reason"] or each["did"]: each["text"] for each in notes}

    assert "cpu" in told()["RequestsChange"]  # it comes when the policy is resumed
    fleet.apply(a_proxy(fleet.namespace, "2", rollout={"progressDeadlineSeconds": 3}, **HUGE))
    fleet.wait("RolledBack")
    assert told() == {
        "kept": f"SidecarPolicy {fleet.namespace}/web: its rollout is halted, or failed here: {first} stays"
    }
    # What resuming would bring.
    poll(lambda: {each["reason"] for each in fleet.status()["warnings"]}, until=lambda told: "RequestsChange" in told)


@pytest.fixture
def elsewhere(fleet: Fleet) -> Iterator[str]:
    """A webhook of ours that runs outside the cluster, at a URL, for objects that nobody has; its address."""
    name, url = f"outside-{fleet.namespace}", "https://webhook.example.test/deployments"
    rule = {"apiGroups": ["example.test"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothings"]}
    webhook = {
        "name": "deployments.sidecars.dev",
        "clientConfig": {"url": url},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
    }
    fleet.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": names.CONTROLLER}},
            "webhooks": [webhook],
        }
    )
    yield url
    fleet.kubectl("delete", "mutatingwebhookconfiguration", name)


def test_of_a_webhook_outside_the_cluster_check_says_only_where_it_is(verb: Command, elsewhere: str) -> None:
    found = json.loads(verb("check", "-o", "json").stdout)["checks"]
    (said,) = (each for each in found if "webhook" in each["message"])
    assert (said["result"], said["hint"]) == ("skipped", "")
    assert said["message"].startswith(
        f"webhook deployments.sidecars.dev is at {elsewhere}: whether that can be reached"
    )
