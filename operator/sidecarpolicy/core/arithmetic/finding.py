"""One thing that the arithmetic has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Concern(StrEnum):
    """What a finding is about; written into a policy's status as a reason."""

    SLOW_START = "SlowStart"
    SHORT_TERMINATION = "ShortTermination"
    QOS_CHANGE = "QosChange"
    GATE_PROBES_APPLICATION = "GateProbesApplication"
    BREAKS_AUTOSCALING = "BreaksAutoscaling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A reason, a sentence, and the *numbers* in it by name (seconds, counts, or words such as a QoS class)."""

    reason: Concern
    message: str
    numbers: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def refuses(self) -> bool:
        """Whether the workload is to be left alone; all other findings only warn."""
        return self.reason is Concern.BREAKS_AUTOSCALING


def named(containers: Sequence[str]) -> str:
    """Return `sidecar 'proxy'` or `sidecars 'proxy', 'logger'`."""
    return f"sidecar{'s' if len(containers) > 1 else ''} {', '.join(repr(each) for each in containers)}"
