"""Which nodes the templates of a fleet may land on, kept by difference.

A fleet of thousands has a few different demands of a node. What fits each is counted once, when it is first asked for,
and from then on a node that comes, goes or changes is held against each demand alone, never against a workload. Who
is told of it are the workloads of those demands whose answer is another one now. So an answer costs a look-up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sidecarpolicy.core.nodes import NO_NODE, NOTHING_SEEN, SETTLED, UNREADABLE, Demand, Eligible, Kubelet, Node


class _Fitting:
    """What fits one demand. Only what somebody may have to be told of is kept by name."""

    def __init__(self, demand: Demand, nodes: Iterable[Node]) -> None:
        self._demand = demand
        self._old: dict[str, Node] = {}
        self._windows: dict[str, Node] = {}
        self._count = 0
        self._oldest: Node | None = None
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Take a node in, if it fits."""
        if not self._demand.fits(node):
            return
        self._count += 1
        if node.windows:
            self._windows[node.name] = node
        if UNREADABLE < node.version < SETTLED:
            self._old[node.name] = node
            if self._oldest is None or node.rank < self._oldest.rank:
                self._oldest = node

    def remove(self, node: Node) -> None:
        """Forget a node as it was."""
        if not self._demand.fits(node):
            return
        self._count -= 1
        self._windows.pop(node.name, None)
        if self._old.pop(node.name, None) is not None and self._oldest == node:
            self._oldest = min(self._old.values(), key=lambda each: each.rank, default=None)

    @property
    def eligible(self) -> Eligible:
        """The answer."""
        if not self._count:
            return NO_NODE
        oldest = Kubelet(self._oldest.name, self._oldest.kubelet) if self._oldest is not None else None
        windows = min(self._windows.values(), key=lambda each: each.rank).name if self._is_windows_only else ""
        return Eligible(known=True, oldest=oldest, windows=windows)

    @property
    def _is_windows_only(self) -> bool:
        return self._count == len(self._windows)


class Nodes:
    """Every node, and what fits the demands that were asked about. `hold` and `release` count who has a demand."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._held: Counter[str] = Counter()
        self._fitting: dict[str, _Fitting] = {}
        self._answers: dict[str, Eligible] = {}

    @property
    def seen(self) -> bool:
        """Whether any node is known."""
        return bool(self._nodes)

    def hold(self, demand: str) -> None:
        """One workload more has *demand*."""
        self._held[demand] += 1

    def release(self, demand: str) -> None:
        """One workload less has it; what fits it need not be known when that was the last."""
        self._held[demand] -= 1
        if self._held[demand] <= 0:
            del self._held[demand]
            self._fitting.pop(demand, None)
            self._answers.pop(demand, None)

    def eligible(self, demand: str) -> Eligible:
        """What fits *demand*. Of one that no workload has (a proposal may) nothing is kept."""
        found = self._answers.get(demand)
        if found is not None:
            return found
        fitting = _Fitting(Demand.read(demand), self._nodes.values())
        answer = fitting.eligible if self._nodes else NOTHING_SEEN
        if demand in self._held:
            self._fitting[demand], self._answers[demand] = fitting, answer
        return answer

    def put(self, name: str, new: Node | None) -> Mapping[str, Eligible]:
        """Take a node in as it is now, None where it is gone; return the new answers that are other than before."""
        old = self._nodes.pop(name, None)
        if new is not None:
            self._nodes[name] = new
        if old == new:
            return {}
        for fitting in self._fitting.values():
            if old is not None:
                fitting.remove(old)
            if new is not None:
                fitting.add(new)
        changed = {}
        for demand, fitting in self._fitting.items():
            answer = fitting.eligible if self._nodes else NOTHING_SEEN
            if answer != self._answers[demand]:
                changed[demand] = self._answers[demand] = answer
        return changed
