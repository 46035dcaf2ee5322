"""What a sidecar shares with the rest of its Pod and with its node, where nothing else checks it.

Containers of a Pod share the names of ports, by which Services and scrapers choose; a variable of ours hides one that
the application takes from a ConfigMap or Secret; a port of the node is there once; and a volume on the node's disk
keeps the cluster autoscaler from emptying the node. A mesh's redirection concerns everything that starts after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidecarpolicy.core.arithmetic.change import Change, Check, Finding
from sidecarpolicy.core.record import ENV, INIT_CONTAINERS, VOLUMES
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.names import WarningReason

# Meshes that redirect a Pod's traffic: the init container that does it, and the proxy that it is sent to.
MESHES = (("Istio", "istio-init", "istio-proxy"), ("Linkerd", "linkerd-init", "linkerd-proxy"))

# What tells the cluster autoscaler that it may evict a Pod all the same (its FAQ, "What types of pods can prevent CA
# from removing a node?").
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SAFE_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"


def hides_env_from(change: Change) -> Iterable[Finding]:
    """A variable of ours counts more than one of `envFrom`, and nobody sees whether there is one."""
    for container in (*items(change.after, INIT_CONTAINERS), *items(change.after, "containers")):
        for source in items(container, "envFrom"):
            of_container = (ENV, container["name"])
            ours = sorted(item.name for item in change.provided if (item.list, item.container) == of_container)
            prefix = str(source.get("prefix") or "")
            if hidden := [name for name in ours if name.startswith(prefix)]:
                yield Finding(
                    reason=WarningReason.HIDES_ENV_FROM,
                    message=f"container {container['name']!r} takes variables from {_source(source)} (envFrom): "
                    f"{', '.join(hidden)}, if it is among them, has the policy's value from now on; set it under env "
                    "to keep the application's",
                )


def shares_port_name(change: Change) -> Iterable[Finding]:
    """Two containers have a port of one name."""
    if not any(port.get("name") for container in _of_ours(change) for port in _ports(container)):
        return
    theirs = {
        str(port["name"]): container["name"]
        for container in (*items(change.after, "containers"), *items(change.after, INIT_CONTAINERS))
        if container["name"] not in change.ours
        for port in _ports(container)
        if port.get("name")
    }
    for container in _of_ours(change):
        for port in _ports(container):
            name = str(port.get("name") or "")
            if name in theirs:
                yield Finding(
                    reason=WarningReason.SHARED_PORT_NAME,
                    message=f"port {port.get('containerPort')} of sidecar {container['name']!r} is named {name!r}, as "
                    f"a port of container {theirs[name]!r} is: Services and scrapers choose ports by name; give it a "
                    "name of its own",
                )


def takes_host_port(change: Change) -> Iterable[Finding]:
    """A node can run only one Pod that takes one of its ports, so a rollout needs a node that runs none."""
    on_host = bool(change.after.get("hostNetwork"))
    for container in _of_ours(change):
        taken = [
            f"{number}/{port.get('protocol') or 'TCP'}"
            for port in _ports(container)
            if (number := port.get("hostPort") or (port.get("containerPort") if on_host else 0))
        ]
        if taken:
            why = " (the Pod has hostNetwork)" if on_host else ""
            yield Finding(
                reason=WarningReason.HOST_PORT,
                message=f"sidecar {container['name']!r} takes port {', '.join(taken)} of the node{why}: a node runs "
                "one such Pod only, so a rollout waits for a node that has none, for ever where there are no more "
                "nodes than replicas; take no hostPort, or set maxSurge: 0",
            )


def keeps_node(change: Change) -> Iterable[Finding]:
    """The cluster autoscaler evicts no Pod that has data on the node's disk, so the node stays."""
    if change.annotations.get(SAFE_TO_EVICT) == "true":
        return
    safe = {each.strip() for each in change.annotations.get(SAFE_VOLUMES, "").split(",")}
    local = [each["name"] for each in items(change.after, VOLUMES) if _is_local(each) and each["name"] not in safe]
    brought = {item.name for item in change.provided if item.list == VOLUMES}
    ours = [name for name in local if name in brought]
    if ours and len(ours) == len(local):
        yield Finding(
            reason=WarningReason.LOCAL_STORAGE,
            message=f"with volume {', '.join(map(repr, ours))} (emptyDir) the cluster autoscaler does not evict the "
            f"Pod by default, and keeps its node; the annotation {SAFE_VOLUMES}: {','.join(ours)!r} in the Pod "
            "template allows it, and medium: Memory is no local storage",
        )


def is_emptied(change: Change) -> Iterable[Finding]:
    """The owner's manifest has one of our lists without a value: kubectl takes that for a deletion, every time."""
    for listed, container in sorted({(item.list, item.container) for item in change.provided} & change.emptied):
        of = f" of container {container!r}" if container else ""
        yield Finding(
            reason=WarningReason.EMPTIED_BY_APPLY,
            message=f"its manifest has `{listed}:` without a value{of}: every kubectl apply takes out what is injected "
            "there, and the operator puts it back, with two rollouts; take the key out of the manifest and apply "
            "it",
        )


def waits_for_mesh(change: Change) -> Iterable[Finding]:
    """A mesh's init container sends all traffic to its proxy; what starts between the two reaches nobody."""
    ordered = [each["name"] for each in items(change.after, INIT_CONTAINERS)]
    present = {*ordered, *(each["name"] for each in items(change.after, "containers"))}
    for mesh, redirects, proxy in MESHES:
        if redirects not in ordered or proxy not in present or {redirects, proxy} & change.ours:
            continue
        until = ordered.index(proxy) if proxy in ordered else len(ordered)
        cut_off = [name for name in ordered[ordered.index(redirects) + 1 : until] if name in change.ours]
        if cut_off:
            yield Finding(
                reason=WarningReason.WAITS_FOR_MESH,
                message=f"sidecar {', '.join(map(repr, cut_off))} starts between {redirects!r} of {mesh} and its proxy "
                f"{proxy!r}: until the proxy runs it reaches no other Pod, and a startup probe that needs one never "
                "succeeds; use position BeforeInit, or make the proxy a native sidecar of the mesh",
            )


SHARING: tuple[Check, ...] = (hides_env_from, shares_port_name, takes_host_port, keeps_node, is_emptied, waits_for_mesh)


def _of_ours(change: Change) -> Iterator[Json]:
    return (each for each in items(change.after, INIT_CONTAINERS) if each["name"] in change.ours)


def _ports(container: Json) -> Iterator[Json]:
    return (each for each in items(container, "ports") if isinstance(each, dict))


def _source(source: Json) -> str:
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if field in source:
            return f"{kind} {at(source, field).get('name')!r}"
    return "a source"


def _is_local(volume: Json) -> bool:
    return "hostPath" in volume or ("emptyDir" in volume and at(volume, "emptyDir").get("medium") != "Memory")
