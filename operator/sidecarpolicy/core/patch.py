"""One JSON Patch per change, per workload (RFC 6902): guards, whole lists, single labels and annotations, the record.

Whole-list replacement keeps the exact order and records ownership only for what changed; SSA would put our items after
the application's init containers. The guard is on `generation`, which moves with every change of spec or annotations
but not of status, so a rollout in progress never causes a conflict. One thing it misses: the Deployment controller adds
its first annotation by an update of the status. So where we would make the map of annotations, resourceVersion is
tested.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.claims import without_items
from sidecarpolicy.core.record import ENV, INIT_CONTAINERS, METADATA, PULL_SECRETS, VOLUME_MOUNTS, VOLUMES, ItemKey
from sidecarpolicy.core.tree import Json, at, items


def json_patch(
    *,
    uid: str,
    generation: int,
    before: Json,
    after: Json,
    annotated: bool,
    record: str | None,
    new_record: str,
    path: Sequence[str] = ("spec", "template"),
    version: int | None = None,
) -> list[Json]:
    """Return the operations that turn template *before* into *after*; empty where nothing changes.

    *annotated*: whether the workload has any annotation. *record* and *new_record*: the annotation's text now (None
    where it is absent) and then (empty to remove it). *path*: where in the object its Pod template is. *version*: its
    resourceVersion.
    """
    changes = template_and_record_changes(
        before=before, after=after, path=path, annotated=annotated, record=record, new_record=new_record
    )
    if not changes:
        return []
    makes_the_map = not annotated and bool(new_record) and version is not None
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/generation", "value": generation},
        *([{"op": "test", "path": "/metadata/resourceVersion", "value": str(version)}] if makes_the_map else []),
        *changes,
    ]


def template_and_record_changes(
    *,
    before: Json,
    after: Json,
    path: Sequence[str],
    annotated: bool,
    record: str | None,
    new_record: str,
) -> list[Json]:
    """Return the same operations without the tests: for an object that nobody else can write meanwhile."""
    return [
        *_template_changes(before, after, path),
        *_record_change(annotated, record, new_record),
    ]


def release(body: Json, given: Collection[ItemKey], path: Sequence[str] = ("spec", "template")) -> list[Json]:
    """Return the operations by which our field manager owns nothing of *given* in *body*; empty where it does not.

    To Kubernetes an item is there as long as anybody owns its key: who applies what was ours too could not take it out
    again. Other entries may move at any time, hence the test of resourceVersion.
    """
    metadata = at(body, "metadata")
    changes: list[Json] = []
    for index, each in enumerate(items(metadata, "managedFields")):
        if (each.get("manager"), each.get("subresource")) != (names.FIELD_MANAGER, None):
            continue
        left = without_items(each["fieldsV1"], given, path)
        if left != each["fieldsV1"]:
            entry = f"/metadata/managedFields/{index}"
            changes.append(
                {"op": "replace", "path": f"{entry}/fieldsV1", "value": left}
                if left
                else {"op": "remove", "path": entry}
            )
    if not changes:
        return []
    return [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        *reversed(changes),
    ]


def _template_changes(before: Json, after: Json, path: Sequence[str]) -> list[Json]:
    old, new = at(before, "spec"), at(after, "spec")
    base = f"/{'/'.join(path)}/spec"
    return [
        *_metadata_changes(f"/{'/'.join(path)}/metadata", before.get("metadata"), after.get("metadata")),
        *_list_change(f"{base}/{INIT_CONTAINERS}", items(old, INIT_CONTAINERS), items(new, INIT_CONTAINERS)),
        *_list_change(f"{base}/{VOLUMES}", items(old, VOLUMES), items(new, VOLUMES)),
        *_list_change(f"{base}/{PULL_SECRETS}", items(old, PULL_SECRETS), items(new, PULL_SECRETS)),
        *(
            change
            for index, (was, becomes) in enumerate(zip(items(old, "containers"), items(new, "containers"), strict=True))
            for listed in (ENV, VOLUME_MOUNTS)
            for change in _list_change(
                f"{base}/containers/{index}/{listed}", items(was, listed), items(becomes, listed)
            )
        ),
    ]


def _metadata_changes(path: str, old: Json | None, new: Json | None) -> list[Json]:
    if not old or not new:
        return [_entry_change(path, new or None)] if old or new else []
    return [
        change for listed in METADATA for change in _entry_changes(f"{path}/{listed}", at(old, listed), at(new, listed))
    ]


def _entry_changes(path: str, old: Json, new: Json) -> list[Json]:
    if not old or not new:
        return [_entry_change(path, new or None)] if old or new else []
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return [_entry_change(f"{path}/{escaped(name)}", new.get(name)) for name in changed]


def _entry_change(path: str, new: Any) -> Json:
    """Put *new* at *path*, None for nothing; to add where there is something replaces it (RFC 6902, 4.1)."""
    return {"op": "add", "path": path, "value": new} if new is not None else {"op": "remove", "path": path}


def escaped(name: str) -> str:
    """Return *name* as one step of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _list_change(path: str, old: Sequence[Any], new: Sequence[Any]) -> list[Json]:
    if old == new:
        return []
    if not new:
        return [{"op": "remove", "path": path}]
    return [{"op": "replace" if old else "add", "path": path, "value": list(new)}]


def _record_change(annotated: bool, record: str | None, new_record: str) -> list[Json]:
    path = f"/metadata/annotations/{escaped(names.RECORD)}"
    if (record or "") == new_record and not (record is not None and not new_record):
        return []
    if not new_record:
        return [{"op": "remove", "path": path}]
    if not annotated:
        return [{"op": "add", "path": "/metadata/annotations", "value": {names.RECORD: new_record}}]
    return [{"op": "add", "path": path, "value": new_record}]
