"""The ConfigMaps and Secrets that policies restart for: who names them, and what is known of their content.

Nothing of a content is kept but its hash. Each name is watched by itself (`config_watches`); where the operator serves
some namespaces only, each name in each of them: *where* is that namespace, or empty for a watch of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import Protocol

from sidecarpolicy.core.configs import ConfigObject, Wanted
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.policy import Policy


class Told(Protocol):
    """Who is told of what is new."""

    def naming_changed(self, policy: PolicyId) -> None:
        """What is known of an object that *policy* names is another than before."""
        ...

    def content_changed(self, namespace: str, policies: AbstractSet[PolicyId]) -> None:
        """So is the content in *namespace* of one that *policies* name: that concerns what they select there."""
        ...


class NamedConfigs:
    """*served*: the namespaces that are served; empty for the whole cluster."""

    def __init__(self, served: frozenset[str], told: Told) -> None:
        self._served, self._told = served, told
        self.named_anew = asyncio.Event()
        """Set when a policy may name others than before: those are watched, each by its name."""
        self._hashes: dict[ConfigObject, dict[str, str]] = {}
        self._named_by: dict[ConfigObject, set[PolicyId]] = {}
        self._listed: set[tuple[ConfigObject, str]] = set()
        self._problems: dict[tuple[ConfigObject, str], str] = {}

    # --- who names what

    @property
    def names(self) -> frozenset[ConfigObject]:
        """All that some policy restarts for."""
        return frozenset(self._named_by)

    def name(self, policy: PolicyId, before: frozenset[ConfigObject], after: frozenset[ConfigObject]) -> None:
        """Take in what *policy* names, and has named before."""
        if before == after:
            return
        for config in before - after:
            self._named_by[config].discard(policy)
            if not self._named_by[config]:
                del self._named_by[config]
        for config in after - before:
            self._named_by.setdefault(config, set()).add(policy)
        self.named_anew.set()

    def places_of(self, config: ConfigObject) -> frozenset[str]:
        """Where a policy restarts for *config*, of the namespaces that are served; the empty one for everywhere."""
        return frozenset(self._where(each.namespace) for each in self._named_by.get(config, ()))

    def is_named_for_all(self, config: ConfigObject) -> bool:
        """Whether a ClusterSidecarPolicy restarts for it."""
        return any(each.cluster_wide for each in self._named_by.get(config, ()))

    # --- what is known of them

    def wanted(self, policy: Policy, namespace: str) -> Wanted:
        """What *policy* restarts for in *namespace*, and the hashes of what is there and can be read."""
        named = policy.restart_on.objects
        found = {each: self._hashes.get(each, {}).get(namespace) for each in named}
        return Wanted(named=named, known={each: value for each, value in found.items() if value is not None})

    def are_listed(self, policy: Policy) -> bool:
        """Whether all that *policy* restarts for has been listed, or it is known that it cannot be."""
        where = self._where(policy.id.namespace)
        return all(
            (each, where) in self._listed or (each, where) in self._problems for each in policy.restart_on.objects
        )

    def is_there(self, config: ConfigObject, namespace: str) -> bool | None:
        """Whether there is one of that name in *namespace* (empty: in any); None where that is not known."""
        place = (config, self._where(namespace))
        if place not in self._listed or place in self._problems:
            return None
        known = self._hashes.get(config, {})
        return namespace in known if namespace else bool(known)

    def problem(self, config: ConfigObject, namespace: str = "") -> str:
        """Why the content of *config* is not known in *namespace* (empty: in any), for people; empty where it is."""
        return self._problems.get((config, self._where(namespace)), "")

    def _where(self, namespace: str) -> str:
        """Which of several LISTs has what is in *namespace*: its own, or (empty) the one of all."""
        return namespace if namespace in self._served else ""

    # --- what is new

    def note(self, config: ConfigObject, namespace: str, content: str | None) -> None:
        """Take in the hash of a ConfigMap or Secret; None: it is not there."""
        known = self._hashes.setdefault(config, {})
        if known.get(namespace) == content:
            return
        if content is None:
            del known[namespace]
        else:
            known[namespace] = content
        naming = {each for each in self._named_by.get(config, ()) if each.cluster_wide or each.namespace == namespace}
        if naming:
            self._told.content_changed(namespace, naming)
        for policy in sorted(naming):
            self._told.naming_changed(policy)

    def note_listed(self, config: ConfigObject, where: str = "") -> None:
        """Take in that all of a name have been listed."""
        if (config, where) not in self._listed:
            self._listed.add((config, where))
            self._tell_those_that_name(config, where)
        self.note_problem(config, "", where)

    def note_problem(self, config: ConfigObject, problem: str, where: str = "") -> None:
        """Take in why those of a name cannot be read, or (empty) that they can: what was known of them stays."""
        if self._problems.get((config, where), "") == problem:
            return
        self._problems.pop((config, where), None)
        if problem:
            self._problems[config, where] = problem
        self._tell_those_that_name(config, where)

    def forget(self, config: ConfigObject, where: str = "") -> None:
        """Forget all that is known of those of a name: nobody watches them any more, or it may be out of date."""
        self._problems.pop((config, where), None)
        self._listed.discard((config, where))
        for namespace in [each for each in self._hashes.get(config, {}) if not where or each == where]:
            self.note(config, namespace, None)
        if not self._hashes.get(config):
            self._hashes.pop(config, None)

    def _tell_those_that_name(self, config: ConfigObject, where: str) -> None:
        for policy in sorted(self._named_by.get(config, ())):
            if self._where(policy.namespace) == where:
                self._told.naming_changed(policy)
