"""Who a policy and a workload are. Identities are values, never joined strings.

Named tuples rather than dataclasses: they are keys of every dictionary, and hashing them is what costs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sidecarpolicy import names


class PolicyId(NamedTuple):
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
    def of(cls, body: Mapping[str, Any]) -> PolicyId:
        """Return whose object *body* is."""
        metadata = body["metadata"]
        return cls(kind=body["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"])

    @classmethod
    def parse(cls, text: str) -> PolicyId:
        """Read what `str` wrote; raise ValueError for anything else."""
        kind, namespace, name = text.split("/")
        if kind not in names.PLURALS or not name or (kind == names.CLUSTER_POLICY) != (not namespace):
            raise ValueError(f"{text!r} names no policy")
        return cls(kind=kind, namespace=namespace, name=name)


class WorkloadId(NamedTuple):
    """A workload; a Deployment where nothing else is said."""

    namespace: str
    name: str
    kind: str = "Deployment"

    def __str__(self) -> str:
        """As people name it: `shop/cart`, and of another kind `StatefulSet shop/cart`."""
        place = f"{self.namespace}/{self.name}"
        return place if self.kind == self._field_defaults["kind"] else f"{self.kind} {place}"


def namespaces_in_words(namespaces: Collection[str]) -> str:
    """Return `namespace shop`, `namespaces bank, shop`, or `the whole cluster` where there are none."""
    if not namespaces:
        return "the whole cluster"
    return f"{'namespace' if len(namespaces) == 1 else 'namespaces'} {', '.join(sorted(namespaces))}"
