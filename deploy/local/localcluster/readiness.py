"""How each component shows that it serves."""

from __future__ import annotations

from collections.abc import Callable

from localcluster import node
from localcluster.apiserver import ApiServer
from localcluster.control_plane import plan_of
from localcluster.supervisor import Supervisor

_SECONDS = 60.0


def server_of(supervisor: Supervisor) -> ApiServer:
    """Return a way to ask the cluster's API server."""
    plan = plan_of(supervisor)
    return ApiServer(plan.address, plan.ports["kube-apiserver"], plan.pki / "ca.crt", plan.keeper)


def await_component(supervisor: Supervisor, component: str) -> None:
    """Return when *component* serves.

    :raises ComponentError: if any component dies meanwhile, or a minute passes.
    """
    supervisor.wait(component, "ready", _check(supervisor, component), seconds=_SECONDS)


def _check(supervisor: Supervisor, component: str) -> Callable[[], bool]:
    server, plan = server_of(supervisor), plan_of(supervisor)

    def healthy() -> bool:
        own = ApiServer("127.0.0.1", plan.ports[component], plan.pki / "ca.crt", plan.keeper)
        return own.answers("/healthz")

    match component:
        case "kube-controller-manager":
            # It answers before its controllers work; Pods need the service account that one of them makes.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            return lambda: healthy() and server.answers(account)
        case "kube-scheduler":
            return healthy
        case "containerd" | "kubelet" | "kube-proxy":
            return lambda: node.serves(component, plan)
        case _:
            return lambda: server.answers("/readyz")
