"""One Pod's life as a value: when each container started, was ready and stopped, and who waited for whom.

Kubernetes records little of this and nothing finer than whole seconds, so every time here is a `When`, a moment known
to lie between two. What is not recorded is left as wide as it is: nothing is guessed into a sharp edge. The rules that
say who waits for whom are those of the kubelet (KEP-753): init containers in their order, the next when a plain one
has ended with 0 and a native sidecar has *started*; at the end every sidecar after the application and after the
sidecars that were started after it.

    pod, events ──► spec, seen ──► order (starts, gates) ──► lanes ──► why
    witness lines ─────┘

Not in here: reading files or a cluster, and drawing (`sidecarpolicy.cli`).
"""

from sidecarpolicy.core.timeline.build import pod_timeline
from sidecarpolicy.core.timeline.model import Kind, Lane, Mark, Moment, Phase, State, Timeline, Wait
from sidecarpolicy.core.timeline.moments import When
from sidecarpolicy.core.timeline.planned import planned_timeline
from sidecarpolicy.core.timeline.witness import BadWitness, Witness, read_witness, witness_timeline

__all__ = [
    "BadWitness",
    "Kind",
    "Lane",
    "Mark",
    "Moment",
    "Phase",
    "State",
    "Timeline",
    "Wait",
    "When",
    "Witness",
    "planned_timeline",
    "pod_timeline",
    "read_witness",
    "witness_timeline",
]
