"""A real Kubernetes on this machine, from source, without Docker: for tests, the demo and benchmarks.

``start`` brings up etcd, the API server, the controller manager and the scheduler as plain
processes, with simulated nodes (kwok), or with the machine's one real node (containerd, kubelet,
kube-proxy). ``Cluster.stop`` removes every trace. ``python -m localcluster up|down|status`` does the
same from a shell.

    with localcluster.start("demo", simulated_nodes=3) as cluster:
        cluster.kubectl("create", "deployment", "shop", "--image=shop:1")

Not here: cluster DNS (use KUBERNETES_SERVICE_HOST or cluster IPs), a registry (images are built
locally, see ``localcluster.images``), storage, load balancers.
"""

from localcluster.cluster import Cluster
from localcluster.current import current
from localcluster.errors import ClusterError
from localcluster.lifecycle import attach, names, start, stop

__all__ = ["Cluster", "ClusterError", "attach", "current", "names", "start", "stop"]
