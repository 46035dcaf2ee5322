"""Who a policy and a workload are. Identities are values, never joined strings."""

from __future__ import annotations

from dataclasses import dataclass

from sidecarpolicy import names


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PolicyId:
    """A SidecarPolicy or ClusterSidecarPolicy; *namespace* is empty for the cluster kind."""

    kind: str
    namespace: str
    name: str

    @property
    def cluster_wide(self) -> bool:
        """True for a ClusterSidecarPolicy."""
        return self.kind == names.CLUSTER_POLICY

    @property
    def label(self) -> str:
        """As people name it: `SidecarPolicy shop/web`, `ClusterSidecarPolicy mesh`."""
        return f"{self.kind} {self.name if self.cluster_wide else f'{self.namespace}/{self.name}'}"

    def __str__(self) -> str:
        """As the record spells it: `SidecarPolicy/shop/web`, `ClusterSidecarPolicy//mesh`."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> PolicyId:
        """Read what `str` wrote; raise ValueError for anything else."""
        kind, namespace, name = text.split("/")
        if kind not in names.PLURALS or not name or (kind == names.CLUSTER_POLICY) != (not namespace):
            raise ValueError(f"{text!r} names no policy")
        return cls(kind=kind, namespace=namespace, name=name)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WorkloadId:
    """A Deployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
