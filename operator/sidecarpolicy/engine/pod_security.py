"""Asking the API server whether Pod Security admits a policy's sidecars in a namespace, and keeping the answer.

It is asked when the first Deployment of a namespace has its turn, once for what one answer serves (`Question`), and
whoever else has their turn meanwhile waits for the same answer. A yes holds as long as the namespace enforces the same;
a no is asked again after a while, and stands until the answer is another one. What cannot be told (the operator may
not ask, a quota or a webhook speaks first) is no reason to skip anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.pod_security import Question, a_pod, enforced, words_of
from sidecarpolicy.core.text_limits import one_line
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Admitted, Judgement
from sidecarpolicy.engine.port import Api, ApiError, Rejected, Transient
from sidecarpolicy.engine.resources import PODS
from sidecarpolicy.engine.retries import OF_WORKLOADS

log = logging.getLogger(__name__)

# A no, and what could not be told, are asked again after this many seconds.
AGAIN_SECONDS = OF_WORKLOADS.rejected or OF_WORKLOADS.last


def answer_to(asked: Question, context: Context) -> Admitted | None:
    """Return what is known, None where nothing is: it was never asked, or the namespace enforces something else now."""
    found = context.memory.of_policy(asked.policy).admitted.get(asked.revision, {}).get(asked)
    if found is None or found.enforced != enforced(context.cache.namespace(asked.namespace).labels):
        return None
    return found


@dataclass(slots=True, kw_only=True)
class PodSecurity:
    """Asks, for one term."""

    api: Api
    context: Context
    _asking: dict[Question, asyncio.Lock] = field(default_factory=dict, init=False)
    _told: bool = field(default=False, init=False)

    async def admits(self, steps: Mapping[PolicyId, Step], judgement: Judgement) -> bool:
        """Whether all that *steps* bring to the judged workload may come, as far as can be told. Raise ApiError.

        What would be refused is skipped from now on. A new workload may get an older revision than the one that its
        verdict is about; where that is refused there is no verdict to give, and it is as if the patch were.
        """
        for policy, step in steps.items():
            asked = judgement.questions.get(policy)
            if asked is None or not step.revision:
                continue
            if step.revision == asked.revision:
                if (await self._ask_once(asked)).words:
                    return False
            elif policy not in judgement.record.entries:
                words = (await self._ask_once(asked._replace(revision=step.revision))).words
                if words:
                    raise Rejected(verb="create", what=f"pods in namespace {asked.namespace}", message=words)
        return True

    async def ask_again(self, policy: PolicyId) -> float | None:
        """Ask again about each no that *policy* got a while ago; return when to come again (since the epoch)."""
        remembered, moments = self.context.memory.of_policy(policy), []
        for asked in sorted(remembered.not_admitted):
            known = answer_to(asked, self.context)
            if known is not None and known.until <= self.context.now():
                try:
                    known = await self._ask(asked)
                except Transient as error:
                    log.debug("%s: %s", asked.namespace, error)
            if known is None or not known.words:
                remembered.not_admitted.discard(asked)  # it is another question now, or a yes
            else:
                moments.append(max(known.until, self.context.now() + 1.0))
        return min(moments, default=None)

    async def _ask_once(self, asked: Question) -> Admitted:
        lock = self._asking.setdefault(asked, asyncio.Lock())
        try:
            async with lock:
                known = answer_to(asked, self.context)
                if known is not None and (known.words or self.context.now() < known.until):
                    return known
                return await self._ask(asked)
        finally:
            if not lock.locked():
                self._asking.pop(asked, None)

    async def _ask(self, asked: Question) -> Admitted:
        """Ask, keep the answer, and tell whom it concerns. Raise Transient where there is none."""
        context, known = self.context, answer_to(asked, self.context)
        standard = enforced(context.cache.namespace(asked.namespace).labels)
        words, certain = await self._words(asked)
        until = inf if certain and not words else context.now() + AGAIN_SECONDS
        answer = Admitted(enforced=standard, words=words, until=until)
        self._keep(asked, answer)
        if words and (known is None or known.words != words):
            log.warning("%s in namespace %s: %s", asked.revision, asked.namespace, words)
        if (known.words if known is not None else "") != words and context.cache.listener is not None:
            for workload in context.cache.reached_by(asked.policy):
                selecting = (each.id for each in context.cache.selecting(workload))
                if workload.id.namespace == asked.namespace and asked.policy in selecting:
                    context.cache.listener.workload_changed(workload.id)
        return answer

    def _keep(self, asked: Question, answer: Admitted) -> None:
        remembered, update = (
            self.context.memory.of_policy(asked.policy),
            self.context.cache.update_revision(asked.policy),
        )
        if asked.revision not in remembered.admitted:  # nobody asks about those before any more
            now = {asked.revision, *([update.revision.name] if update is not None else ())}
            remembered.admitted = {name: known for name, known in remembered.admitted.items() if name in now}
            remembered.not_admitted = {each for each in remembered.not_admitted if each.revision in now}
        remembered.admitted.setdefault(asked.revision, {})[asked] = answer
        if answer.words:
            remembered.not_admitted.add(asked)

    async def _words(self, asked: Question) -> tuple[str, bool]:
        """What Pod Security has against the sidecars, and whether it was asked at all."""
        revision = self.context.revision(asked.policy, asked.revision)
        if revision is None:
            return "", False
        words, certain = await self._of_pod(asked, with_sidecars=True)
        if words and (await self._of_pod(asked, with_sidecars=False))[0]:
            return "", True  # it would not have the owner's own settings, or what a webhook injects
        return words, certain

    async def _of_pod(self, asked: Question, *, with_sidecars: bool) -> tuple[str, bool]:
        revision = self.context.revision(asked.policy, asked.revision) if with_sidecars else None
        try:
            await self.api.create(PODS, asked.namespace, a_pod(asked, revision), dry_run=True)
        except Rejected as error:
            if not (words := one_line(words_of(error.message))):
                self._cannot_tell(error)
            return words, bool(words)
        except Transient:
            raise
        except ApiError as error:
            self._cannot_tell(error)
            return "", False
        return "", True

    def _cannot_tell(self, error: ApiError) -> None:
        level = logging.DEBUG if self._told else logging.INFO
        self._told = True
        log.log(level, "%s; going on without knowing what Pod Security says", error)
