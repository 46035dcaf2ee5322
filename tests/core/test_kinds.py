"""One module knows Deployments: the others go by what it tells them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.kinds import KINDS

SOURCE = Path(__file__).parent.parent.parent / "operator/sidecarpolicy"

# What Kubernetes calls the kind, what is made of it, and what stands in them alone.
OF_KUBERNETES = (
    "Deployment ReplicaSet deployments replicasets Progressing NewReplicaSetAvailable ReplicaFailure "
    "progressDeadlineSeconds maxUnavailable maxSurge updatedReplicas availableReplicas pod-template-hash"
)
WORDS = frozenset(OF_KUBERNETES.split())
ALLOWED = {
    "core/kinds/deployment.py": "the module that knows them",
    "core/addresses.py": "where the API has them, and no more",
    "core/identity.py": "a workload is a Deployment where nothing else is said",
}

# Commands say what people ask for, and lint and migrate read manifests of every kind: none of them decides for a fleet.
OF_PEOPLE = ("cli/", "lint/", "migrate/")

# Words that are a policy's own, too.
OF_A_POLICY = {"core/decode.py": {"progressDeadlineSeconds"}, "core/pod_metadata.py": {"pod-template-hash"}}


def strings(path: Path) -> Iterator[str]:
    """Every string that *path* works with as a whole: not its docstrings, and no part of a message to people."""
    tree = ast.parse(path.read_text())
    texts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.value


def test_one_module_knows_deployments() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).as_posix()
        known = WORDS.intersection(strings(path)) - OF_A_POLICY.get(module, set())
        if known and module not in ALLOWED and not module.startswith(OF_PEOPLE):
            found[module] = sorted(known)
    assert found == {}


def test_who_takes_in_objects_of_a_kind() -> None:
    """Each reads objects, or addresses them; nobody else names the module."""
    importers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"core\.kinds(\.deployment\b| import .*\bdeployment\b)", path.read_text())
    }
    allowed = {"core/kinds/__init__.py", "admission/proposal.py", "cli/deployments.py"}
    assert importers <= allowed


def test_what_is_kept_of_a_kind_alone_is_read_by_its_module_alone() -> None:
    readers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "own"
    }
    assert readers == {"core/kinds/deployment.py"}


def test_a_workload_is_named_with_its_kind_unless_it_is_a_deployment() -> None:
    assert str(WorkloadId("shop", "cart")) == "shop/cart"
    assert str(WorkloadId("shop", "cart", "StatefulSet")) == "StatefulSet shop/cart"
    assert set(KINDS) == {"Deployment"}
