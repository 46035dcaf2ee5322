"""`kubectl wait --for=condition=…` as a judge: its rule (`kubectl/pkg/cmd/wait/condition.go`) in Python.

`test_waiting.py` asks kubectl itself.
"""

from __future__ import annotations

from sidecarpolicy.core.tree import Json, at, items


def wait_ends(policy: Json, condition: str = "Ready", status: str = "True") -> bool:
    """Whether `kubectl wait --for=condition=<condition>=<status>` ends; a condition of an older generation is none."""
    for each in items(at(policy, "status"), "conditions"):
        if each["type"].lower() == condition.lower():
            observed = each.get("observedGeneration", policy["status"].get("observedGeneration"))
            if observed is not None and observed < policy["metadata"]["generation"]:
                return False
            return bool(each["status"].lower() == status.lower())
    return False
