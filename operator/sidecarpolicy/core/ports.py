"""Which ports a container claims. All containers of a Pod share its network, and the API server checks no clashes."""

from __future__ import annotations

from sidecarpolicy.core.tree import Json, items

Port = tuple[str, int, str]
"""("containerPort" or "hostPort", number, protocol)"""


def claimed_ports(container: Json) -> frozenset[Port]:
    """Return the ports that *container* declares; entries that are no ports are left to the API server."""
    return frozenset(
        (field, port[field], str(port.get("protocol") or "TCP"))
        for port in items(container, "ports")
        if isinstance(port, dict)
        for field in ("containerPort", "hostPort")
        if isinstance(port.get(field), int) and port[field]
    )
