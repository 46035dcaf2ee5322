"""The kinds of workloads. Each is one module, and the only one that knows how its controller rolls a template out.

Everything else decides by facts (`facts.Facts`): has it arrived, is it moving, when did it make its last step forward.
A new kind is a new module and a line in KINDS; it is then watched, cached, judged, written and read again as a
Deployment is. Beside that it takes: rights (deploy/base/access), the words "the Deployment" in `core`'s sentences, the
commands that take Deployments (`cli`), and for a kind whose children are ControllerRevisions a watch of those that is
not limited to ours (`engine/resources.py`, LABEL_SELECTORS). What each of the next ones answers to the same questions:

- *StatefulSet*: arrived when currentRevision = updateRevision, updatedReplicas ≥ replicas − partition and all are
  available; there is no progress condition and no progressDeadlineSeconds, so the policy's own clock alone counts, as
  for a Deployment without that condition. Its children are ControllerRevisions, which bear the record as ReplicaSets
  do. With OnDelete nothing moves until the owner deletes Pods: not *moving*, not *arrived*, never evidence.
- *DaemonSet*: arrived when updatedNumberScheduled and numberAvailable ≥ desiredNumberScheduled; empty with none
  desired. Its children are ControllerRevisions too.
- *CronJob*: arrived as soon as it is written (a running Job keeps the old template); complete when the first Job made
  since then has succeeded, unavailable when it has failed. Its children are Jobs, its template is one level deeper.
- *Job*: its template cannot be changed; it is *arrived* or skipped, and changed at its creation alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecarpolicy.core.kinds import deployment
from sidecarpolicy.core.kinds.facts import Facts, Kind
from sidecarpolicy.core.workload import Workload

KINDS: Mapping[str, Kind] = {each.ADDRESS.kind: each for each in (deployment,)}

__all__ = ["KINDS", "Facts", "Kind", "kind_of"]


def kind_of(workload: Workload) -> Kind:
    """Return the module that knows workloads like this one."""
    return KINDS[workload.id.kind]
