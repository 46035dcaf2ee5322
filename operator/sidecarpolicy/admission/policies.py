"""The review of a policy: what its object alone decides, in the words that its status would have.

A policy that cannot be used is refused while it is written, dry runs included. What depends on other objects is no
reason to refuse: files are applied in any order, and a status heals by itself. It is told as a warning. So is nothing
refused that does not change the spec: a policy that a newer version has made invalid can still be annotated, and lose
its finalizer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.text_limits import cause
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.acceptance import order_cycle_of
from sidecarpolicy.engine.cache import CachedPolicy, cached_policy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.warnings import warnings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Why a policy is refused (empty: it is not), and what its author is told."""

    problems: str = ""
    warnings: tuple[str, ...] = ()


def decide(request: Json, context: Context) -> Decision:
    """Return what to say to the *request* of an AdmissionReview about a policy."""
    new, old = request["object"], request.get("oldObject") or {}
    if new["metadata"].get("deletionTimestamp") or new.get("spec") == old.get("spec", {}):
        return Decision()
    name = new["metadata"].get("generateName", "")  # where the API server has still to make one of it
    made = {"uid": request["uid"], "resourceVersion": "0", "generation": 1, "name": name}
    body = {**new, "metadata": made | new["metadata"]}
    cached = cached_policy(body)
    if cached.problems:
        return Decision(problems=cached.problems)
    # What has no place in the object is about the cluster: the status says it, not every apply.
    found = (f"{each.where}: {each.message}" for each in warnings_of(cached, _with(cached, context)) if each.where)
    return Decision(warnings=tuple(cause(each) for each in (*found, *_cycle(body, cached, context))))


def _with(cached: CachedPolicy, context: Context) -> Context:
    cache = copy.copy(context.cache)
    cache.policies = {**cache.policies, cached.id: cached}
    return Context(cache=cache, now=context.now)


def _cycle(body: Json, cached: CachedPolicy, context: Context) -> tuple[str, ...]:
    try:
        revision = offline(decode_policy(body, strict=False))
    except InvalidInput:
        return ()
    found = order_cycle_of(revision, _with(cached, context))
    return (found.message,) if found is not None else ()
