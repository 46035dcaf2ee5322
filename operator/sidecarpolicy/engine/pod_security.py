"""Asking the API server whether Pod Security admits a policy's sidecars in a namespace, and keeping the answer.

It is asked when the first Deployment of a namespace has its turn, once for what one answer serves (`Question`), and
whoever else has their turn meanwhile waits for the same answer. A yes holds as long as the namespace enforces the same;
a no is asked again after a while, and stands until the answer is another one. What cannot be told (the operator may
not ask, a quota or a webhook speaks first) is no reason to skip anything, and takes no answer back.

Answers end with the term. What a status says that a namespace refuses is asked about again when the next one begins,
whether the policy makes steps or not, so that a restart changes nothing of what is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.pod_security import Question, a_pod, enforced, words_of
from sidecarpolicy.core.text_limits import one_line
from sidecarpolicy.core.tree import items
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Admitted, Judgement, PolicyMemory
from sidecarpolicy.engine.port import Api, ApiError, Rejected, Transient
from sidecarpolicy.engine.resources import PODS
from sidecarpolicy.engine.retries import OF_POLICIES, OF_WORKLOADS
from sidecarpolicy.names import SkipReason

log = logging.getLogger(__name__)

# A no, and what could not be told, are asked again after this many seconds.
AGAIN_SECONDS = OF_WORKLOADS.rejected or OF_WORKLOADS.last

# So much of one policy is asked about at a time outside of a rollout, and that is so many seconds apart at least.
MOST_ASKED, AT_LEAST = 5, 0.2

# So long a status may wait for what was known when it was written.
RESTORE_SECONDS = 120.0


def answer_to(asked: Question, context: Context) -> Admitted | None:
    """Return what is known, None where nothing is: it was never asked, or the namespace enforces something else now."""
    found = context.memory.of_policy(asked.policy).admitted.get(asked.revision, {}).get(asked)
    if found is None or found.enforced != enforced(context.cache.namespace(asked.namespace).labels):
        return None
    return found


def _asked(steps: Mapping[PolicyId, Step], judgement: Judgement) -> Iterator[tuple[Question, bool]]:
    """Yield what is to be asked before *steps*, and whether it is what the verdict of the judged workload is about."""
    for policy, step in steps.items():
        asked = judgement.questions.get(policy)
        if asked is None or not step.revision:
            continue
        if step.revision == asked.revision:
            yield asked, True
        elif policy not in judgement.record.entries:
            yield asked._replace(revision=step.revision), False


@dataclass(slots=True, kw_only=True)
class PodSecurity:
    """Asks, for one term."""

    api: Api
    context: Context
    _asking: dict[Question, asyncio.Lock] = field(default_factory=dict, init=False)
    _told: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _rests_until: float = field(default=0.0, init=False)

    async def admits(self, steps: Mapping[PolicyId, Step], judgement: Judgement) -> bool:
        """Whether all that *steps* bring to the judged workload may come, as far as can be told. Raise ApiError.

        What would be refused is skipped from now on. A new workload may get an older revision than the one that its
        verdict is about; where that is refused there is no verdict to give, and it is as if the patch were.
        """
        for asked, judges in _asked(steps, judgement):
            words = (await self.ask(asked)).words
            if words and judges:
                return False
            if words:
                raise Rejected(verb="create", what=f"pods in namespace {asked.namespace}", message=words)
        return True

    def knows(self, steps: Mapping[PolicyId, Step], judgement: Judgement) -> bool:
        """Whether `admits` has an answer without asking."""
        return all(self._known(asked) is not None for asked, _ in _asked(steps, judgement))

    def restores(self, cached: CachedPolicy) -> bool:
        """Whether what the status of *cached* says of refused sidecars is still being asked for again.

        What was known of that has ended with the term before. Until it is known again, and no longer than
        RESTORE_SECONDS, nothing is reported: what the status says stands.
        """
        context, remembered = self.context, self.context.memory.of_policy(cached.id)
        if remembered.to_ask is None:
            told = {each["reason"] for each in items(cached.status, "skipped")}
            lost = SkipReason.POD_SECURITY in told and not cached.deleting
            remembered.to_ask = self._not_asked(cached.id) if lost else {}
            remembered.restores_until = context.now() + RESTORE_SECONDS
        return bool(remembered.to_ask) and context.now() < remembered.restores_until

    def _not_asked(self, policy: PolicyId) -> dict[Question, None]:
        """Every question about workloads that *policy* would inject into, as far as nothing else stands against it."""
        found = set()
        for workload in self.context.cache.reached_by(policy):
            _, judgement = self.context.memory.of(workload.id).judged or (None, None)
            if judgement is None or policy not in judgement.questions or judgement.verdicts.get(policy) is not None:
                continue
            if answer_to(judgement.questions[policy], self.context) is None:
                found.add(judgement.questions[policy])
        return dict.fromkeys(sorted(found))

    async def ask_again(self, policy: PolicyId) -> float | None:
        """Ask a few of what *policy* has to be asked about; return when to come again (since the epoch).

        That is what was lost with the term before, and each no that was got a while ago. Where the API server does not
        answer it is left alone, longer each time.
        """
        context, remembered = self.context, self.context.memory.of_policy(policy)
        lost = remembered.to_ask if remembered.to_ask is not None else {}
        if context.now() >= self._rests_until:
            noes = sorted((until, asked) for asked, until in self._noes(remembered).items() if until <= context.now())
            batch = [*lost, *(asked for _, asked in noes)][:MOST_ASKED]
            answers = await asyncio.gather(*(self._ask(asked) for asked in batch), return_exceptions=True)
            failed = {asked: each for asked, each in zip(batch, answers, strict=True) if isinstance(each, Exception)}
            for asked in batch:
                lost.pop(asked, None)
            for asked in failed:  # others have their turn first
                known = answer_to(asked, context)
                if known is None:
                    lost[asked] = None
                else:
                    until = context.now() + OF_POLICIES.last
                    remembered.admitted[asked.revision][asked] = replace(known, until=until)
            self._note(list(failed.values()))
        moments = [*self._noes(remembered).values(), *([0.0] if lost else [])]
        return max(min(moments), self._rests_until, context.now() + AT_LEAST) if moments else None

    def _noes(self, remembered: PolicyMemory) -> dict[Question, float]:
        """What is known to be refused, and when that is asked again; what is another question now is dropped."""
        known = {asked: answer_to(asked, self.context) for asked in remembered.not_admitted}
        found = {asked: each.until for asked, each in known.items() if each is not None and each.words}
        remembered.not_admitted = set(found)
        return found

    def _note(self, failed: Sequence[Exception]) -> None:
        """Leave the API server alone for a while where it did not answer."""
        for error in failed:
            if not isinstance(error, Transient):
                raise error
        if not failed:
            self._failures = 0
            return
        self._failures += 1
        log.debug("%s", failed[0])
        waits = max(OF_POLICIES.seconds(each, self._failures) for each in failed if isinstance(each, Transient))
        self._rests_until = self.context.now() + waits

    def _known(self, asked: Question) -> Admitted | None:
        """What is known and still holds."""
        known = answer_to(asked, self.context)
        return known if known is not None and (known.words or self.context.now() < known.until) else None

    async def ask(self, asked: Question) -> Admitted:
        """Find out what is *asked*, once for all that ask at the same time. Raise ApiError."""
        lock = self._asking.setdefault(asked, asyncio.Lock())
        try:
            async with lock:
                return self._known(asked) or await self._ask(asked)
        finally:
            if not lock.locked():
                self._asking.pop(asked, None)

    async def _ask(self, asked: Question) -> Admitted:
        """Ask, keep the answer, and tell whom it concerns. Raise Transient where there is none.

        Where it cannot be told, what was known stands.
        """
        context, known = self.context, answer_to(asked, self.context)
        standard = enforced(context.cache.namespace(asked.namespace).labels)
        before = known.words if known is not None else ""
        found, lasts = await self._words(asked)
        words = before if found is None else found
        answer = Admitted(enforced=standard, words=words, until=inf if lasts else context.now() + AGAIN_SECONDS)
        self._keep(asked, answer)
        if words and before != words:
            log.warning("%s in namespace %s: %s", asked.revision, asked.namespace, words)
        if before != words and context.cache.listener is not None:
            for workload in context.cache.workloads_in(asked.namespace):
                if any(each.id == asked.policy for each in context.cache.selecting(workload)):
                    context.cache.listener.workload_changed(workload.id)
        return answer

    def _keep(self, asked: Question, answer: Admitted) -> None:
        remembered, update = (
            self.context.memory.of_policy(asked.policy),
            self.context.cache.update_revision(asked.policy),
        )
        if asked.revision not in remembered.admitted:  # nobody asks about those before any more, unless they are pinned
            now = {asked.revision, *([update.revision.name] if update is not None else ()), *remembered.fleet.in_use}
            remembered.admitted = {name: known for name, known in remembered.admitted.items() if name in now}
            remembered.not_admitted = {each for each in remembered.not_admitted if each.revision in now}
        remembered.admitted.setdefault(asked.revision, {})[asked] = answer
        if answer.words:
            remembered.not_admitted.add(asked)

    async def _words(self, asked: Question) -> tuple[str | None, bool]:
        """What Pod Security has against the sidecars, None where that cannot be told; and whether that lasts."""
        if self.context.revision(asked.policy, asked.revision) is None:
            return None, False
        words = await self._of_pod(asked, with_sidecars=True)
        if not words:
            return words, words is not None
        without = await self._of_pod(asked, with_sidecars=False)
        if without is None:
            return None, False
        # Refused without them too: it would not have the owner's own settings, or what a webhook injects. That webhook
        # may be another one tomorrow.
        return ("" if without else words), False

    async def _of_pod(self, asked: Question, *, with_sidecars: bool) -> str | None:
        revision = self.context.revision(asked.policy, asked.revision) if with_sidecars else None
        try:
            await self.api.create(PODS, asked.namespace, a_pod(asked, revision), dry_run=True)
        except Rejected as error:
            if words := one_line(words_of(error.message)):
                return words
            self._cannot_tell(error)
            return None
        except Transient:
            raise
        except ApiError as error:
            self._cannot_tell(error)
            return None
        return ""

    def _cannot_tell(self, error: ApiError) -> None:
        level = logging.DEBUG if self._told else logging.INFO
        self._told = True
        log.log(level, "%s; going on without knowing what Pod Security says", error)
