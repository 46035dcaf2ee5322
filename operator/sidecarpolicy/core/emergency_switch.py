"""The emergency switch: an annotation on something of the operator's own, and while it is there no workload is changed.

It is on the operator's Namespace, which outlives the operator and its Lease. An operator that serves some namespaces
only may read no Namespace, and whoever runs it may seldom write one: there it is on the Lease, which the operator reads
every few seconds anyway.
"""

from __future__ import annotations

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json, at


def bearer(operator_namespace: str, *, namespaced: bool) -> str:
    """What bears the switch, as people call it; *namespaced*: the operator serves some namespaces only."""
    return f"Lease {operator_namespace}/{names.CONTROLLER}" if namespaced else f"namespace {operator_namespace}"


def reason_of(metadata: Json) -> str:
    """Why everything is stopped, by the *metadata* of what bears the switch: its value; empty where it is off."""
    # In an emergency nobody should have to know how "true" is spelt.
    value = str(at(metadata, "annotations").get(names.STOP, "false"))
    return "" if value == "false" else value or "true"


def is_on(metadata: Json) -> bool:
    """Whether the switch is on, by the *metadata* of what bears it."""
    return bool(reason_of(metadata))
