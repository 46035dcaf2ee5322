"""What a policy adds to Pods beside containers, and what it lets owners override: the part of `decode` for that."""

from __future__ import annotations

from sidecarpolicy.core.configs import RestartOn
from sidecarpolicy.core.overrides import OVERRIDABLE, amount_problem
from sidecarpolicy.core.pod_metadata import PodMetadata, reserved
from sidecarpolicy.core.reading import Cursor
from sidecarpolicy.core.record import ANNOTATIONS, LABELS, METADATA
from sidecarpolicy.core.selection import Selector
from sidecarpolicy.core.syntax import DNS_NAME, LABEL_KEY, label_value, unique, unique_values

MOST_METADATA = 32
LONGEST_ANNOTATION = 4096
MOST_PULL_SECRETS = 16
MOST_CONFIGS = 16
LONGEST_NAME = 253
LONGEST_PATH = 256
MOST_OVERRIDABLE = 32


def pod_metadata(cursor: Cursor, selector: Selector) -> PodMetadata:
    """Return `spec.podMetadata`; *selector*: that of the policy."""
    cursor.mapping(allowed=frozenset(METADATA))
    labels = cursor.field(LABELS)
    for requirement in selector.requirements:
        if not labels.field(requirement.key).absent:
            message = "must not be a label that spec.selector asks for: what is selected depends on the owners' labels"
            labels.field(requirement.key).wrong(message)
    return PodMetadata(
        labels={name: label_value(value) for name, value in _added(labels, LABELS)},
        annotations={name: _annotation(value) for name, value in _added(cursor.field(ANNOTATIONS), ANNOTATIONS)},
    )


def pull_secrets(cursor: Cursor) -> tuple[str, ...]:
    """Return the names in `spec.imagePullSecrets`."""
    unique(cursor, "name")
    found = []
    for entry in cursor.entries():
        entry.mapping(allowed=frozenset({"name"}))
        name = entry.field("name").text()
        if not DNS_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            entry.field("name").wrong(f"must be the name of a Secret, not {name!r}")
        found.append(name)
    if len(found) > MOST_PULL_SECRETS:
        cursor.wrong(f"must hold at most {MOST_PULL_SECRETS} secrets, not {len(found)}")
    return tuple(found)


def restart_on(cursor: Cursor) -> RestartOn:
    """Return `spec.restartOn`."""
    cursor.mapping(allowed=frozenset({"configMaps", "secrets"}))
    found = RestartOn(
        config_maps=_object_names(cursor.field("configMaps"), "ConfigMap"),
        secrets=_object_names(cursor.field("secrets"), "Secret"),
    )
    if not (cursor.absent or found or cursor.problems):
        cursor.wrong("must name a ConfigMap or a Secret")
    return found


def _object_names(cursor: Cursor, kind: str) -> tuple[str, ...]:
    unique_values(cursor)
    found = []
    for entry in cursor.entries():
        name = entry.text()
        if not DNS_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            entry.wrong(f"must be the name of a {kind}, not {name!r}")
        found.append(name)
    if len(found) > MOST_CONFIGS:
        cursor.wrong(f"must hold at most {MOST_CONFIGS} names, not {len(found)}")
    return tuple(found)


def _added(cursor: Cursor, listed: str) -> list[tuple[str, Cursor]]:
    found = [(name, cursor.field(name)) for name, value in cursor.mapping().items() if value is not None]
    if len(found) > MOST_METADATA:
        cursor.wrong(f"must hold at most {MOST_METADATA} {listed}, not {len(found)}")
    for name, value in found:
        if not LABEL_KEY.fullmatch(name):
            value.wrong(f"must have a key like that of a label, not {name!r}")
        elif why := reserved(listed, name):
            value.wrong(why)
    return found


def _annotation(cursor: Cursor) -> str:
    value = cursor.text()
    if len(value) > LONGEST_ANNOTATION:
        cursor.wrong(f"must have at most {LONGEST_ANNOTATION} characters, not {len(value)}")
    return value


def overridable(cursor: Cursor) -> tuple[str, ...]:
    """Return the paths in `overridable` of a sidecar."""
    unique_values(cursor)
    paths = []
    for entry in cursor.entries():
        path = entry.text()
        if not OVERRIDABLE.fullmatch(path) or len(path) > LONGEST_PATH:
            entry.wrong(
                f"must be resources, a part of it such as resources.limits.memory, or env.<variable>, not {path!r}"
            )
        paths.append(path)
    if len(paths) > MOST_OVERRIDABLE:
        cursor.wrong(f"must hold at most {MOST_OVERRIDABLE} paths, not {len(paths)}")
    return tuple(paths)


def override_max(cursor: Cursor) -> dict[str, str]:
    """Return `overrideMax` of a sidecar, each as it is written; nothing at all where it cannot be read."""
    found = {}
    for name in cursor.mapping(allowed=frozenset({"cpu", "memory"})):
        value = cursor.field(name).value
        if value is None:
            continue
        problem = amount_problem(value)
        if problem:
            cursor.field(name).wrong(problem)
        found[name] = "0" if problem else str(value)
    return found
