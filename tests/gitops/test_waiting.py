"""The same objects on a real API server: they fit the schema, and kubectl itself waits for what the table says."""

from __future__ import annotations

import pykube
import pytest

from sidecarpolicy import names
from tests.conftest import Kubectl
from tests.gitops.situations import EXAMPLES, GENERATION, Example
from tests.kube import SidecarPolicy


def served(api: pykube.HTTPClient, example: Example, namespace: str) -> SidecarPolicy:
    """Create the policy of *example*, at its generation and with its status."""
    wanted = example.policy()
    body = {**wanted, "metadata": {"name": example.name, "namespace": namespace}}
    body["metadata"]["finalizers"] = [names.FINALIZER] if example.deleting else []
    policy = SidecarPolicy(api, body)
    policy.create()
    assert policy.obj["status"] == {"observedGeneration": -1}
    if example.deleting:
        policy.delete()
    else:
        policy.patch({"spec": {"priority": 1}})
    policy.patch({"status": wanted["status"]}, subresource="status")
    policy.reload()
    assert policy.obj["metadata"]["generation"] == GENERATION
    assert {**policy.obj["status"]} == wanted["status"]
    return policy


@pytest.mark.parametrize("example", EXAMPLES, ids=[each.name for each in EXAMPLES])
def test_kubectl_waits_for_what_the_table_says(
    example: Example, api: pykube.HTTPClient, kubectl: Kubectl, namespace: str
) -> None:
    policy = served(api, example, namespace)
    try:
        for condition, ends in (("Ready", example.kubectl), ("Stalled", example.abnormal == "Stalled")):
            assert _wait_ends(kubectl, example.name, namespace, condition) is ends
    finally:
        policy.patch({"metadata": {"finalizers": None}})


def _wait_ends(kubectl: Kubectl, name: str, namespace: str, condition: str) -> bool:
    options = (f"--for=condition={condition}", f"--namespace={namespace}", "--timeout=0")
    done = kubectl("wait", f"sidepol/{name}", *options, check=False)
    assert not done.returncode or "condition not met" in done.stderr, done.stderr
    return done.returncode == 0
