"""Several replicas: all of them watch, one writes, and a leader that was frozen does no harm when it goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import localcluster
from tests.audit import Audit
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, image_of
from tests.polling import poll
from tests.running import Operator

COUNT = 30
NAMES = [f"d{number:02}" for number in range(COUNT)]


def edit(fleet: Fleet, tag: str) -> None:
    fleet.apply(
        a_policy(
            "web",
            fleet.namespace,
            rollout={"strategy": "AllAtOnce", "minReadySeconds": 0},
            sidecars=[a_sidecar(container={"image": f"example.test/proxy:{tag}"})],
        )
    )


def tags(fleet: Fleet) -> list[str]:
    return [image_of(each, "proxy").rpartition(":")[2] for each in fleet.deployments().values()]


def test_a_leader_that_was_frozen_does_no_harm_when_it_goes_on(
    cluster: localcluster.Cluster, alone: Fleet, operator_kubeconfig: Path
) -> None:
    """Frozen in the midst of a rollout, for longer than its Lease; meanwhile another has finished it, and one more."""
    fleet = alone
    fleet.apply(*(a_deployment(name, fleet.namespace) for name in NAMES))
    before = {name: each["metadata"]["generation"] for name, each in fleet.deployments().items()}
    first, second = (Operator(operator_kubeconfig, f"--identity={name}", "--workers=2") for name in ("first", "second"))
    with first:
        second.spawn()
        try:
            audit = Audit.begin(cluster)
            edit(fleet, "1")
            poll(lambda: tags(fleet).count("1") > 3, timeout=120)
            first.send(signal.SIGSTOP)
            frozen_at = tags(fleet).count("1")
            poll(second._leads, timeout=120)
            fleet.wait("RolloutComplete", timeout=120)
            edit(fleet, "2")
            poll(lambda: tags(fleet) == ["2"] * COUNT, timeout=120)
            first.send(signal.SIGCONT)
            poll(lambda: "does not lead any more" in first.log, timeout=60)
            edit(fleet, "3")
            fleet.wait("RolloutComplete", timeout=120)
            assert tags(fleet) == ["3"] * COUNT
            assert frozen_at < COUNT  # it had work left
            # Every change has rolled every Deployment once, and nothing else has.
            after = {name: each["metadata"]["generation"] for name, each in fleet.deployments().items()}
            patches = audit.patches_of(fleet.namespace)
            assert {name: after[name] - before[name] for name in NAMES} == patches == dict.fromkeys(NAMES, 3)
            fleet.delete_policy()
        finally:
            first.send(signal.SIGCONT)
            second.stop()
