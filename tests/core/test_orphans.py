"""Sidecars of policies that do not exist: which they are, and how they are taken out."""

from __future__ import annotations

from typing import Any

import yaml

from sidecarpolicy import names
from sidecarpolicy.cli import batch
from sidecarpolicy.cli.offline import injected
from sidecarpolicy.cli.orphans import ejection, orphans_among
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.record import parse as parse_record
from sidecarpolicy.manifests import parse
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar

MESH = a_cluster_policy("mesh", sidecars=[a_sidecar("mesh")])
STORED = {"uid": "u", "resourceVersion": "7", "generation": 3}
WEB_ID = PolicyId(kind=names.POLICY, namespace="shop", name="web")
MESH_ID = PolicyId(kind=names.CLUSTER_POLICY, namespace="", name="mesh")


def stored(namespace: str = "shop") -> Any:
    """A Deployment that both policies are on, as an API server has it; copied into *namespace*."""
    policies = [parse("---\n".join(yaml.safe_dump(each) for each in (a_policy(), MESH)), "policies.yaml")]
    files = [parse(yaml.safe_dump(a_deployment()), "app.yaml")]
    done, _ = batch.with_policies(files, policies, injected, namespace="shop")
    (body,) = done.rewritten[0].bodies
    body["metadata"] |= STORED | {"namespace": namespace}
    return body


def patched(body: Any, operations: Any) -> Any:
    """*body* after a JSON Patch of tests, replacements and removals."""
    for operation in operations:
        *way, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        at = body
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if operation["op"] == "test":
            assert at[last] == operation["value"]
        elif operation["op"] == "remove":
            del at[last]
        else:
            at[last] = operation["value"]
    return body


def init_containers(body: Manifest) -> list[str]:
    pod: Any = body["spec"]["template"]["spec"]
    return [each["name"] for each in pod.get("initContainers", [])]


def test_a_deployment_whose_policies_exist_is_no_orphan() -> None:
    assert orphans_among([stored(), {**a_deployment()}], {WEB_ID, MESH_ID}) == []


def test_a_policy_that_does_not_exist_is_told_and_taken_out_alone() -> None:
    (orphan,) = orphans_among([stored()], {MESH_ID})
    assert list(orphan.entries) == [WEB_ID]
    after = patched(stored(), ejection(orphan))
    assert init_containers(after) == ["mesh"]
    assert list(parse_record(after["metadata"]["annotations"][names.RECORD]).entries) == [MESH_ID]


def test_a_policy_of_another_namespace_is_one_that_does_not_exist() -> None:
    (orphan,) = orphans_among([stored("copy")], {WEB_ID, MESH_ID})
    assert list(orphan.entries) == [WEB_ID]


def test_the_last_ones_go_with_the_record() -> None:
    (orphan,) = orphans_among([stored()], ())
    after = patched(stored(), ejection(orphan))
    assert init_containers(after) == []
    assert names.RECORD not in after["metadata"]["annotations"]
    assert after["spec"] == a_deployment()["spec"]


def test_a_record_that_cannot_be_read_is_left_alone() -> None:
    body = stored()
    body["metadata"]["annotations"][names.RECORD] = "{"
    assert orphans_among([body], ()) == []
