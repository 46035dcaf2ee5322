"""Pod templates as the API server stores them, policies of both kinds, and what owners do to their templates.

Names come from small pools that overlap on purpose, so that policies and applications get in each other's way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import adjusted, adjustment_on, wishes_of
from sidecarpolicy.core.adjustment import Account
from sidecarpolicy.core.claims import IDENTITY
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.ordering import precedence
from sidecarpolicy.core.policy import ROLES
from sidecarpolicy.core.record import (
    ANNOTATIONS,
    ENV,
    INIT_CONTAINERS,
    LABELS,
    METADATA,
    PULL_SECRETS,
    VOLUME_MOUNTS,
    VOLUMES,
    ItemKey,
)
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json, items, with_items
from sidecarpolicy.names import PodReadiness, Position, Role, Startup

CONTAINERS = "containers"
LISTS = (INIT_CONTAINERS, CONTAINERS, VOLUMES)

APPLICATION_INITS = ("migrate", "fetch", "wait", "proxy")
APPLICATION_CONTAINERS = ("app", "worker", "web")
SIDECARS = ("proxy", "logger", "monitor", "vault", "tunnel")
APPLICATION_ENV = ("MODE", "HTTP_PROXY", "LANG")
POLICY_ENV = ("HTTP_PROXY", "STATSD", "TRACE")
APPLICATION_PATHS = ("/data", "/var/log", "/tmp")
POLICY_PATHS = ("/var/log", "/run/sock", "/certs")
APPLICATION_VOLUMES = ("data", "logs", "tmp")
POLICY_VOLUMES = ("logs", "sock", "certs")
APPLICATION_SECRETS = ("registry", "mirror")
POLICY_SECRETS = ("registry", "vendor")
APPLICATION_KEYS = ("team", "scrape", "checksum")
POLICY_KEYS = ("scrape", "mesh", "team")
IMAGES = ("example.test/a:1", "example.test/a:2", "example.test/b:1")


def some(pool: Sequence[str], most: int = 3) -> st.SearchStrategy[list[str]]:
    """Draw some different names of *pool*, in any order."""
    return st.lists(st.sampled_from(pool), unique=True, max_size=most)


def without_empty(value: Mapping[str, Any]) -> Json:
    """Drop empty lists, as the API server does when it stores an object."""
    return {key: field for key, field in value.items() if field != []}


@st.composite
def volumes(draw: st.DrawFn, pool: Sequence[str]) -> list[Json]:
    """Volumes of different names and sources; one source is frequent, so that policies share some."""
    sources: st.SearchStrategy[Json] = st.just({"emptyDir": {}}) | st.sampled_from(
        [
            {"emptyDir": {}},
            {"emptyDir": {"sizeLimit": "64Mi"}},
            {"configMap": {"name": "settings", "defaultMode": 420}},
            {"secret": {"secretName": "keys", "defaultMode": 420}},
        ]
    )
    return [{"name": name, **draw(sources)} for name in draw(some(pool))]


@st.composite
def env(draw: st.DrawFn, pool: Sequence[str]) -> list[Json]:
    """Environment variables of different names."""
    return [{"name": name, "value": draw(st.sampled_from(["1", "2"]))} for name in draw(some(pool))]


@st.composite
def mounts(draw: st.DrawFn, paths: Sequence[str], mounted: Sequence[str]) -> list[Json]:
    """Mounts at different paths."""
    if not mounted:
        return []
    return [{"name": draw(st.sampled_from(mounted)), "mountPath": path} for path in draw(some(paths))]


@st.composite
def pull_secrets(draw: st.DrawFn, pool: Sequence[str]) -> list[Json]:
    """References to different Secrets."""
    return [{"name": name} for name in draw(some(pool))]


@st.composite
def metadata_values(draw: st.DrawFn, pool: Sequence[str]) -> dict[str, str]:
    """Labels or annotations of different keys."""
    return {name: draw(st.sampled_from(["", "1", "2"])) for name in draw(some(pool))}


@st.composite
def containers_of_applications(draw: st.DrawFn, name: str, *, init: bool = False) -> Json:
    """One container of an application, regular, plain init or (*init*) sometimes a native sidecar of its own."""
    container = {
        "name": name,
        "image": draw(st.sampled_from(IMAGES)),
        "imagePullPolicy": "IfNotPresent",
        ENV: draw(env(APPLICATION_ENV)),
        VOLUME_MOUNTS: draw(mounts(APPLICATION_PATHS, APPLICATION_VOLUMES)),
        "ports": [{"containerPort": port, "protocol": "TCP"} for port in draw(st.sets(st.sampled_from([80, 81])))],
    }
    if init and draw(st.booleans()):
        container["restartPolicy"] = "Always"
    return without_empty(container)


@st.composite
def templates(draw: st.DrawFn) -> Json:
    """A Pod template as the API server stores it: no empty lists."""
    regular = draw(st.lists(st.sampled_from(APPLICATION_CONTAINERS), unique=True, min_size=1, max_size=2))
    inits = [name for name in draw(some(APPLICATION_INITS)) if name not in regular]
    spec = {
        INIT_CONTAINERS: [draw(containers_of_applications(name, init=True)) for name in inits],
        CONTAINERS: [draw(containers_of_applications(name)) for name in regular],
        VOLUMES: draw(volumes(APPLICATION_VOLUMES)),
        PULL_SECRETS: draw(pull_secrets(APPLICATION_SECRETS)),
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
    }
    metadata = {LABELS: {"tier": "web"} | draw(metadata_values(APPLICATION_KEYS))}
    if annotations := draw(metadata_values(APPLICATION_KEYS)):
        metadata[ANNOTATIONS] = annotations
    return {"metadata": metadata, "spec": without_empty(spec)}


@st.composite
def _sidecars(draw: st.DrawFn, mounted: Sequence[str], ports: st.SearchStrategy[int]) -> list[Json]:
    sidecars: list[Json] = []
    chosen = draw(st.lists(st.sampled_from(SIDECARS), unique=True, min_size=1, max_size=3))
    taken: set[int] = set()
    for name in chosen:
        role = draw(st.sampled_from(list(Role)))
        container: Json = {"image": draw(st.sampled_from(IMAGES))}
        mounts_some: bool = draw(st.booleans())
        if mounted and mounts_some:
            container[VOLUME_MOUNTS] = draw(mounts(POLICY_PATHS, mounted))
        container[ENV] = draw(env(POLICY_ENV))
        if draw(st.booleans()):
            container["readinessProbe"] = {
                **draw(st.sampled_from([{"httpGet": {"path": "/", "port": 80}}, {"tcpSocket": {"port": 80}}])),
                "timeoutSeconds": draw(st.integers(1, 70)),
            }
        port = draw(ports)
        if port not in taken:
            container["ports"] = [{"containerPort": port}]
            taken.add(port)
        sidecar: Json = {"name": name, "role": role.value, "container": without_empty(container)}
        sidecar["overridable"] = ["resources.limits", "env.TRACE", "env.OWN"]
        if draw(st.booleans()):
            sidecar["position"] = draw(st.sampled_from(Position)).value
        if draw(st.booleans()):
            sidecar["startup"] = draw(st.sampled_from(Startup)).value
            sidecar["podReadiness"] = draw(st.sampled_from(PodReadiness)).value
        if draw(st.booleans()):
            late = _is_late(sidecar)
            own = [each["name"] for each in sidecars if late or not _is_late(each)]
            others = [each for each in SIDECARS if each not in chosen]
            if own or others:
                sidecar["startAfter"] = draw(some([*own, *others], most=2))
        sidecars.append(sidecar)
    return sidecars


def _is_late(sidecar: Json) -> bool:
    position = sidecar.get("position") or ROLES[Role(sidecar["role"])].position
    return bool(position == Position.AFTER_INIT)


@st.composite
def specs(draw: st.DrawFn, ports: st.SearchStrategy[int] | None = None) -> Json:
    """The spec of a policy that decodes."""
    provided = draw(volumes(POLICY_VOLUMES))
    mounted = [each["name"] for each in provided]
    return {
        "selector": {},
        "priority": draw(st.integers(-1, 1)),
        "sidecars": draw(_sidecars(mounted, ports or st.integers(79, 99))),
        "volumes": provided,
        "application": {
            "containers": draw(some(APPLICATION_CONTAINERS, most=1)),
            "initContainers": draw(st.sampled_from(["None", "All"])),
            "env": draw(env(POLICY_ENV)),
            "volumeMounts": draw(mounts(POLICY_PATHS, mounted)),
        },
        PULL_SECRETS: draw(pull_secrets(POLICY_SECRETS)),
        "podMetadata": {LABELS: draw(metadata_values(POLICY_KEYS)), ANNOTATIONS: draw(metadata_values(POLICY_KEYS))},
    }


NAMES_OF_POLICIES = ("base", "edge", "web")


@st.composite
def policies(draw: st.DrawFn, *, name: str, cluster: bool) -> Json:
    """The manifest of a policy of either kind."""
    metadata: Json = {"name": name, "creationTimestamp": f"2026-01-0{draw(st.integers(1, 3))}T00:00:00Z"}
    spec = draw(specs())
    if cluster:
        spec = {**spec, "namespaceSelector": {}}
    else:
        metadata["namespace"] = "shop"
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.CLUSTER_POLICY if cluster else names.POLICY,
        "metadata": metadata,
        "spec": spec,
    }


def _items(revision: Revision) -> set[tuple[str, str]]:
    return {
        *((INIT_CONTAINERS, each.name) for each in revision.sidecars),
        *((ENV, each["name"]) for each in revision.application.env),
        *((VOLUME_MOUNTS, each["mountPath"]) for each in revision.application.volume_mounts),
    }


def not_overridden(found: Sequence[Revision]) -> list[Revision]:
    """Leave out what a policy of higher precedence overrides (see `skips`); equal volumes, labels, … are shared."""
    kept: list[Revision] = []
    for revision in sorted(found, key=precedence):
        shared = all(other.volume(each["name"]) in (None, each) for other in kept for each in revision.volumes) and all(
            other.pod_metadata.of(listed).get(name, value) == value
            for other in kept
            for listed in METADATA
            for name, value in revision.pod_metadata.of(listed).items()
        )
        if shared and not any(_items(revision) & _items(other) for other in kept):
            kept.append(revision)
    return kept


OVERRIDES = st.sampled_from(
    [
        {"env": {"TRACE": "3"}},
        {"env": {"TRACE": "3", "OWN": ""}},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"env": {"LD_PRELOAD": "x"}},
    ]
).map(json.dumps)


@st.composite
def as_its_owner_wants(draw: st.DrawFn, manifest: Json) -> Revision:
    """The revision of a policy, sometimes without some of its sidecars, but never without all."""
    policy = decode_policy(manifest)
    revision = offline(policy)
    skipped = draw(st.just([]) | some([each.name for each in revision.sidecars], most=len(revision.sidecars) - 1))
    account = draw(st.none() | st.builds(Account, name=st.just("default"), secrets=st.sampled_from([(), ("account",)])))
    overrides = {f"{names.OVERRIDE}{name}": draw(OVERRIDES) for name in draw(some(SIDECARS))}
    wishes = replace(wishes_of({names.SKIP: ",".join(skipped), **overrides}, {}), account=account)
    return adjusted(revision, adjustment_on(revision, wishes, policy, None))


@st.composite
def revisions(draw: st.DrawFn) -> list[Revision]:
    """Revisions of one to four policies, of either kind, that may be on one workload together."""
    chosen = draw(
        st.lists(st.tuples(st.sampled_from(NAMES_OF_POLICIES), st.booleans()), unique=True, min_size=1, max_size=4)
    )
    found = [draw(as_its_owner_wants(draw(policies(name=name, cluster=cluster)))) for name, cluster in chosen]
    return draw(st.permutations(not_overridden(found)))


@st.composite
def moves(draw: st.DrawFn) -> tuple[list[Revision], list[Revision]]:
    """Policies before and after: some at another revision, some come and some go."""
    before = draw(revisions())
    edited = [
        draw(as_its_owner_wants(draw(policies(name=each.policy.name, cluster=each.policy.cluster_wide))))
        if draw(st.booleans())
        else each
        for each in before
    ]
    coming = [each for each in draw(st.just([]) | revisions()) if each.policy not in {e.policy for e in before}]
    return before, not_overridden([*edited[draw(st.integers(0, 1)) :], *coming])


# What owners do to their own items.

Change = Callable[[list[Json]], list[Json]]


@dataclass(frozen=True)
class Edit:
    """Something that an owner does to his own items; shown by its words where a test fails."""

    words: str
    change: Callable[[Json, frozenset[ItemKey]], Json]

    def __call__(self, template: Json, ours: frozenset[ItemKey]) -> Json:
        """Return *template* after the edit, which touches none of *ours*."""
        return self.change(template, ours)

    def __repr__(self) -> str:
        return self.words


def own_only(content: Sequence[Json], ours: Callable[[Json], bool], change: Change) -> list[Json]:
    """Apply *change* to the own items of a list; ours keep their places as far as there are any."""
    changed = change([each for each in content if not ours(each)])
    result: list[Json] = []
    for each in content:
        if ours(each):
            result.append(each)
        elif changed:
            result.append(changed.pop(0))
    return [*result, *changed]


def _is_ours(listed: str, ours: frozenset[ItemKey], container: str = "") -> Callable[[Json], bool]:
    key = IDENTITY.get(listed, "name")
    return lambda each: ItemKey(list=listed, name=str(each[key]), container=container) in ours


def edit_list(listed: str, change: Change) -> Callable[[Json, frozenset[ItemKey]], Json]:
    """Edit a list of the Pod's spec."""

    def edit(template: Json, ours: frozenset[ItemKey]) -> Json:
        spec = template["spec"]
        content = own_only(items(spec, listed), _is_ours(listed, ours), change)
        return {**template, "spec": with_items(spec, listed, content)}

    return edit


def edit_metadata(listed: str, change: Callable[[Json], Json]) -> Callable[[Json, frozenset[ItemKey]], Json]:
    """Edit the owner's labels or annotations."""

    def edit(template: Json, ours: frozenset[ItemKey]) -> Json:
        found = template["metadata"].get(listed, {})
        own = {name: value for name, value in found.items() if ItemKey(listed, name) not in ours}
        changed = change(own) | {name: value for name, value in found.items() if name not in own}
        metadata = {key: value for key, value in template["metadata"].items() if key != listed}
        return {**template, "metadata": metadata | ({listed: changed} if changed else {})}

    return edit


def edit_inner(container: str, listed: str, change: Change) -> Callable[[Json, frozenset[ItemKey]], Json]:
    """Edit env or mounts of one of the application's own containers, where it is there."""

    def inside(each: Json, ours: frozenset[ItemKey]) -> Json:
        return with_items(each, listed, own_only(items(each, listed), _is_ours(listed, ours, container), change))

    def edit(template: Json, ours: frozenset[ItemKey]) -> Json:
        spec = template["spec"]
        for outer in (INIT_CONTAINERS, CONTAINERS):
            ours_there = _is_ours(outer, ours)
            content = [
                inside(each, ours) if each["name"] == container and not ours_there(each) else each
                for each in items(spec, outer)
            ]
            spec = with_items(spec, outer, content)
        return {**template, "spec": spec}

    return edit


def rename(listed: str, place: int, name: str) -> Callable[[Json, frozenset[ItemKey]], Json]:
    """Rename a container as an apply does it: the old one goes with what is ours in it, a new one comes without."""

    def edit(template: Json, ours: frozenset[ItemKey]) -> Json:
        def change(content: list[Json]) -> list[Json]:
            if not content:
                return []
            place_there = place % len(content)
            container = content[place_there]
            for inner in (ENV, VOLUME_MOUNTS):
                own = [each for each in items(container, inner) if not _is_ours(inner, ours, container["name"])(each)]
                container = with_items(container, inner, own)
            return [*content[:place_there], {**container, "name": name}, *content[place_there + 1 :]]

        return edit_list(listed, change)(template, ours)

    return edit


def _without(place: int, *, least: int = 0) -> Change:
    def change(content: list[Json]) -> list[Json]:
        if len(content) <= least:
            return content
        place_there = place % len(content)
        return [*content[:place_there], *content[place_there + 1 :]]

    return change


def _with_fields(place: int, fields: Json) -> Change:
    def change(content: list[Json]) -> list[Json]:
        if not content:
            return []
        place_there = place % len(content)
        return [{**each, **fields} if index == place_there else each for index, each in enumerate(content)]

    return change


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """One to three things that an owner does, none of which touches an item of ours."""
    parts = [draw(_edit(number)) for number in range(draw(st.integers(1, 3)))]
    return Edit(
        words=", then ".join(part.words for part in parts),
        change=lambda template, ours: reduce(lambda so_far, part: part(so_far, ours), parts, template),
    )


@st.composite
def _edit(draw: st.DrawFn, number: int) -> Edit:
    """One edit; new items have names that nothing of ours has."""
    place = draw(st.integers(0, 2))
    listed = draw(st.sampled_from(LISTS))
    container = draw(st.sampled_from([*APPLICATION_CONTAINERS, *APPLICATION_INITS]))
    inner = draw(st.sampled_from([ENV, VOLUME_MOUNTS]))
    least = 1 if listed == CONTAINERS else 0
    new = _new_item(listed, f"own-{number}")
    new_inner: Json = (
        {"name": f"OWN_{number}", "value": "1"} if inner == ENV else {"name": "data", "mountPath": f"/own/{number}"}
    )
    image = {"image": "example.test/changed:1"} if listed != VOLUMES else {"emptyDir": {"medium": "Memory"}}
    return draw(
        st.sampled_from(
            [
                Edit(f"append to {listed}", edit_list(listed, lambda own: [*own, new])),
                Edit(f"prepend to {listed}", edit_list(listed, lambda own: [new, *own])),
                Edit(f"remove {place} of {listed}", edit_list(listed, _without(place, least=least))),
                Edit(f"reverse {listed}", edit_list(listed, lambda own: own[::-1])),
                Edit(f"change {place} of {listed}", edit_list(listed, _with_fields(place, image))),
                Edit(f"rename {place} of containers", rename(CONTAINERS, place, f"renamed-{number}")),
                Edit(f"rename {place} of initContainers", rename(INIT_CONTAINERS, place, f"renamed-{number}")),
                Edit(f"append to {inner} of {container}", edit_inner(container, inner, lambda own: [*own, new_inner])),
                Edit(f"prepend to {inner} of {container}", edit_inner(container, inner, lambda own: [new_inner, *own])),
                Edit(f"remove {place} of {inner} of {container}", edit_inner(container, inner, _without(place))),
                Edit(f"reverse {inner} of {container}", edit_inner(container, inner, lambda own: own[::-1])),
                Edit("add a field of the Pod", lambda template, _: _with_pod_field(template)),
                Edit("append a pull secret", edit_list(PULL_SECRETS, lambda own: [*own, {"name": f"own-{number}"}])),
                Edit("remove a pull secret", edit_list(PULL_SECRETS, _without(place))),
                Edit("add a label", edit_metadata(LABELS, lambda own: own | {f"own-{number}": "1"})),
                Edit("change the labels", edit_metadata(LABELS, lambda own: dict.fromkeys(own, "changed"))),
                Edit("add an annotation", edit_metadata(ANNOTATIONS, lambda own: own | {f"own-{number}": "1"})),
                Edit("drop all annotations", edit_metadata(ANNOTATIONS, lambda own: {})),
            ]
        )
    )


def _new_item(listed: str, name: str) -> Json:
    if listed == VOLUMES:
        return {"name": name, "emptyDir": {}}
    return {"name": name, "image": "example.test/own:1", ENV: [{"name": "MODE", "value": "new"}]}


def _with_pod_field(template: Json) -> Json:
    return {**template, "spec": {**template["spec"], "nodeSelector": {"disk": "ssd"}}}
