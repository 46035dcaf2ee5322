"""etcd, the API server, the controller manager and the scheduler: how they are started.

Every listener is on one address: 127.0.0.1, or the bridge of the real node, where the host and the
Pods both reach it and nobody else does. Ports are given, never defaults, so that control planes run
side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from localcluster import configs
from localcluster.certificates import Authority, KeyPair, signing_key
from localcluster.supervisor import Command, Supervisor

SERVICES = "10.96.0.0/16"
_SERVER_NAMES = (
    "127.0.0.1",
    "10.96.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)

_ENVIRONMENT = {"GOGC": "200"}
"""Heaps are small here: with Go's default a good part of the time goes into collecting them over and over."""

PORTS = ("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
"""What a control plane needs a port for (see node.py for the node's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where one control plane lives."""

    name: str
    folder: Path
    address: str
    """The address of the API server."""
    ports: Mapping[str, int]
    programs: Mapping[str, Path]
    node: bool

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.ports['kube-apiserver']}"

    @property
    def pki(self) -> Path:
        """The folder of keys and certificates."""
        return self.folder / "pki"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, JSON lines."""
        return self.folder / "logs" / "audit.jsonl"

    @property
    def etcd_data(self) -> Path:
        """The folder that etcd keeps everything in."""
        return self.folder / "data" / "etcd"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "admin.kubeconfig"

    @property
    def keeper(self) -> KeyPair:
        """The certificate of this package itself, which the audit log leaves out."""
        return KeyPair(certificate=self.pki / "keeper.crt", key=self.pki / "keeper.key")


def plan_of(supervisor: Supervisor) -> Plan:
    """Return the plan that a cluster was started by."""
    state = supervisor.state
    return Plan(
        name=state.name,
        folder=supervisor.folder,
        address=state.address,
        ports=state.ports,
        programs={program: Path(path) for program, path in state.programs.items()},
        node=state.node,
    )


def write_files(plan: Plan) -> None:
    """Write keys, certificates, kubeconfigs and the audit policy."""
    authority = Authority(plan.pki)
    authority.issue("kube-apiserver", "kube-apiserver", serves=list(dict.fromkeys([*_SERVER_NAMES, plan.address])))
    authority.issue("components", "components", serves=["127.0.0.1", "localhost"])
    authority.issue("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
    authority.issue("keeper", configs.KEEPER, ["system:masters"])
    signing_key(plan.pki, "service-accounts")
    write_kubeconfig(plan, "admin", "admin", ["system:masters"])
    for part in ("kube-controller-manager", "kube-scheduler"):
        write_kubeconfig(plan, part, f"system:{part}")
    configs.write(plan.folder / "audit-policy.json", configs.audit_policy())
    plan.audit_log.parent.mkdir(parents=True, exist_ok=True)
    plan.audit_log.touch(mode=0o600)


def write_kubeconfig(plan: Plan, file: str, user: str, groups: list[str] | None = None) -> Path:
    """Write ``<file>.kubeconfig`` with a fresh certificate for *user* in *groups*; return it."""
    pair = Authority(plan.pki).issue(file, user, groups or [])
    document = configs.kubeconfig(
        cluster=plan.name, server=plan.server, authority=plan.pki / "ca.crt", user=user, pair=pair
    )
    return configs.write(plan.folder / f"{file}.kubeconfig", document)


def etcd(plan: Plan) -> Command:
    """Return how etcd is started: its data goes with the cluster, so it never waits for the disk."""
    client, peer = (f"http://127.0.0.1:{plan.ports[name]}" for name in ("etcd", "etcd-peer"))
    return _command(
        plan,
        "etcd",
        data_dir=str(plan.etcd_data),
        unsafe_no_fsync="true",
        log_level="warn",
        listen_client_urls=client,
        advertise_client_urls=client,
        listen_peer_urls=peer,
        initial_advertise_peer_urls=peer,
        initial_cluster=f"default={peer}",
    )


def kube_apiserver(plan: Plan) -> Command:
    """Return how the API server is started.

    With a real node it publishes its address as the endpoint of ``kubernetes.default``; a loopback
    address is no valid endpoint, and simulated Pods connect to nothing.
    """
    reconciler = {} if plan.node else {"endpoint_reconciler_type": "none"}
    command = _command(
        plan,
        "kube-apiserver",
        bind_address=plan.address,
        secure_port=str(plan.ports["kube-apiserver"]),
        etcd_servers=f"http://127.0.0.1:{plan.ports['etcd']}",
        tls_cert_file=str(plan.pki / "kube-apiserver.crt"),
        tls_private_key_file=str(plan.pki / "kube-apiserver.key"),
        client_ca_file=str(plan.pki / "ca.crt"),
        kubelet_client_certificate=str(plan.pki / "kubelet-client.crt"),
        kubelet_client_key=str(plan.pki / "kubelet-client.key"),
        kubelet_certificate_authority=str(plan.pki / "ca.crt"),
        kubelet_preferred_address_types="Hostname",
        service_account_key_file=str(plan.pki / "service-accounts.pub"),
        service_account_signing_key_file=str(plan.pki / "service-accounts.key"),
        service_account_issuer="https://kubernetes.default.svc",
        service_cluster_ip_range=SERVICES,
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        enable_aggregator_routing="true",
        allow_privileged="true",
        audit_policy_file=str(plan.folder / "audit-policy.json"),
        audit_log_path=str(plan.audit_log),
        audit_log_mode="blocking",
        audit_log_maxsize="0",
        advertise_address=plan.address,
        **reconciler,
    )
    # busybox in a Pod names no signature algorithms, which means SHA-1, which Go refuses by default.
    return replace(command, environment={**command.environment, "GODEBUG": "tlssha1=1"})


def kube_controller_manager(plan: Plan) -> Command:
    """Return how the controller manager is started: with more workers and requests than by default."""
    return _command(
        plan,
        "kube-controller-manager",
        kubeconfig=str(plan.folder / "kube-controller-manager.kubeconfig"),
        leader_elect="false",
        bind_address="127.0.0.1",
        secure_port=str(plan.ports["kube-controller-manager"]),
        tls_cert_file=str(plan.pki / "components.crt"),
        tls_private_key_file=str(plan.pki / "components.key"),
        service_account_private_key_file=str(plan.pki / "service-accounts.key"),
        root_ca_file=str(plan.pki / "ca.crt"),
        cluster_signing_cert_file=str(plan.pki / "ca.crt"),
        cluster_signing_key_file=str(plan.pki / "ca.key"),
        use_service_account_credentials="true",
        kube_api_qps="200",
        kube_api_burst="400",
        concurrent_deployment_syncs="20",
        concurrent_replicaset_syncs="20",
    )


def kube_scheduler(plan: Plan) -> Command:
    """Return how the scheduler is started."""
    return _command(
        plan,
        "kube-scheduler",
        kubeconfig=str(plan.folder / "kube-scheduler.kubeconfig"),
        leader_elect="false",
        bind_address="127.0.0.1",
        secure_port=str(plan.ports["kube-scheduler"]),
        tls_cert_file=str(plan.pki / "components.crt"),
        tls_private_key_file=str(plan.pki / "components.key"),
        kube_api_qps="200",
        kube_api_burst="400",
    )


def _command(plan: Plan, program: str, **flags: str) -> Command:
    """Return a command line with one ``--long-flag=value`` per keyword."""
    return Command(
        component=program,
        arguments=(
            str(plan.programs[program]),
            *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()),
        ),
        environment=_ENVIRONMENT,
    )
