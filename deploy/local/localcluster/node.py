"""The one real node of a machine: containerd, kubelet and kube-proxy as plain processes.

Its files are in fixed places (``node_configs.ROOT`` and ``RUN``), its owner is written down
(node_lock.py), and stopping it is one way for all cases: end the processes, then remove every trace
by its known name (leftovers.py). containerd's shims outlive it on purpose; they carry our mark in
their environment, and what runs in containers is in our control group.
"""

from __future__ import annotations

import http
import http.client
import os
import subprocess
from pathlib import Path

from localcluster import (
    bridge,
    cgroups,
    configs,
    control_plane,
    firewall,
    images,
    leftovers,
    node_lock,
    packages,
    processes,
)
from localcluster import node_configs as facts
from localcluster.apiserver import ApiServer
from localcluster.certificates import Authority
from localcluster.control_plane import Plan
from localcluster.errors import ClusterError, NodeTakenError, UnsupportedError
from localcluster.narration import say
from localcluster.node_lock import Owner
from localcluster.simulated import is_ready
from localcluster.supervisor import Command, Supervisor

PORTS = ("kubelet", "kubelet-health", "kube-proxy-health", "kube-proxy-metrics")
"""What a real node needs a port for, beside those of the control plane."""

_COMPONENTS = ("kubelet", "kube-proxy", "containerd")
_GRACE = 3.0


def prepare_machine(folder: Path) -> None:
    """Return if this machine can run a real node for the cluster in *folder*; install what is missing.

    :raises UnsupportedError: saying what is in the way.
    :raises NodeTakenError: if another cluster that lives owns it.
    """
    if os.geteuid() != 0:
        raise UnsupportedError("A real node needs root.")
    owner = _check_not_taken(folder)
    packages.install(packages.missing())
    if owner is None:
        firewall.check()


def claim(name: str, folder: Path) -> str:
    """Make the cluster *name* the owner of the node and set up the bridge; return the bridge's address.

    :raises NodeTakenError: if another cluster that lives owns it.
    :raises UnsupportedError: if another Kubernetes or the machine is in the way.
    """
    with node_lock.guarded():
        if owner := _check_not_taken(folder):
            say(f"Clearing away what {owner} left of the real node.")
            _remove(owner)
        firewall.check()
        node_lock.take(name, folder, forwarding=bridge.forwards())
    subnet = bridge.free_subnet()
    cgroups.create()
    bridge.create(subnet)
    for place in (facts.ROOT, facts.RUN, facts.CNI):
        place.mkdir(parents=True, exist_ok=True, mode=0o711)
    (facts.CNI / "10-bridge.conflist").write_text(facts.cni_network(str(subnet)), encoding="utf-8")
    return bridge.address_of(subnet)


def owner() -> Owner | None:
    """Return which cluster owns the real node, if one does."""
    return node_lock.owner()


def owned_by(folder: Path) -> bool:
    """Return whether the cluster in *folder* owns the real node."""
    owner = node_lock.owner()
    return owner is not None and owner.folder == folder


def start(supervisor: Supervisor, plan: Plan, server: ApiServer) -> None:
    """Start containerd, kubelet and kube-proxy; return when the node is ready for Pods.

    :raises ComponentError: naming the one that did not come up.
    """
    _write_files(plan)
    supervisor.start(
        Command(
            component="containerd",
            arguments=(str(packages.program("containerd")), "--config", str(plan.folder / "containerd.toml")),
        )
    )
    supervisor.wait("containerd", "ready", lambda: serves("containerd", plan), seconds=30)
    for archive in (images.pause(), images.busybox(1), images.busybox(2)):
        load_image(archive)
    supervisor.start(_kubelet(plan))
    supervisor.start(
        Command(
            component="kube-proxy",
            arguments=(str(plan.programs["kube-proxy"]), f"--config={plan.folder / 'kube-proxy.json'}"),
        )
    )
    supervisor.wait("kube-proxy", "ready", lambda: serves("kube-proxy", plan), seconds=60)
    supervisor.wait(
        "kubelet",
        f"running a ready node called {facts.NODE}",
        lambda: is_ready(server.read(f"/api/v1/nodes/{facts.NODE}")),
        seconds=90,
    )


def serves(component: str, plan: Plan) -> bool:
    """Return whether one of the node's components answers."""
    if component == "containerd":
        return _ctr("version", seconds=5) is None
    connection = http.client.HTTPConnection("127.0.0.1", plan.ports[f"{component}-health"], timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def load_image(archive: Path) -> None:
    """Import the images of a Docker archive into containerd.

    :raises ClusterError: if containerd refuses them or does not answer.
    """
    if refused := _ctr("--namespace=k8s.io", "images", "import", str(archive), seconds=120):
        raise ClusterError(f"containerd could not import {archive}: {refused}")


def dismantle(folder: Path, supervisor: Supervisor | None) -> None:
    """End the node of the cluster in *folder*, however it is, and remove every trace of it.

    :raises ClusterError: if something cannot be ended or removed; the node stays owned then.
    """
    with node_lock.guarded():
        owner = node_lock.owner()
        if owner is None or owner.folder != folder:
            return
        if supervisor:
            supervisor.stop(*_COMPONENTS, grace=_GRACE)
            _kube_proxy_cleanup(supervisor)
        _remove(owner)


def _check_not_taken(folder: Path) -> Owner | None:
    """Return the owner that is written down, if it is the cluster in *folder* or dead.

    :raises NodeTakenError: if it is another one and alive.
    """
    owner = node_lock.owner()
    if owner and owner.folder != folder and owner.alive:
        raise NodeTakenError(
            f"The one real node of this machine belongs to {owner}.\n"
            f"  `make cluster-down CLUSTER={owner.cluster}` stops it; or start this one without a real node."
        )
    return owner


def _remove(owner: Owner) -> None:
    """Remove every trace of the node of *owner*, whose processes end now, and the ownership."""
    strays = processes.marked(owner.folder)
    processes.stop(strays, grace=0)
    processes.reap(strays)
    leftovers.remove()
    if not owner.forwarding and bridge.forwards():
        bridge.set_forwarding(on=False)
    node_lock.release()


def _kube_proxy_cleanup(supervisor: Supervisor) -> None:
    """Let kube-proxy remove its rules its own way; what it forgets, leftovers.py removes."""
    program = supervisor.state.programs.get("kube-proxy")
    if program is None or "kube-proxy" not in supervisor.state.components:
        return
    with supervisor.log("kube-proxy").open("ab") as log:
        try:
            subprocess.run(
                [program, "--cleanup"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"kube-proxy --cleanup did not work ({error}); its rules are removed without it.")


def _write_files(plan: Plan) -> None:
    authority = Authority(plan.pki)
    authority.issue("kubelet-server", "kubelet", serves=[facts.NODE, "127.0.0.1", plan.address])
    control_plane.write_kubeconfig(plan, "kubelet", f"system:node:{facts.NODE}", ["system:nodes"])
    control_plane.write_kubeconfig(plan, "kube-proxy", "system:kube-proxy")
    subnet = f"{plan.address.rpartition('.')[0]}.0/24"
    plugins = packages.cni_plugins()
    if plugins is None:
        raise UnsupportedError("The CNI plugins are missing (Debian: containernetworking-plugins).")
    (plan.folder / "containerd.toml").write_text(facts.containerd(plugins), encoding="utf-8")
    configs.write(plan.folder / "kubelet.json", facts.kubelet(plan))
    configs.write(plan.folder / "kube-proxy.json", facts.kube_proxy(plan, subnet))


def _kubelet(plan: Plan) -> Command:
    return Command(
        component="kubelet",
        arguments=(
            str(plan.programs["kubelet"]),
            f"--config={plan.folder / 'kubelet.json'}",
            f"--kubeconfig={plan.folder / 'kubelet.kubeconfig'}",
            f"--hostname-override={facts.NODE}",
            f"--node-ip={plan.address}",
            f"--root-dir={facts.ROOT / 'kubelet'}",
            f"--cert-dir={facts.ROOT / 'kubelet-certificates'}",
        ),
    )


def _ctr(*arguments: str, seconds: float) -> str | None:
    """Run containerd's own client; return None if it worked, otherwise what it said."""
    try:
        done = subprocess.run(
            [packages.program("ctr"), f"--address={facts.SOCKET}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {seconds:.0f} s"
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
