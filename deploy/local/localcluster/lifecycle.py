"""How a cluster starts and stops.

The order is: programs, then (with a real node) the node's lock and bridge, keys and configuration,
etcd and the API server, then everything that talks to it at once. If any step fails, or the starter
is interrupted, whatever was started is stopped again, and the logs stay.

A cluster is thrown away when it stops: its folder goes, data and keys included. Starting takes
seconds, so there is nothing worth keeping.
"""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from localcluster import binaries, cache, control_plane, ports, processes, simulated
from localcluster import node as real_node
from localcluster.cluster import Cluster
from localcluster.control_plane import plan_of
from localcluster.errors import (
    AlreadyRunningError,
    ClusterError,
    ComponentError,
    NotRunningError,
    UnsupportedError,
)
from localcluster.narration import say
from localcluster.readiness import await_component, server_of
from localcluster.supervisor import State, Supervisor

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_GRACE = 0.2
"""Seconds a component gets to end by itself before it is killed; its data is thrown away anyway."""
_CONTROL_PLANE = ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


def start(
    name: str,
    *,
    node: bool = False,
    simulated_nodes: int = 0,
    controllers: bool = True,
    taint_simulated: bool | None = None,
    etcd_data: Path | None = None,
) -> Cluster:
    """Start a cluster and return when it is ready for work.

    :param name: lower-case letters, digits and dashes, at most 40; one cluster per name.
    :param node: with the real node of this machine (containerd, kubelet, kube-proxy); needs root on Linux.
    :param simulated_nodes: how many nodes kwok plays.
    :param controllers: with controller manager and scheduler; without, only etcd and the API server.
    :param taint_simulated: keep ordinary Pods off the simulated nodes; by default if there is a real one.
    :param etcd_data: begin with a copy of this folder as etcd's data (``Cluster.etcd_data`` of one of this version).
    :raises ClusterError: says what failed; everything that was started has been stopped, logs are kept.
    """
    if not sys.platform.startswith("linux"):
        raise UnsupportedError(
            "A local cluster needs Linux. SIDECARPOLICY_CLUSTER=current uses your own cluster instead."
        )
    if not NAME.fullmatch(name):
        raise ClusterError(f"{name!r} is no name for a cluster: use up to 40 of a-z, 0-9 and dashes inside.")
    tainted = node if taint_simulated is None else taint_simulated
    if node:
        real_node.prepare_machine(cache.clusters() / name)
    programs = binaries.require(_programs(node=node, kwok=simulated_nodes > 0, controllers=controllers))
    folder = cache.clusters() / name
    with _exclusively(name):
        _clear_the_way(name, folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            supervisor = _settle(name, folder, programs, node=node)
            if etcd_data:
                shutil.copytree(etcd_data, plan_of(supervisor).etcd_data)
            _start_control_plane(supervisor, controllers=controllers)
            if simulated_nodes:
                _start_simulated(supervisor, simulated_nodes, tainted=tainted, wait=controllers)
            if node:
                real_node.start(supervisor, plan_of(supervisor), server_of(supervisor))
            supervisor.check()
        except BaseException:
            _dismantle(folder, keep_logs=True)
            raise
        return _cluster(supervisor)


def attach(name: str) -> Cluster:
    """Return the running cluster called *name*.

    :raises NotRunningError: if there is none.
    """
    supervisor = Supervisor.load(cache.clusters() / name)
    if supervisor is None or not any(each.process.alive for each in supervisor.state.components.values()):
        raise NotRunningError(f"No cluster called {name} is running: `make cluster-up CLUSTER={name}` starts it.")
    return _cluster(supervisor)


def stop(name: str) -> None:
    """Stop the cluster called *name* and remove all of it, also what is left of a half-dead one."""
    folder = cache.clusters() / name
    with _exclusively(name):
        there = folder.exists() or bool(processes.marked(folder)) or real_node.owned_by(folder)
        if there:
            _dismantle(folder, keep_logs=False)


def names() -> list[str]:
    """Return the names of the clusters that have a state on this machine, running or not."""
    return sorted(state.parent.name for state in cache.clusters().glob("*/state.json"))


def _exclusively(name: str) -> AbstractContextManager[None]:
    return cache.locked(
        cache.clusters() / f".{name}.lock", f"Another process is starting or stopping {name}; waiting for it."
    )


def _programs(*, node: bool, kwok: bool, controllers: bool) -> list[str]:
    wanted = ["etcd", "kube-apiserver", "kubectl"]
    if controllers:
        wanted += ["kube-controller-manager", "kube-scheduler"]
    if node:
        wanted += ["kubelet", "kube-proxy"]
    if kwok:
        wanted.append("kwok")
    return wanted


def _clear_the_way(name: str, folder: Path) -> None:
    """Remove what is left of an earlier cluster of this name.

    :raises AlreadyRunningError: if that one is whole and running.
    """
    earlier = Supervisor.load(folder)
    if earlier and earlier.state.components:
        alive = [earlier.alive(component) for component in earlier.state.components]
        if all(alive):
            raise AlreadyRunningError(f"{name} is already running. `make cluster-down CLUSTER={name}` stops it.")
        say(f"{name} was left {'half' if any(alive) else 'not'} running: clearing it away.")
    if folder.exists() or processes.marked(folder):
        _dismantle(folder, keep_logs=False)


def _settle(name: str, folder: Path, programs: dict[str, Path], *, node: bool) -> Supervisor:
    """Take ports (and the machine's node), write the files, and return the supervisor of what will run."""
    address = real_node.claim(name, folder) if node else "127.0.0.1"
    wanted = [*control_plane.PORTS, *(real_node.PORTS if node else ())]
    with cache.locked(cache.clusters() / ".ports.lock", "Another cluster is choosing its ports; waiting for it."):
        chosen = ports.choose(len(wanted), _taken_ports())
        supervisor = Supervisor(
            folder,
            State(
                name=name,
                address=address,
                ports=dict(zip(wanted, chosen, strict=True)),
                node=node,
                programs={program: str(path) for program, path in programs.items()},
            ),
        )
        supervisor.save()
    control_plane.write_files(plan_of(supervisor))
    return supervisor


def _taken_ports() -> set[int]:
    known = (Supervisor.load(cache.clusters() / name) for name in names())
    return {port for each in known if each for port in each.state.ports.values()}


def _start_control_plane(supervisor: Supervisor, *, controllers: bool) -> None:
    plan = plan_of(supervisor)
    supervisor.start(control_plane.etcd(plan))
    supervisor.start(control_plane.kube_apiserver(plan))
    await_component(supervisor, "kube-apiserver")
    if controllers:
        supervisor.start(control_plane.kube_controller_manager(plan))
        supervisor.start(control_plane.kube_scheduler(plan))
        await_component(supervisor, "kube-controller-manager")
        await_component(supervisor, "kube-scheduler")


def _start_simulated(supervisor: Supervisor, count: int, *, tainted: bool, wait: bool) -> None:
    plan, server = plan_of(supervisor), server_of(supervisor)
    control_plane.write_kubeconfig(plan, "kwok", "system:kwok", ["system:masters"])
    supervisor.start(simulated.kwok(plan))
    simulated.create_nodes(server, count, tainted=tainted)
    if wait:
        supervisor.wait(
            "kwok",
            f"playing {count} ready nodes",
            lambda: simulated.ready_nodes(server) == count,
            seconds=60 + count / 10,
        )


def _dismantle(folder: Path, *, keep_logs: bool) -> None:
    """Stop every process of the cluster in *folder* and remove its files and its node."""
    supervisor = Supervisor.load(folder)
    if real_node.owned_by(folder):
        real_node.dismantle(folder, supervisor)
    if supervisor:
        supervisor.stop(*_CONTROL_PLANE, grace=_GRACE)
    strays = processes.marked(folder)
    if left := processes.stop(strays, grace=_GRACE):
        raise ComponentError(folder.name, f"left processes that cannot be killed: {[each.pid for each in left]}", None)
    processes.reap(strays)
    if not folder.exists():
        return
    for entry in folder.iterdir():
        if entry.name == "logs" and keep_logs:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _cluster(supervisor: Supervisor) -> Cluster:
    plan = plan_of(supervisor)
    return Cluster(
        plan.name,
        kubeconfig=plan.kubeconfig,
        kubectl_path=plan.programs["kubectl"],
        server=plan.server,
        ca_file=plan.pki / "ca.crt",
        audit_log=plan.audit_log,
        etcd_data=plan.etcd_data,
        supervisor=supervisor,
        on_stop=lambda: stop(plan.name),
    )
