"""Sidecars lifted out of Deployments into SidecarPolicies, which give them to every Deployment that they select.

A sidecar is lifted where a policy can stand for it: in a Deployment, before or behind all init containers, with volumes
of its own only. Deployments of one namespace with equal sidecars share a policy. Everything else stays in place, as a
native sidecar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.decode import OURS_TO_SET, VOLUME_SOURCES
from sidecarpolicy.core.tree import Json, at, compact, items
from sidecarpolicy.lint.pods import Path, mapping, mappings, text
from sidecarpolicy.migrate.model import Done, Migration, Move, Note
from sidecarpolicy.migrate.moving import LEAVES, get, moved

_KEYS = ("app.kubernetes.io/name", "app", "name", "k8s-app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """What leaves a Deployment: *sidecars* and *volumes* as in a policy's spec, and the labels of its Pods."""

    name: str
    namespace: str
    labels: Json
    sidecars: tuple[Json, ...]
    volumes: tuple[Json, ...]


def lift(migration: Migration) -> tuple[Migration, Lifted | None]:
    """Return *migration* with its sidecars in a policy instead of in place, wherever one can stand for them."""
    if migration.before.get("kind") != "Deployment" or not migration.moves:
        return migration, None
    spec = mapping(get(migration.in_place, migration.spec_path))
    labels = at(get(migration.before, migration.spec_path[:-1]), "metadata", "labels")
    notes = list(migration.notes)
    sidecars: list[Json] = []
    volumes: list[Json] = []
    moves: list[Move] = []
    for move in migration.moves:
        container = spec["containers"][move.index]
        why = _not_liftable(migration, move, labels)
        if why:
            notes.append(Note(path=migration.spec_path, message=f"{move.name} stays in the Deployment: {why}"))
            moves.append(move)
            continue
        own = _own_volumes(spec, container)
        volumes += [deepcopy(each) for each in mappings(spec.get("volumes")) if text(each.get("name")) in own]
        sidecars.append(_sidecar(container, first=_is_first(migration, move)))
        moves.append(replace(move, to=LEAVES))
    if not sidecars:
        return replace(migration, notes=tuple(notes)), None
    in_place = _without_volumes(migration.in_place, migration.spec_path, {each["name"] for each in volumes})
    gone = {each["name"] for each in sidecars}
    done = [each for each in migration.done if not any(each.message.startswith(f"{name} is a native") for name in gone)]
    done += [Done(message=f"{name} comes from a SidecarPolicy") for name in sorted(gone)]
    metadata = mapping(migration.before.get("metadata"))
    return (
        replace(
            migration,
            in_place=in_place,
            after=moved(in_place, migration.spec_path, tuple(moves)),
            moves=tuple(moves),
            done=tuple(done),
            notes=tuple(each for each in notes if not _is_about(migration, each, gone)),
        ),
        Lifted(
            name=text(metadata.get("name")),
            namespace=text(metadata.get("namespace")),
            labels=labels,
            sidecars=tuple(sidecars),
            volumes=tuple(volumes),
        ),
    )


def policies(found: Sequence[Lifted], others: Iterable[Json]) -> list[Json]:
    """Return the policies that stand for *found*; *others*: the labels of Pods in Deployments that nothing left."""
    groups: dict[tuple[str, str], list[Lifted]] = {}
    for each in found:
        groups.setdefault((each.namespace, compact([each.sidecars, each.volumes])), []).append(each)
    foreign = list(others)
    made: list[Json] = []
    for (_, content), group in groups.items():
        elsewhere = foreign + [each.labels for each in found if compact([each.sidecars, each.volumes]) != content]
        shared = _shared_selector(group, elsewhere) if len(group) > 1 else None
        if shared is not None:
            made.append(_policy("-".join(each["name"] for each in group[0].sidecars), group[0], shared))
        else:
            made += [_policy(each.name, each, {"matchLabels": dict(each.labels)}) for each in group]
    return made


def _policy(name: str, lifted: Lifted, selector: Json) -> Json:
    metadata = {"name": name} | ({"namespace": lifted.namespace} if lifted.namespace else {})
    spec: Json = {"selector": selector, "sidecars": [deepcopy(each) for each in lifted.sidecars]}
    if lifted.volumes:
        spec["volumes"] = [deepcopy(each) for each in lifted.volumes]
    return {"apiVersion": names.API_VERSION, "kind": names.POLICY, "metadata": metadata, "spec": spec}


def _shared_selector(group: Sequence[Lifted], elsewhere: Sequence[Json]) -> Json | None:
    """A selector by one label that all of *group* have, and with one of their values nobody else; None for none."""
    common = set.intersection(*(set(each.labels) for each in group))
    for key in [*(each for each in _KEYS if each in common), *sorted(common - set(_KEYS))]:
        values = sorted({str(each.labels[key]) for each in group})
        if not any(str(labels.get(key)) in values for labels in elsewhere):
            if len(values) == 1:
                return {"matchLabels": {key: values[0]}}
            return {"matchExpressions": [{"key": key, "operator": "In", "values": values}]}
    return None


def _sidecar(container: Json, *, first: bool) -> Json:
    body = {key: deepcopy(value) for key, value in container.items() if key not in OURS_TO_SET}
    return {
        "name": container["name"],
        "position": "BeforeInit" if first else "AfterInit",
        "startup": "WaitUntilReady" if "startupProbe" in container else "WaitUntilStarted",
        "podReadiness": "Include",
        "container": body,
    }


def _not_liftable(migration: Migration, move: Move, labels: Json) -> str:
    spec = mapping(get(migration.in_place, migration.spec_path))
    container = spec["containers"][move.index]
    if not labels:
        return "its Pods have no labels by which a policy could select it"
    inits = items(spec, "initContainers")
    if inits and not (_is_first(migration, move) or move.to == len(inits)):
        return "it has to start between init containers, which a policy cannot say"
    mounted = {text(each.get("name")) for each in mappings(container.get("volumeMounts"))}
    shared = sorted(mounted - _own_volumes(spec, container))
    if shared:
        return f"it shares volume {', '.join(shared)} with other containers, or a policy may not have such a volume"
    return ""


def _is_first(migration: Migration, move: Move) -> bool:
    """Whether only native sidecars stand before it."""
    inits = items(mapping(get(migration.in_place, migration.spec_path)), "initContainers")
    plain = any(each.get("restartPolicy") != "Always" for each in inits)
    return plain and all(each.get("restartPolicy") == "Always" for each in inits[: move.to])


def _own_volumes(spec: Json, container: Json) -> set[str]:
    """The volumes that only this container mounts, of kinds that a policy may have."""
    mounted = {text(each.get("name")) for each in mappings(container.get("volumeMounts"))}
    others = [each for each in (*items(spec, "initContainers"), *items(spec, "containers")) if each is not container]
    taken = {text(mount.get("name")) for each in others for mount in mappings(each.get("volumeMounts"))}
    allowed = {text(each.get("name")) for each in mappings(spec.get("volumes")) if set(each) & VOLUME_SOURCES}
    return (mounted & allowed) - taken


def _without_volumes(body: Json, spec_path: Path, gone: set[Any]) -> Json:
    if not gone:
        return body
    after: Json = deepcopy(body)
    spec = mapping(get(after, spec_path))
    kept = [each for each in spec["volumes"] if each.get("name") not in gone]
    if kept:
        spec["volumes"] = kept
    else:
        spec.pop("volumes")
    return after


def _is_about(migration: Migration, note: Note, gone: set[Any]) -> bool:
    """Whether a note's place is in a container that has left."""
    depth = len(migration.spec_path)
    if len(note.path) < depth + 2 or note.path[depth] != "initContainers":
        return False
    container = get(migration.after, note.path[: depth + 2])
    return container.get("name") in gone
