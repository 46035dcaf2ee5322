"""Which nodes the templates of a fleet may land on, kept by difference.

A fleet of thousands has a few different demands of a node, and a cluster of thousands a few sorts of nodes: those that
differ in nothing that any demand names. A demand is held against one node of each sort, so a new one costs a few looks
and not five thousand, and a node that comes, goes or changes costs nothing as long as its sort stays as it is. Who is
told are the workloads of those demands whose answer is another one now. So an answer costs a look-up.

What is kept of the labels that demands name only grows: more sorts than needed are slower, and never wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sidecarpolicy.core.nodes import NO_NODE, NOTHING_SEEN, SETTLED, UNREADABLE, Demand, Eligible, Kubelet, Node

Sort = tuple[object, ...]
"""What nodes have in common that no demand tells apart."""


class _Alike:
    """The nodes of one sort. *first*: the one that is named where one has to be."""

    def __init__(self, first: Node) -> None:
        self.first = first
        self._nodes: dict[str, Node] = {first.name: first}

    def add(self, node: Node) -> bool:
        """Take a node in; return whether it is the first now."""
        self._nodes[node.name] = node
        if self.first.name != node.name and self.first.rank < node.rank:
            return False
        self.first = node
        return True

    def remove(self, name: str) -> bool:
        """Forget a node; return whether another one is the first now, or none is left."""
        del self._nodes[name]
        if self.first.name != name:
            return False
        self.first = min(self._nodes.values(), key=lambda each: each.rank, default=self.first)
        return True

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._nodes)


class Nodes:
    """Every node, and what fits the demands that were asked about. `hold` and `release` count who has a demand.

    After `put`, `changes` says whose answer is another one; until it is called, answers that were given stand.
    """

    def __init__(self) -> None:
        self.seen = False  # whether any node is known
        self._nodes: dict[str, Node] = {}
        self._alike: dict[Sort, _Alike] = {}
        self._labels: set[str] = set()  # what demands tell nodes apart by …
        self._names: set[str] = set()  # … and which they call by name
        self._held: Counter[str] = Counter()
        self._demands: dict[str, Demand] = {}
        self._fitting: dict[str, set[Sort]] = {}
        self._answers: dict[str, Eligible] = {}
        self._touched: set[Sort] = set()

    def hold(self, demand: str) -> None:
        """One workload more has *demand*."""
        self._held[demand] += 1

    def release(self, demand: str) -> None:
        """One workload less has it; what fits it need not be known when that was the last."""
        self._held[demand] -= 1
        if self._held[demand] <= 0:
            del self._held[demand]
            for kept in (self._demands, self._fitting, self._answers):
                kept.pop(demand, None)

    def eligible(self, demand: str) -> Eligible:
        """What fits *demand*. Of one that no workload has (a proposal may) nothing is kept."""
        found = self._answers.get(demand)
        if found is not None:
            return found
        if demand not in self._held and not self._nodes:
            return NOTHING_SEEN
        asked = Demand.read(demand)
        if demand not in self._held and self._tells_apart(asked):
            return self._answer(self._alike[sort] for sort in self._sorts_for(asked))
        if demand not in self._held:
            return self._answer(_Alike(node) for node in self._nodes.values() if asked.fits(node))
        self._tell_apart(asked)
        self._demands[demand] = asked
        fitting = self._fitting[demand] = self._sorts_for(asked)
        self._answers[demand] = self._answer(self._alike[sort] for sort in fitting)
        return self._answers[demand]

    def put(self, name: str, new: Node | None) -> None:
        """Take a node in as it is now, None where it is gone."""
        old = self._nodes.pop(name, None)
        if new is not None:
            self._nodes[name] = new
        if old == new:
            return
        before, after = (self._sort(each) if each is not None else None for each in (old, new))
        if before is not None and before != after:
            alike = self._alike[before]
            if alike.remove(name):
                self._touched.add(before)
            if not alike:
                del self._alike[before]
        if after is not None and new is not None:
            there = self._alike.get(after)
            if there is None:
                self._alike[after] = _Alike(new)
                self._touched.add(after)
            elif there.add(new):
                self._touched.add(after)

    def changes(self) -> Mapping[str, Eligible]:
        """Return the answers that are other than before, since this was called last."""
        touched, self._touched = self._touched, set()
        changed = {}
        if touched or self.seen is not bool(self._nodes):
            self.seen = bool(self._nodes)
            for demand, before in self._answers.items():
                if self._concerns(demand, touched):
                    answer = self._answer(self._alike[sort] for sort in self._fitting[demand])
                    if answer != before:
                        changed[demand] = answer
        self._answers |= changed
        return changed

    def _concerns(self, demand: str, touched: set[Sort]) -> bool:
        """Bring what fits *demand* up to date; return whether its answer may be another one."""
        asked, fitting = self._demands[demand], self._fitting.get(demand)
        if fitting is None:
            self._fitting[demand] = self._sorts_for(asked)
            return True
        found = not self._nodes or self._answers[demand] == NOTHING_SEEN
        for sort in touched:
            alike = self._alike.get(sort)
            if sort in fitting:
                found = True
                if alike is None:
                    fitting.discard(sort)
            elif alike is not None and asked.fits(alike.first):
                fitting.add(sort)
                found = True
        return found

    def _sort(self, node: Node) -> Sort:
        labels = frozenset((key, node.labels[key]) for key in self._labels & node.labels.keys())
        return (node.kubelet, node.windows, node.taints, labels, node.name if node.name in self._names else "")

    def _sorts_for(self, asked: Demand) -> set[Sort]:
        return {sort for sort, alike in self._alike.items() if asked.fits(alike.first)}

    def _tells_apart(self, asked: Demand) -> bool:
        """Whether nodes of one sort are alike for *asked*."""
        return asked.labels <= self._labels and asked.names <= self._names

    def _tell_apart(self, asked: Demand) -> None:
        """Sort the nodes anew where *asked* names what no demand before has named. No answer changes by that."""
        if self._tells_apart(asked):
            return
        self._labels |= asked.labels
        self._names |= asked.names
        self._alike.clear()
        self._fitting.clear()
        for node in self._nodes.values():
            sort = self._sort(node)
            if sort in self._alike:
                self._alike[sort].add(node)
            else:
                self._alike[sort] = _Alike(node)

    def _answer(self, fitting: Iterable[_Alike]) -> Eligible:
        if not self._nodes:
            return NOTHING_SEEN
        firsts = sorted((each.first for each in fitting), key=lambda each: each.rank)
        if not firsts:
            return NO_NODE
        oldest = next((each for each in firsts if UNREADABLE < each.version < SETTLED), None)
        return Eligible(
            known=True,
            oldest=Kubelet(oldest.name, oldest.kubelet) if oldest is not None else None,
            windows=firsts[0].name if all(each.windows for each in firsts) else "",
        )
