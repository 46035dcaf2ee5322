"""Configuration of containerd, CNI, kubelet and kube-proxy, and the facts about machines that shape it.

Every path that one of them would otherwise choose under /var/lib, /usr/libexec or /opt is set to a
folder of ours, so that removing two folders removes the node.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from localcluster import bridge, cgroups, images
from localcluster.control_plane import Plan

NODE = "localhost"
"""The node's name: it resolves everywhere, so that logs and exec need no DNS."""

ROOT = Path("/var/lib/sidecarpolicy-node")
"""Images, volumes, Pod logs."""
RUN = Path("/run/sidecarpolicy-node")
"""Sockets and run-time state; short, because a socket's path has at most 107 bytes."""
SOCKET = RUN / "containerd.sock"
CNI = ROOT / "cni"
NETWORK = "sidecarpolicy"

_SYS_RESOURCE = 24
"""The number of CAP_SYS_RESOURCE."""


def containerd(cni_plugins: Path) -> str:
    """Return containerd's configuration (TOML, version 2: read by containerd 1.6 to 2.x)."""
    return f"""\
version = 2
root = "{ROOT}/containerd"
state = "{RUN}/containerd"
# The first of these would create /opt/containerd; the others only complain.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  # Without CAP_SYS_RESOURCE runc may not lower oom_score_adj, and every sandbox would die of it.
  restrict_oom_score_adj = {str(not may_lower_oom_score()).lower()}
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter()}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{RUN}/runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{CNI}"
"""


def cni_network(subnet: str) -> str:
    """Return the CNI network: one bridge, addresses from *subnet*.

    No port mapping (hostPort does nothing) and no masquerading per Pod: both would leave chains in the
    packet filter when a Pod dies with its node.
    """
    document = {
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge.NAME,
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(RUN / "addresses"),
                    "ranges": [[{"subnet": subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    return json.dumps(document, indent=2)


def kubelet(plan: Plan) -> dict[str, Any]:
    """Return the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": plan.ports["kubelet"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": plan.ports["kubelet-health"],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plan.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(plan.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(plan.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.NAME}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(ROOT / "pod-logs"),
        "volumePluginDir": str(ROOT / "volume-plugins"),
        "resolvConf": "/etc/resolv.conf" if Path("/etc/resolv.conf").exists() else "",
        # A developer's disk may be fuller than a server's, and images cannot be pulled again.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 200,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }


def kube_proxy(plan: Plan, subnet: str) -> dict[str, Any]:
    """Return kube-proxy's configuration: iptables, and no kernel setting that may be read-only."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(plan.folder / "kube-proxy.kubeconfig")},
        "hostnameOverride": NODE,
        "clusterCIDR": subnet,
        "healthzBindAddress": f"127.0.0.1:{plan.ports['kube-proxy-health']}",
        "metricsBindAddress": f"127.0.0.1:{plan.ports['kube-proxy-metrics']}",
        "nodePortAddresses": ["primary"],
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "iptables": {
            "localhostNodePorts": False,
            "masqueradeAll": not bridge.filters_bridged_packets(),
            "minSyncPeriod": "0s",
        },
    }


def may_lower_oom_score() -> bool:
    """Return whether this process has CAP_SYS_RESOURCE."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)
    return False


def snapshotter() -> str:
    """Return how containerd stacks layers: overlay, or copies where the disk is itself an overlay."""
    kinds = {}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        kinds[Path(place)] = kind
    nearest = next(folder for folder in (ROOT, *ROOT.parents) if folder in kinds)
    return "native" if kinds[nearest] == "overlay" else "overlayfs"
