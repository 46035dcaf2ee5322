"""A policy's status, written when it differs and at most once a second; and Events about what is new in it."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sidecarpolicy.core.plan import Plan, RolloutState
from sidecarpolicy.core.report import Report, WaitingFor, other_finalizers
from sidecarpolicy.core.selection import EVERYTHING
from sidecarpolicy.core.status import status_of
from sidecarpolicy.core.text_limits import one_line
from sidecarpolicy.core.tree import items
from sidecarpolicy.engine.cache import Cache, CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.events import Teller
from sidecarpolicy.engine.port import ApiError, Conflict, NotFound
from sidecarpolicy.engine.retries import OF_STATUSES
from sidecarpolicy.engine.warnings import warnings_of
from sidecarpolicy.engine.write_requests import WriteStatus
from sidecarpolicy.engine.writer import Writer

log = logging.getLogger(__name__)

# A status is written only when it differs, and at most this often per policy, in seconds.
STATUS_INTERVAL = 1.0

# Of a policy that selects nothing: how many workloads are looked at for labels, and how many of those are told.
MOST_LOOKED_AT = 1000
MOST_LABELS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Writes statuses."""

    writer: Writer
    context: Context
    teller: Teller

    async def report(
        self, cached: CachedPolicy, state: RolloutState, now: Plan, waiting_for: Sequence[WaitingFor]
    ) -> float | None:
        """Say where *cached* stands; return when to come again (seconds since the epoch), None where all is said.

        *waiting_for*: the other policies that are to be taken out of its workloads first.
        """
        remembered = self.context.memory.of_policy(cached.id)
        trouble = remembered.reporting
        due = trouble.until if trouble.failures else remembered.status_written + STATUS_INTERVAL
        if remembered.status_written <= state.now < due:  # a clock that was set back holds nothing up
            return due
        update = self.context.cache.update_revision(cached.id)
        report = Report(
            generation=cached.generation,
            state=state,
            fleet=remembered.fleet,
            plan=now,
            rejection=remembered.rejection,
            problem=remembered.trouble.problem,
            is_stored=update is not None and update.revision.name == cached.declares,
            halt=update.halt if update is not None else None,
            selects_everything=cached.policy is not None and cached.policy.selector == EVERYTHING,
            warnings=warnings_of(cached, self.context),
            switch_bearer=self.context.cache.switch_bearer,
            labels_there=() if remembered.fleet.matched else labels_there(cached, self.context.cache),
            waiting_for=waiting_for,
            other_finalizers=other_finalizers(cached.finalizers),
        )
        status = status_of(report, cached.status, state.now)
        if remembered.uninspected:
            # What it warns of is known when each workload has been looked at once; until then what it says stands.
            status["warnings"] = items(cached.status, "warnings")
        self.teller.of_report(cached, remembered, status)
        if status == cached.status:
            return None
        remembered.status_written = state.now
        try:
            await self.writer.apply(WriteStatus(policy=cached, status=status))
        except NotFound:
            return None
        except ApiError as error:
            # Only the log can tell that it is not true meanwhile.
            seconds = max(STATUS_INTERVAL, trouble.again(error, OF_STATUSES))
            if not isinstance(error, Conflict) and trouble.is_news(problem := one_line(str(error))):
                what = "%s: its status is out of date: %s; trying again in %.1f s"
                log.warning(what, cached.id.label, problem, seconds)
            trouble.until = state.now + seconds
            return trouble.until
        trouble.end()
        return None


def labels_there(cached: CachedPolicy, cache: Cache) -> list[str]:
    """Return the labels of Pod templates where *cached* looks for some, the most frequent first; few of them."""
    policy = cached.policy
    if policy is None or cached.deleting:
        return []
    counted: Counter[str] = Counter()
    for workload in itertools.islice(cache.reached_by(cached.id), MOST_LOOKED_AT):
        if cache.selects_namespace(policy, workload.id.namespace):
            counted.update(f"{key}={value}" for key, value in workload.pod_labels.items())
    return [label for label, _ in sorted(counted.items(), key=lambda each: (-each[1], each[0]))[:MOST_LABELS]]
