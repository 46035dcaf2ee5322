"""Who else says that an item of a Pod template is theirs.

An item is *claimed* where an Apply manager owns its key (server-side apply, which covers Flux, Helm 4 and Argo CD in
that mode), kubectl's last-applied annotation declares an item of its name (client-side apply, Argo CD's default), or a
tool that only ever writes what its owner declares has written some of its fields (Helm 3 patches without applying).
managedFields alone say little: fields that admission adds belong to nobody, and a client-side owner who declares an
item equal to ours leaves no trace in them. So they only ever hold us back; nothing is removed because of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from types import MappingProxyType
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.pod_metadata import metadata_items
from sidecarpolicy.core.record import ENV, INIT_CONTAINERS, METADATA, PULL_SECRETS, VOLUME_MOUNTS, VOLUMES, ItemKey
from sidecarpolicy.core.tree import Json, at, items

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CLIENT_SIDE_APPLY = "kubectl apply"
IDENTITY = {
    INIT_CONTAINERS: "name",
    VOLUMES: "name",
    ENV: "name",
    VOLUME_MOUNTS: "mountPath",
    PULL_SECRETS: "name",
    **dict.fromkeys(METADATA, "name"),
}

# Field managers, by prefix, of tools that write what their owner declares, and nothing by hand: a field of theirs in an
# item says that their owner declares an item of that name.
DECLARING = ("helm", "argocd", "Terraform", "HashiCorp", "pulumi")


class Claims:
    """What others claim of a workload's Pod template, found when it is asked for: most of it seldom is.

    *metadata* is the workload's; *template*: where in the object its Pod template is.
    """

    def __init__(
        self, metadata: Mapping[str, Any] = MappingProxyType({}), template: Sequence[str] = ("spec", "template")
    ) -> None:
        self._metadata, self._template = metadata, template

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Claims) and self._everything == other._everything

    __hash__ = None  # type: ignore[assignment]

    @property
    def _everything(self) -> tuple[object, ...]:
        return self.owners, self.ours, self.touched

    @cached_property
    def owners(self) -> Mapping[ItemKey, str]:
        """Items that somebody declares, and who."""
        last_applied = at(self._metadata, "annotations").get(LAST_APPLIED)
        declared = dict.fromkeys(_declared(last_applied, self._template), CLIENT_SIDE_APPLY)
        return declared | {
            item: manager
            for entry, manager in self._others
            if entry.get("operation") == "Apply" or manager.startswith(DECLARING)
            for item in self._owned(entry)
        }

    @cached_property
    def record_is_declared(self) -> bool:
        """Whether somebody applies the record itself: a file with what was injected into it before."""
        for entry, manager in self._others:
            declares = entry.get("operation") == "Apply" or manager.startswith(DECLARING)
            if declares and f"f:{names.RECORD}" in at(entry, "fieldsV1", "f:metadata", "f:annotations"):
                return True
        text = at(self._metadata, "annotations").get(LAST_APPLIED) or ""
        return names.RECORD in text and names.RECORD in _annotations_declared(text)

    @cached_property
    def emptied(self) -> frozenset[tuple[str, str]]:
        """Lists that kubectl's annotation gives without a value, with the container that each is of.

        To kubectl that is a deletion, with every apply, of whatever is there.
        """
        text = at(self._metadata, "annotations").get(LAST_APPLIED) or ""
        if "null" not in text:
            return frozenset()
        return frozenset(_emptied(text, self._template))

    @cached_property
    def ours(self) -> frozenset[ItemKey]:
        """Items whose key we own."""
        entries = items(self._metadata, "managedFields")
        return frozenset(
            item for entry in entries if entry.get("manager") == names.FIELD_MANAGER for item in self._owned(entry)
        )

    @cached_property
    def touched(self) -> Mapping[ItemKey, str]:
        """Items in which another manager owns some field, and who."""
        return {item: manager for entry, manager in self._others for item in self._owned(entry)}

    @property
    def _others(self) -> Iterator[tuple[Json, str]]:
        for entry in items(self._metadata, "managedFields"):
            if (manager := str(entry.get("manager"))) != names.FIELD_MANAGER:
                yield entry, manager

    def _owned(self, entry: Json) -> Iterator[ItemKey]:
        return _owned(at(entry, "fieldsV1", *(f"f:{key}" for key in self._template)))


NO_CLAIMS = Claims()


def claims_of(metadata: Mapping[str, Any], template: Sequence[str] = ("spec", "template")) -> Claims:
    """Return the claims that a workload's *metadata* shows; *template*: where in the object its Pod template is."""
    return Claims(metadata, template)


def template_items(template: Json) -> dict[ItemKey, Json]:
    """Return every item of a Pod *template* that could be one of ours, by its key."""
    spec = at(template, "spec")
    init_containers = items(spec, INIT_CONTAINERS)
    found = {ItemKey(INIT_CONTAINERS, each["name"]): each for each in init_containers}
    for each in items(spec, VOLUMES):
        found[ItemKey(VOLUMES, each["name"])] = each
    for container in (*init_containers, *items(spec, "containers")):
        name = container["name"]
        for each in container.get(ENV) or ():
            found[ItemKey(ENV, each["name"], name)] = each
        for each in container.get(VOLUME_MOUNTS) or ():
            found[ItemKey(VOLUME_MOUNTS, each["mountPath"], name)] = each
    for each in items(spec, PULL_SECRETS):
        found[ItemKey(PULL_SECRETS, each.get("name", ""))] = each
    for listed in METADATA:
        for each in metadata_items(template, listed):
            found[ItemKey(listed, each["name"])] = each
    return found


def without_items(fields: Json, gone: Iterable[ItemKey], template: Sequence[str] = ("spec", "template")) -> Json:
    """Return *fields*, of an entry of managedFields, without the items *gone* of the Pod template."""
    left = deepcopy(fields)
    base = [f"f:{key}" for key in template]
    for item in gone:
        if item.list in METADATA:
            _drop(left, [*base, "f:metadata", f"f:{item.list}", f"f:{item.name}"])
        elif not item.container:
            _drop(left, [*base, "f:spec", f"f:{item.list}", item.name], IDENTITY[item.list])
        else:
            for containers in (INIT_CONTAINERS, "containers"):
                for path, _ in list(at(left, *base, "f:spec", f"f:{containers}").items()):
                    if path.startswith("k:") and json.loads(path[2:]).get("name") == item.container:
                        listed = [*base, "f:spec", f"f:{containers}", path, f"f:{item.list}"]
                        _drop(left, [*listed, item.name], IDENTITY[item.list])
    return left


def _drop(fields: Json, path: Sequence[str], key: str = "") -> None:
    """Take *path* out of *fields*, with what is empty then; its last step is the value of *key* where that is given."""
    step, *rest = path
    if not rest and key:
        step = next((each for each in fields if each.startswith("k:") and json.loads(each[2:]).get(key) == step), "")
    if step in fields:
        if rest:
            _drop(fields[step], rest, key)
        if not rest or not fields[step].keys() - {"."}:
            del fields[step]


def _declared(last_applied: str | None, template: Sequence[str]) -> Iterable[ItemKey]:
    """Return the items that kubectl's annotation declares; a mangled one declares nothing, as kubectl itself has it."""
    try:
        manifest = json.loads(last_applied or "{}")
        return template_items(at(manifest, *template)).keys()
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return ()


def _annotations_declared(last_applied: str) -> Json:
    try:
        return at(json.loads(last_applied), "metadata", "annotations")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _emptied(last_applied: str, template: Sequence[str]) -> Iterator[tuple[str, str]]:
    try:
        pod = at(json.loads(last_applied), *template)
        metadata, spec = at(pod, "metadata"), at(pod, "spec")
        yield from ((listed, "") for listed in METADATA if listed in metadata and metadata[listed] is None)
        lists = (INIT_CONTAINERS, VOLUMES, PULL_SECRETS)
        yield from ((listed, "") for listed in lists if listed in spec and spec[listed] is None)
        for container in (*items(spec, INIT_CONTAINERS), *items(spec, "containers")):
            for listed in (ENV, VOLUME_MOUNTS):
                if listed in container and container[listed] is None:
                    yield listed, container["name"]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return


def _owned(fields: Mapping[str, Any]) -> Iterator[ItemKey]:
    """Yield the items in which a managedFields entry owns something; *fields*: those of the Pod template."""
    for listed in METADATA:
        for path in at(fields, "f:metadata", f"f:{listed}"):
            if path.startswith("f:"):
                yield ItemKey(listed, path[2:])
    fields = at(fields, "f:spec")
    for listed in (INIT_CONTAINERS, VOLUMES, PULL_SECRETS):
        for name, _ in _keyed(at(fields, f"f:{listed}"), "name"):
            yield ItemKey(listed, name)
    for containers in (INIT_CONTAINERS, "containers"):
        for container, owned in _keyed(at(fields, f"f:{containers}"), "name"):
            for listed in (ENV, VOLUME_MOUNTS):
                for name, _ in _keyed(at(owned, f"f:{listed}"), IDENTITY[listed]):
                    yield ItemKey(listed, name, container)


def _keyed(fields: Mapping[str, Any], key: str) -> Iterator[tuple[str, Json]]:
    for path, owned in fields.items():
        if path.startswith("k:"):
            yield str(json.loads(path[2:]).get(key)), owned
