"""Nodes, as far as a native sidecar depends on them: where a Pod may land, and what kubelet and system run there.

A kubelet below 1.28 takes a native sidecar for an ordinary init container, and its Pod waits in `Init:0/1` for ever;
1.28 needs a feature gate and knows no order at the end (KEP-753). From 1.29 on they are on by default, from 1.33 on
stable.

A Pod may land where its `nodeSelector`, its required node affinity and its tolerations allow it, as the scheduler has
it (component-helpers, scheduling/corev1). What a template demands of a node is a text: equal demands are equal texts,
and a fleet of thousands has a few. PASSING_TAINTS do not count, nor does a cordon: they come and go with the state of
a node, and a Pod may land there an hour later. Tolerations with `Gt` or `Lt` (behind a feature gate) tolerate nothing.

Not in it: what admission adds (the scheduling of a RuntimeClass, the node selector of a namespace); and room on a node,
Pod affinity and topology spread, which decide among nodes and forbid none for good.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from sidecarpolicy.core.tree import Json, at, compact, items

Version = tuple[int, int]
"""Major and minor."""

NATIVE: Version = (1, 29)  # SidecarContainers is on by default (KEP-753)
SETTLED: Version = (1, 33)  # and stable
UNREADABLE: Version = (0, 0)

OS_LABEL, WINDOWS = "kubernetes.io/os", "windows"

# How the keys of taints begin that tell the state of a node, and go again: Kubernetes' own, and those of what scales a
# cluster or sets its network up (cluster-autoscaler, Karpenter, Cilium).
PASSING_TAINTS = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "ignore-taint.cluster-autoscaler.kubernetes.io/",
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "status-taint.cluster-autoscaler.kubernetes.io/",
    "karpenter.sh/",
    "node.cilium.io/",
)
KEEPS_OUT = ("NoSchedule", "NoExecute")

ANYWHERE = ""
"""The demand of a template that demands nothing."""


def version_of(text: str) -> Version:
    """Return major and minor of `v1.37.2-gke.100`; UNREADABLE for what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else UNREADABLE


def kubelet_version(text: str) -> Version:
    """Return major and minor of a kubelet; UNREADABLE also for 0.x, which is the version of what plays one."""
    version = version_of(text)
    return version if version[0] else UNREADABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What matters of a node. *kubelet*: its version as the kubelet writes it. *taints*: those that keep Pods out."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[tuple[str, str, str], ...] = ()
    kubelet: str = ""
    windows: bool = False

    @property
    def version(self) -> Version:
        """The kubelet's major and minor."""
        return kubelet_version(self.kubelet)

    @property
    def rank(self) -> tuple[Version, int, str]:
        """Which of several is named: the oldest, then in an order that no upgrade follows, so it seldom changes."""
        return (self.version, crc32(self.name.encode()), self.name)


def node_from(body: Mapping[str, Any]) -> Node:
    """Return what matters of the Node *body*."""
    metadata, told = at(body, "metadata"), at(body, "status", "nodeInfo")
    labels: Mapping[str, str] = at(metadata, "labels")
    return Node(
        name=metadata["name"],
        labels=labels,
        taints=tuple(
            (taint["key"], taint.get("value") or "", taint["effect"])
            for taint in items(at(body, "spec"), "taints")
            if taint.get("effect") in KEEPS_OUT and not taint["key"].startswith(PASSING_TAINTS)
        ),
        kubelet=str(told.get("kubeletVersion") or ""),
        windows=(told.get("operatingSystem") or labels.get(OS_LABEL)) == WINDOWS,
    )


class Kubelet(NamedTuple):
    """Where a kubelet runs, and its version as it writes it."""

    node: str
    text: str

    def __str__(self) -> str:
        return f"node {self.node} has kubelet {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligible:
    """The nodes on which a Pod may land, as far as it matters.

    *known*: whether there is one; *seen*: whether any node is known at all. *oldest*: the oldest kubelet, where that is
    older than SETTLED. *windows*: the name of one of them, where all run Windows.
    """

    known: bool
    seen: bool = True
    oldest: Kubelet | None = None
    windows: str = ""

    @property
    def too_old(self) -> Kubelet | None:
        """One that does not have native sidecars, if there is one."""
        return self.oldest if self.oldest is not None and kubelet_version(self.oldest.text) < NATIVE else None

    @property
    def beta(self) -> Kubelet | None:
        """The oldest one, where it has them as beta."""
        return self.oldest if self.too_old is None else None


NO_NODE = Eligible(known=False)
"""There are nodes, and none of them fits."""

NOTHING_SEEN = Eligible(known=False, seen=False)
"""No node is known: there is none, or they may not be read."""


def demand_of(spec: Json) -> str:
    """Return what a Pod's *spec* demands of a node; ANYWHERE for nothing."""
    asked = {
        "name": spec.get("nodeName"),
        "labels": spec.get("nodeSelector"),
        "terms": items(
            at(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"), "nodeSelectorTerms"
        ),
        "tolerations": spec.get("tolerations"),
    }
    asked = {key: value for key, value in asked.items() if value}
    return sys.intern(compact(asked)) if asked else ANYWHERE


@dataclass(frozen=True, slots=True)
class Demand:
    """What a template demands of a node, decoded."""

    asked: Json

    @classmethod
    def read(cls, text: str) -> Demand:
        """Decode what `demand_of` returned."""
        return cls(json.loads(text) if text else {})

    @property
    def labels(self) -> frozenset[str]:
        """The keys of labels by which it tells nodes apart."""
        named = {each.get("key", "") for term in self._terms for each in items(term, "matchExpressions")}
        return frozenset(named | (self.asked.get("labels") or {}).keys())

    @property
    def names(self) -> frozenset[str]:
        """The nodes that it calls by name."""
        fields = (each for term in self._terms for each in items(term, "matchFields"))
        named = {str(value) for each in fields for value in each.get("values") or ()}
        return frozenset(named | ({self.asked["name"]} if self.asked.get("name") is not None else set()))

    @property
    def _terms(self) -> list[Json]:
        return self.asked.get("terms") or []

    def fits(self, node: Node) -> bool:
        """Whether a Pod may land on *node*."""
        if (name := self.asked.get("name")) is not None:  # it is bound already, and no scheduler looks at it
            return bool(name == node.name)
        labels: Mapping[str, str] = self.asked.get("labels") or {}
        if any(node.labels.get(key) != value for key, value in labels.items()):
            return False
        if self._terms and not any(_holds(term, node) for term in self._terms):
            return False
        tolerations: list[Json] = self.asked.get("tolerations") or []
        return all(any(_tolerates(each, taint) for each in tolerations) for taint in node.taints)


def _holds(term: Json, node: Node) -> bool:
    """Whether a term of a node selector matches; one that says nothing matches nothing."""
    of_labels, of_fields = items(term, "matchExpressions"), items(term, "matchFields")
    if not of_labels and not of_fields:
        return False
    fields = {"metadata.name": node.name}
    return all(_matches(each, node.labels) for each in of_labels) and all(_matches(each, fields) for each in of_fields)


def _matches(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or []
    test = OPERATORS.get(expression.get("operator", ""))
    return test is not None and test(labels.get(key), values)


def _compares(found: str | None, values: Iterable[str]) -> int | None:
    """The difference between a label and the one value that it is compared with; None where one is no number."""
    try:
        (value,) = values
        return int(found or "") - int(value)
    except ValueError:
        return None


OPERATORS: Mapping[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda found, values: found in values,
    "NotIn": lambda found, values: found not in values,
    "Exists": lambda found, values: found is not None,
    "DoesNotExist": lambda found, values: found is None,
    "Gt": lambda found, values: (_compares(found, values) or 0) > 0,
    "Lt": lambda found, values: (_compares(found, values) or 0) < 0,
}


def _tolerates(toleration: Json, taint: tuple[str, str, str]) -> bool:
    """Whether a toleration covers a taint (k8s.io/api/core/v1, ToleratesTaint)."""
    key, value, effect = taint
    if (toleration.get("effect") or effect) != effect or (toleration.get("key") or key) != key:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("operator") or "Equal") == "Equal" and (toleration.get("value") or "") == value
