"""What a Pod template becomes: the composition of all policies that apply to it, and its undoing.

Operator and command line call the same functions, so what the one prints is what the other writes. The laws (each a
property test): injecting is idempotent; ejecting undoes it exactly, whatever the owner changed of his own meanwhile;
nothing that is not ours changes, not even the order of other items; equal input in any order gives equal output.

Where nothing else is said a "template" is a PodTemplateSpec as the API server stores it: no empty lists.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sidecarpolicy.core.adjusting import adjusted
from sidecarpolicy.core.claims import IDENTITY, NO_CLAIMS, Claims, template_items
from sidecarpolicy.core.configs import NO_CONFIG, Config
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.likeness import is_as_it_should_be, moved
from sidecarpolicy.core.ordering import precedence, start_order
from sidecarpolicy.core.pod_metadata import metadata_items, with_metadata
from sidecarpolicy.core.record import (
    ENV,
    INIT_CONTAINERS,
    METADATA,
    NOTHING_NOTED,
    PULL_SECRETS,
    VOLUME_MOUNTS,
    VOLUMES,
    Entry,
    ItemKey,
    Note,
    Record,
)
from sidecarpolicy.core.restarts import config_restart_on, with_config_restarts, with_restarts
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json, at, items, with_items
from sidecarpolicy.names import Position

# A reference to another variable in a variable's value.
REFERENCE = re.compile(r"(?<!\$)(?:\$\$)*\$\(([^()]+)\)")

Known = Callable[[PolicyId, str], Revision | None]
"""Looks a stored revision up by policy and name."""


NO_NOTES: Mapping[PolicyId, Note] = {}


def nothing_known(policy: PolicyId, revision: str) -> Revision | None:
    """Where no stored revisions are at hand: items are moved whole instead of field by field."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """The template and record as they should be, and what the owner should know.

    *env_kept*: variables that the application sets itself. *metadata_kept*: labels and annotations that it has with
    another value. *yielded*: what was ours in what is the application's own, and of which somebody else has written
    another value since; they are the owner's now. *left_behind*: items that were to go but that somebody else has
    changed or claimed; they are the owner's now. *unknown_containers*: names in `application.containers` that the
    application does not have.
    """

    template: Json
    record: Record
    env_kept: tuple[ItemKey, ...] = ()
    metadata_kept: tuple[ItemKey, ...] = ()
    yielded: tuple[ItemKey, ...] = ()
    left_behind: tuple[ItemKey, ...] = ()
    unknown_containers: tuple[str, ...] = ()


def inject(template: Json, revisions: Iterable[Revision], record: Record) -> tuple[Json, Record]:
    """Return *template* with exactly *revisions* on it, and the record that says so."""
    composed = compose(template, record, {revision.policy: revision for revision in revisions})
    return composed.template, composed.record


def eject(template: Json, record: Record) -> Json:
    """Return *template* as its owner wrote it: without the items that *record* names."""
    return compose(template, record, {}).template


def compose(
    template: Json,
    record: Record,
    assigned: Mapping[PolicyId, Revision],
    *,
    known: Known = nothing_known,
    claims: Claims = NO_CLAIMS,
    held: frozenset[PolicyId] = frozenset(),
    abandoned: frozenset[PolicyId] = frozenset(),
    joining: frozenset[PolicyId] = frozenset(),
    orphaned: frozenset[PolicyId] = frozenset(),
    notes: Mapping[PolicyId, Note] = NO_NOTES,
) -> Composition:
    """Return what *template* and *record* become with *assigned* on it.

    *held* policies keep what they have, as it is; from those of them that are *abandoned* (no such policy has a say
    here) the assigned ones take over what equals their own. *orphaned* ones hand it over to the owner. *joining* ones
    come to a new workload, outside of their budget. All others that the record names go. *claims* hold removal back.
    *notes* are what the steps of rollouts write down; one with `failed` stays even where nothing else of the policy
    does.
    """
    work = _Work(
        template,
        record,
        assigned,
        known=known,
        claims=claims,
        held=held,
        abandoned=abandoned & held,
        orphaned=orphaned,
    )
    spec = with_items(work.spec, INIT_CONTAINERS, work.init_containers())
    spec = with_items(spec, VOLUMES, work.volumes())
    spec = work.with_pull_secrets(spec)
    spec = with_items(spec, "containers", [work.with_additions(each) for each in items(work.spec, "containers")])
    composed = {**template, "spec": spec} if spec != work.spec else template
    staying = work.held.keys() | orphaned
    composed = with_restarts(work.with_metadata(composed), record, work.assigned, staying)
    composed = with_config_restarts(composed, record, work.assigned, staying)
    return Composition(
        template=composed,
        record=work.new_record(composed, joining, notes),
        env_kept=tuple(sorted(work.env_kept)),
        metadata_kept=tuple(sorted(work.metadata_kept)),
        yielded=tuple(sorted(work.yielded)),
        left_behind=tuple(sorted(work.left_behind)),
        unknown_containers=tuple(sorted(work.unknown_containers())),
    )


def application_containers(spec: Json, revision: Revision, is_injected: Callable[[str], bool]) -> list[Json]:
    """The containers of the application that *revision* adds env and mounts to.

    *is_injected* tells which init containers are not the application's own.
    """
    wanted = revision.application.containers
    regular = [each for each in items(spec, "containers") if not wanted or each["name"] in wanted]
    if not revision.application.init_containers:
        return regular
    return [*regular, *(each for each in items(spec, INIT_CONTAINERS) if not is_injected(each["name"]))]


class _Work:
    """One composition under way. *wanted* is every item that should be there, by key, in order of precedence."""

    def __init__(
        self,
        template: Json,
        record: Record,
        assigned: Mapping[PolicyId, Revision],
        *,
        known: Known,
        claims: Claims,
        held: frozenset[PolicyId],
        abandoned: frozenset[PolicyId],
        orphaned: frozenset[PolicyId],
    ) -> None:
        self.spec, self.record, self.known, self.claims = at(template, "spec"), record, known, claims
        self.recorded = record.items
        self.live = template_items(template)
        self.held = {policy: record.entries[policy] for policy in held if policy in record.entries}
        self.orphaned = {policy: record.entries[policy] for policy in orphaned if policy in record.entries}
        self.assigned = sorted(
            (each for policy, each in assigned.items() if policy not in held | orphaned), key=precedence
        )
        self.env_kept: set[ItemKey] = set()
        self.metadata_kept: set[ItemKey] = set()
        self.yielded: set[ItemKey] = set()
        self.left_behind = set(self._left_behind(claims))
        self.left_behind |= set(self._still_mounted())
        self.adopted = {
            revision.policy: frozenset(each.name for each in revision.sidecars if self._is_adopted(revision, each.name))
            for revision in self.assigned
        }
        self.left_behind |= self._no_more_provided(claims)
        self.taken_over = frozenset(self._taken_over(abandoned)) if abandoned else frozenset()
        self.held_items = _items_of(self.held.values())
        # What a policy shares with one that stays is not the owner's when it is orphaned.
        self.handed_over = _items_of(self.orphaned.values()) - self.held_items - self._staying()
        self.ours = set(self.recorded - self.held_items - self.handed_over - self.left_behind)
        self.wanted: dict[ItemKey, Json] = {}
        self.provided: dict[PolicyId, set[ItemKey]] = {revision.policy: set() for revision in self.assigned}
        for revision in self.assigned:
            self._want(revision)
        self.wanted_in: dict[tuple[str, str], list[Json]] = defaultdict(list)
        for (listed, _, container), content in self.wanted.items():
            self.wanted_in[listed, container].append(content)
        self.ours_in: dict[tuple[str, str], set[str]] = defaultdict(set)
        for listed, name, container in self.ours:
            self.ours_in[listed, container].add(name)

    def _taken_over(self, abandoned: frozenset[PolicyId]) -> Iterable[ItemKey]:
        """Items of *abandoned* policies that an assigned one makes just so; they leave those entries."""
        provided: dict[ItemKey, Json] = {}
        for revision in self.assigned:
            for item, canonical in self._provides(revision):
                provided.setdefault(item, canonical)
        for policy in abandoned & self.held.keys():
            entry = self.held[policy]
            found = {
                item
                for item in entry.items & provided.keys() & self.live.keys()
                if is_as_it_should_be(self.live[item], provided[item])
            }
            yield from found
            left = replace(entry, items=entry.items - found)
            if left.items or left.adopted:
                self.held[policy] = left
            else:
                del self.held[policy]

    def _staying(self) -> frozenset[ItemKey]:
        """What the record has of the policies that are assigned."""
        recorded = (self.record.entries.get(revision.policy) for revision in self.assigned)
        return _items_of(entry for entry in recorded if entry is not None)

    def _left_behind(self, claims: Claims) -> Iterable[ItemKey]:
        """Items of leaving policies that must stay: claimed by somebody, or edited by somebody who owns the edit."""
        for policy, entry, leaving in self._leaving():
            for item in leaving:
                canonical = self._recorded(policy, entry, item)
                edited = canonical is not None and not is_as_it_should_be(self.live[item], canonical)
                if item in claims.owners or (edited and item in claims.touched):
                    yield item

    def _leaving(self) -> Iterable[tuple[PolicyId, Entry, frozenset[ItemKey]]]:
        """The policies that the record names and that go, with what is there of theirs alone."""
        staying = {revision.policy for revision in self.assigned} | set(self.held) | set(self.orphaned)
        for policy, entry in self.record.entries.items():
            if policy not in staying:
                yield policy, entry, (entry.items & self.live.keys()) - self._staying()

    def _still_mounted(self) -> Iterable[ItemKey]:
        """Volumes that were to go and that what is left behind mounts: without them the Pod would be refused."""
        if not self.left_behind:
            return
        going = {item for _, _, leaving in self._leaving() for item in leaving} - self.left_behind
        for container in (*items(self.spec, INIT_CONTAINERS), *items(self.spec, "containers")):
            stays = ItemKey(INIT_CONTAINERS, container["name"]) in self.left_behind
            for mount in items(container, VOLUME_MOUNTS):
                stays_here = stays or ItemKey(VOLUME_MOUNTS, mount["mountPath"], container["name"]) in self.left_behind
                if stays_here and (volume := ItemKey(VOLUMES, mount["name"])) in going:
                    yield volume

    def _no_more_provided(self, claims: Claims) -> set[ItemKey]:
        """Items in what is the owner's own that a policy has at another revision now without, and that they declare."""
        found: set[ItemKey] = set()
        for revision in self.assigned:
            entry = self.record.entries.get(revision.policy)
            if entry is not None and (entry.revision, entry.adjustment) != (revision.name, revision.adjustment):
                found |= {item for item in entry.items & self.live.keys() if item.yields and item in claims.owners}
        return found - {item for each in self.assigned for item, _ in self._provides(each)} if found else found

    def _recorded(self, policy: PolicyId, entry: Entry, item: ItemKey) -> Json | None:
        """The canonical form that the recorded revision, as its owner adjusted it, gives *item*, where it is known."""
        wanted = (policy, entry.revision, entry.adjustment)
        assigned = next((each for each in self.assigned if (each.policy, each.name, each.adjustment) == wanted), None)
        if assigned is not None:
            return canonical_item(assigned, item)
        return recorded_item(self.known(policy, entry.revision), entry, item)

    def _old(self, item: ItemKey) -> Json | None:
        candidates = (
            self._recorded(policy, entry, item) for policy, entry in self.record.entries.items() if item in entry.items
        )
        return next((each for each in candidates if each is not None), None)

    def _is_adopted(self, revision: Revision, name: str) -> bool:
        """Whether the owner wrote this sidecar himself: it is not ours, and equal to ours in every field."""
        item = ItemKey(INIT_CONTAINERS, name)
        if item in self.recorded or item not in self.live:
            return False
        entry = self.record.entries.get(revision.policy)
        return self.live[item] == canonical_item(revision, item) or bool(entry and name in entry.adopted)

    def _is_injected(self, name: str) -> bool:
        """Whether an init container is not the application's own: ours, held or adopted."""
        item = ItemKey(INIT_CONTAINERS, name)
        return (item in self.recorded and item not in self.left_behind) or any(
            name in adopted for adopted in self.adopted.values()
        )

    def _want(self, revision: Revision) -> None:
        for item, canonical in self._provides(revision):
            self._offer(revision, item, canonical)

    def _provides(self, revision: Revision) -> Iterator[tuple[ItemKey, Json]]:
        """Every item that *revision* has for this workload, in its own order."""
        for sidecar in revision.sidecars:
            if sidecar.name not in self.adopted[revision.policy]:
                yield ItemKey(INIT_CONTAINERS, sidecar.name), sidecar.container
        for volume in revision.volumes:
            yield ItemKey(VOLUMES, volume["name"]), volume
        for container in application_containers(self.spec, revision, self._is_injected):
            for listed, additions in (
                (ENV, revision.application.env),
                (VOLUME_MOUNTS, revision.application.volume_mounts),
            ):
                for addition in additions:
                    yield ItemKey(listed, addition[IDENTITY[listed]], container["name"]), addition
        for name in revision.pull_secrets:
            yield ItemKey(PULL_SECRETS, name), {"name": name}
        yield from revision.pod_metadata.items

    def _offer(self, revision: Revision, item: ItemKey, canonical: Json) -> None:
        """Note that *revision* provides *item*, unless the application has its own."""
        if item.yields and item in self.live and item in self.ours and self._is_another_value(item, canonical):
            self.ours.discard(item)
            self.yielded.add(item)
        if item in self.live and item not in self.ours:
            if item in self.held_items and is_as_it_should_be(self.live[item], canonical):
                self.provided[revision.policy].add(item)  # shared: whoever goes first must not take it away
            elif item.list == ENV:
                self.env_kept.add(item)
            elif item.list in METADATA and self.live[item] != canonical:
                self.metadata_kept.add(item)
            return
        self.provided[revision.policy].add(item)
        content = self.live.get(item)
        if content is None:
            content = canonical
        elif item not in self.taken_over:
            becomes = moved(content, self._old(item), canonical)
            if becomes != content and item not in self.claims.owners:  # what somebody claims is not repaired
                content = becomes
        self.wanted.setdefault(item, content)

    def _is_another_value(self, item: ItemKey, canonical: Json) -> bool:
        """Whether somebody else has written *item*, in what is the application's own, as they want it.

        Before injection it would be theirs; so it is afterwards. What only admission changed belongs to nobody.
        """
        live = self.live[item]
        if is_as_it_should_be(live, canonical):
            return False
        if item in self.claims.owners:
            return True
        old = self._old(item)
        return old is not None and not is_as_it_should_be(live, old) and item in self.claims.touched

    def init_containers(self) -> list[Json]:
        """Our BeforeInit sidecars, the application's own init containers in their own order, our AfterInit ones.

        Held sidecars keep their place in the order and their live content. Those of a revision that is not known, and
        orphaned ones, stay among the application's; where nothing else has to move they stay where they are.
        """
        held = {
            policy: revision
            for policy, entry in self.held.items()
            if (revision := self.known(policy, entry.revision)) is not None
        }
        placed: dict[str, Json] = {}
        before: list[Json] = []
        after: list[Json] = []
        for revision, sidecar in start_order([*self.assigned, *held.values()]):
            item = ItemKey(INIT_CONTAINERS, sidecar.name)
            if revision.policy in held:
                # What its owner declares too stays where the owner has it: to move it would undo every apply.
                is_held = item in self.held[revision.policy].items and item not in self.claims.owners
                content = self.live.get(item) if is_held else None
            else:
                content = self.wanted.get(item) if item in self.provided[revision.policy] else None
            if content is None or sidecar.name in placed:
                continue
            placed[sidecar.name] = content
            (before if sidecar.position is Position.BEFORE_INIT else after).append(content)
        ours = self.ours_in.get((INIT_CONTAINERS, ""), ())
        own = [
            self.with_additions(each)
            for each in items(self.spec, INIT_CONTAINERS)
            if each["name"] not in placed and each["name"] not in ours
        ]
        return self._without_needless_moves([*before, *own, *after], placed.keys())

    def _without_needless_moves(self, ordered: list[Json], placed: Collection[str]) -> list[Json]:
        """Return *ordered* as it stands now where only orphaned and held ones of unknown role are out of order."""
        staying = self.record.orphaned | self.handed_over | self.held_items
        loose = {item.name for item in staying if item.list == INIT_CONTAINERS} - set(placed)
        if not loose:
            return ordered
        live = [str(each["name"]) for each in items(self.spec, INIT_CONTAINERS)]
        wanted = [str(each["name"]) for each in ordered]
        if [name for name in live if name not in loose] != [name for name in wanted if name not in loose]:
            return ordered
        return sorted(ordered, key=lambda each: live.index(each["name"]))

    def volumes(self) -> list[Json]:
        """The Pod's volumes: ours in place, new ones at the end (their order means nothing)."""
        return self._listed(items(self.spec, VOLUMES), VOLUMES)

    def with_pull_secrets(self, spec: Json) -> Json:
        """Return *spec* with the pull secrets that it should have of ours."""
        live = items(spec, PULL_SECRETS)
        content = self._listed(live, PULL_SECRETS)
        return with_items(spec, PULL_SECRETS, content) if content != live else spec

    def with_metadata(self, template: Json) -> Json:
        """Return *template* with the labels and annotations that it should have of ours."""
        for listed in METADATA:
            if not self._concerns(listed):
                continue
            live = metadata_items(template, listed)
            content = self._listed(live, listed)
            if content != live:
                template = with_metadata(template, listed, content)
        return template

    def with_additions(self, container: Json) -> Json:
        """Return one of the application's containers with the env and mounts that it should have of ours."""
        for listed in (ENV, VOLUME_MOUNTS):
            live = items(container, listed)
            content = self._listed(live, listed, container=container["name"])
            if content != live:
                container = with_items(container, listed, content)
        return container

    def _concerns(self, listed: str, container: str = "") -> bool:
        """Whether something of ours is in a list, or is to be."""
        return (listed, container) in self.wanted_in or (listed, container) in self.ours_in

    def _listed(self, live: list[Json], listed: str, *, container: str = "") -> list[Json]:
        if not self._concerns(listed, container):
            return live
        wanted: Sequence[Json] = self.wanted_in.get((listed, container), ())
        here = self.ours_in.get((listed, container), ())
        identity = IDENTITY[listed]
        if listed != ENV:
            standing = [str(name) for each in live if (name := each.get(identity, "")) in here]
            wanted = _in_one_order(wanted, identity, standing)
        if not here:
            return [*live, *wanted]
        if listed == ENV and wanted:
            own = [each for each in live if each["name"] not in here]
            if _refer_ahead(wanted, live, own):
                return [*own, *wanted]  # as a fresh injection has it
        # Ours go in their own order into the places that ours have now, whoever came first: env may refer backwards.
        ours = iter(wanted)
        result: list[Json] = []
        for each in live:
            if each.get(identity, "") not in here:
                result.append(each)
            elif (content := next(ours, None)) is not None:
                result.append(content)
        return [*result, *ours]

    def unknown_containers(self) -> set[str]:
        """Names that `application.containers` gives and that the application does not have."""
        present = {each["name"] for each in items(self.spec, "containers")}
        return {name for revision in self.assigned for name in revision.application.containers} - present

    def new_record(self, template: Json, joining: frozenset[PolicyId], notes: Mapping[PolicyId, Note]) -> Record:
        """What is ours on *template*, the finished one."""
        entries = dict(self.held)
        orphaned = self.record.orphaned | self.handed_over
        for revision in self.assigned:
            old = self.record.entries.get(revision.policy)
            same = old is not None and old.revision == revision.name
            recorded = old.config if old is not None else NO_CONFIG
            config = revision.config if revision.config is not None else recorded
            entries[revision.policy] = Entry(
                revision=revision.name,
                items=frozenset(self.provided[revision.policy]),
                adopted=self.adopted[revision.policy],
                joined=revision.policy in joining
                or bool(old and old.joined and same and recorded.restart == config.restart),
                adjustment=revision.adjustment,
                config=config,
                note=notes.get(revision.policy) or (old.note if old is not None and same else NOTHING_NOTED),
            )
        for policy, note in notes.items():
            if note.failed and policy not in entries:
                entries[policy] = Entry(revision="", note=note)
        return replace(
            self.record,
            entries={policy: entries[policy] for policy in sorted(entries)},
            orphaned=(orphaned - self.ours) & frozenset(template_items(template)) if orphaned else orphaned,
        )


def _in_one_order(wanted: Sequence[Json], identity: str, standing: Sequence[str]) -> list[Json]:
    """Return items of ours of a list whose order means nothing to Kubernetes; *standing*: the names of ours in it now.

    By name, so that whose they are does not show where two policies share one. Where the same ones stand there, they
    stay in the order in which they are: another order alone would restart Pods for nothing.
    """
    by_name = {str(each[identity]): each for each in wanted}
    order = sorted(by_name)
    return [by_name[name] for name in (standing if sorted(standing) == order else order)]


def _refer_ahead(ours: Sequence[Json], live: Sequence[Json], own: Sequence[Json]) -> bool:
    """Whether one of *ours* refers to a variable of the application's own that stands behind some of ours in *live*.

    Kubernetes expands `$(NAME)` only where NAME stands before it (`$$(NAME)` is none).
    """
    names = [str(each["name"]) for each in own]
    referred = {name for each in ours for name in REFERENCE.findall(str(each.get("value") or ""))} & set(names)
    if not referred:
        return False
    places = [str(each["name"]) for each in live]
    first = next((place for place, name in enumerate(places) if name not in names), len(places))
    return any(places.index(name) > first for name in referred)


def _items_of(entries: Iterable[Entry]) -> frozenset[ItemKey]:
    return frozenset(item for entry in entries for item in entry.items)


def recorded_item(stored: Revision | None, entry: Entry, item: ItemKey) -> Json | None:
    """The canonical form that *stored*, the revision of *entry*, gives *item* there, or None where it is not known."""
    return canonical_item(adjusted(stored, entry.adjustment), item) if stored is not None else None


def canonical_item(revision: Revision, item: ItemKey) -> Json | None:
    """The canonical form that *revision* gives *item*, or None where it does not provide it."""
    match item.list:
        case "initContainers":
            sidecar = revision.sidecar(item.name)
            return sidecar.container if sidecar else None
        case "volumes":
            return revision.volume(item.name)
        case "imagePullSecrets":
            return {"name": item.name} if item.name in revision.pull_secrets else None
        case "labels" | "annotations":
            return dict(revision.pod_metadata.items).get(item)
        case "env":
            additions = revision.application.env
        case _:
            additions = revision.application.volume_mounts
    return next((each for each in additions if each[IDENTITY[item.list]] == item.name), None)


def rebuilt(template: Json, record: Record, claims: Claims, revisions: Sequence[Revision]) -> Record:
    """Return *record* with an entry for each policy whose entry was lost, as far as that can be known.

    Only for items that one of *revisions* (of policies that select the workload now, the newest first) makes exactly
    so, and whose key our field manager owns; and only where it has sidecars for them, and all of those are there.
    """
    entries = dict(record.entries)
    live = template_items(template)
    for revision in revisions:
        if revision.policy in entries:
            continue
        found = {
            item
            for item, content in live.items()
            if item in claims.ours
            and item not in record.items
            and item not in record.orphaned
            and (canonical := canonical_item(revision, item)) is not None
            and is_as_it_should_be(content, canonical)
        }
        sidecars = {ItemKey(INIT_CONTAINERS, sidecar.name) for sidecar in revision.sidecars}
        if sidecars and sidecars <= found:
            entries[revision.policy] = Entry(
                revision=revision.name,
                items=frozenset(found),
                adjustment=revision.adjustment,
                config=Config(restart=config_restart_on(template, revision.policy)),
            )
    return replace(record, entries=entries)


def given_up(record: Record, policies: Collection[PolicyId], claims: Claims) -> Record:
    """Return *record* without what somebody declares of the items of *policies*, which have no say here.

    Whoever copied a Deployment with kubectl has declared everything on it: it is theirs, and may be adopted.
    """
    entries = dict(record.entries)
    for policy in policies:
        entry = entries[policy]
        left = replace(entry, items=entry.items - claims.owners.keys())
        if left.items or not entry.items:
            entries[policy] = left
        else:
            del entries[policy]
    return replace(record, entries=entries)
