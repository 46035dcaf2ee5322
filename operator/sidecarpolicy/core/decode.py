"""From a policy object to a Policy: the one place where a policy's JSON is read.

The API server has checked stored objects against the CRD; files given to the command line come unchecked, and a CRD
may be older than the operator. So everything is checked here again, and what no schema can say is checked here alone:
order within the policy, ports that two sidecars share. What Kubernetes itself says of a container or volume is left to
Kubernetes (see `rendering`): no copy of its validation can be right for long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.ordering import cycle
from sidecarpolicy.core.policy import ROLES, Application, Policy, Rollout, Sidecar
from sidecarpolicy.core.ports import claimed_ports
from sidecarpolicy.core.reading import Cursor, InvalidInput
from sidecarpolicy.core.selection import Operator, Requirement, Selector
from sidecarpolicy.core.tree import Json, at, items, with_items
from sidecarpolicy.names import DeletionPolicy, Position, Role, Strategy

MOST_SIDECARS = 16
INT32 = 2**31 - 1
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PERCENT = re.compile(r"(100|[1-9][0-9]?)%")

# Volumes that follow the Pod; hostPath and the vendors' own are left out on purpose (design: section 2).
VOLUME_SOURCES = frozenset(
    {"emptyDir", "configMap", "secret", "projected", "downwardAPI", "csi", "persistentVolumeClaim"}
)
SPEC_FIELDS = frozenset({"selector", "priority", "sidecars", "volumes", "application", "rollout", "deletionPolicy"})
SIDECAR_FIELDS = frozenset({"name", "role", "position", "startAfter", "startup", "podReadiness", "container"})
OURS_TO_SET = ("name", "restartPolicy", "restartPolicyRules")


def decode_policy(body: Mapping[str, Any]) -> Policy:
    """Return the policy that *body* declares; raise InvalidInput with every problem found."""
    root = Cursor(dict(body), "")
    metadata = root.field("metadata")
    kind = str(body.get("kind"))
    if body.get("apiVersion") != names.API_VERSION or kind not in names.PLURALS:
        root.field("kind").wrong(f"must be {' or '.join(names.PLURALS)} of {names.API_VERSION}")
        raise InvalidInput(tuple(root.problems))
    cluster_wide = kind == names.CLUSTER_POLICY
    name = metadata.field("name").text()
    if not name:
        metadata.field("name").wrong("must be given")
    spec = root.field("spec")
    spec.mapping(allowed=SPEC_FIELDS | ({"namespaceSelector"} if cluster_wide else set()))
    policy = Policy(
        id=PolicyId(
            kind=kind,
            namespace="" if cluster_wide else metadata.field("namespace").text("default"),
            name=name,
        ),
        uid=metadata.field("uid").text(),
        generation=metadata.field("generation").integer(1, least=0, most=2**63 - 1),
        created=metadata.field("creationTimestamp").text(),
        deleting=not metadata.field("deletionTimestamp").absent,
        selector=_required_selector(spec.field("selector")),
        namespace_selector=_required_selector(spec.field("namespaceSelector")) if cluster_wide else None,
        priority=spec.field("priority").integer(0, least=-INT32 - 1, most=INT32),
        sidecars=_sidecars(spec.field("sidecars")),
        volumes=_volumes(spec.field("volumes")),
        application=_application(spec.field("application"), spec.field("volumes")),
        rollout=_rollout(spec.field("rollout")),
        deletion_policy=spec.field("deletionPolicy").choice(DeletionPolicy.REMOVE),
        words=author_words(spec.mapping()) if not root.problems else {},
    )
    if root.problems:
        raise InvalidInput(tuple(root.problems))
    return policy


def _required_selector(cursor: Cursor) -> Selector:
    if cursor.absent:
        cursor.wrong("must be given; {} selects everything")
    return decode_selector(cursor)


def decode_selector(cursor: Cursor) -> Selector:
    """Return the metav1.LabelSelector at *cursor*."""
    cursor.mapping(allowed=frozenset({"matchLabels", "matchExpressions"}))
    labels = cursor.field("matchLabels")
    requirements = [
        Requirement(key=key, operator=Operator.IN, values=frozenset({labels.field(key).text()}))
        for key in sorted(labels.mapping())
    ]
    for expression in cursor.field("matchExpressions").entries():
        operator = expression.field("operator").choice(Operator.IN)
        values = frozenset(value.text() for value in expression.field("values").entries())
        takes_values = operator in (Operator.IN, Operator.NOT_IN)
        if expression.field("operator").absent:
            expression.field("operator").wrong(f"must be one of {', '.join(Operator)}")
        elif takes_values != bool(values):
            must = "must not be empty" if takes_values else "must be empty"
            expression.field("values").wrong(f"{must} when the operator is {operator}")
        key = expression.field("key").text()
        if not key:
            expression.field("key").wrong("must be the key of a label")
        requirements.append(Requirement(key=key, operator=operator, values=values))
    return Selector(requirements=tuple(requirements))


def _sidecars(cursor: Cursor) -> tuple[Sidecar, ...]:
    sidecars = tuple(_sidecar(entry) for entry in cursor.entries())
    if not 1 <= len(sidecars) <= MOST_SIDECARS:
        cursor.wrong(f"must hold between 1 and {MOST_SIDECARS} sidecars, not {len(sidecars)}")
    _unique(cursor, "name")
    _order_is_possible(cursor, sidecars)
    taken: dict[tuple[str, int, str], str] = {}
    for entry, sidecar in zip(cursor.entries(), sidecars, strict=True):
        for port in sorted(claimed_ports(sidecar.container)):
            if port in taken:
                entry.field("container").field("ports").wrong(
                    f"must not repeat {port[0]} {port[1]}/{port[2]} of sidecar {taken[port]!r}: "
                    "all containers of a Pod share its network"
                )
            taken.setdefault(port, sidecar.name)
    return sidecars


def _sidecar(cursor: Cursor) -> Sidecar:
    cursor.mapping(allowed=SIDECAR_FIELDS)
    name = cursor.field("name").text()
    if not DNS_LABEL.fullmatch(name):
        cursor.field("name").wrong(
            f"must be a DNS label (lower-case letters, digits and '-', at most 63), not {name!r}"
        )
    role = cursor.field("role").choice(Role.CUSTOM)
    container = cursor.field("container")
    for field in OURS_TO_SET:
        if not container.field(field).absent:
            container.field(field).wrong("must not be set: the policy sets it")
    if not container.field("image").text():
        container.field("image").wrong("must be given")
    return Sidecar(
        name=name,
        role=role,
        position=cursor.field("position").choice(ROLES[role].position),
        startup=cursor.field("startup").choice(ROLES[role].startup),
        pod_readiness=cursor.field("podReadiness").choice(ROLES[role].pod_readiness),
        start_after=tuple(entry.text() for entry in cursor.field("startAfter").entries()),
        container=container.mapping(),
    )


def _order_is_possible(cursor: Cursor, sidecars: tuple[Sidecar, ...]) -> None:
    positions = {sidecar.name: sidecar.position for sidecar in sidecars}
    for entry, sidecar in zip(cursor.entries(), sidecars, strict=True):
        for after in entry.field("startAfter").entries():
            if after.value == sidecar.name:
                after.wrong(f"must not name {sidecar.name!r} itself")
            elif sidecar.position is Position.BEFORE_INIT and positions.get(str(after.value)) is Position.AFTER_INIT:
                after.wrong(
                    f"must not name {after.value!r}, which is {Position.AFTER_INIT}, "
                    f"while {sidecar.name!r} is {Position.BEFORE_INIT}"
                )
    found = cycle({sidecar.name: sidecar.start_after for sidecar in sidecars})
    if len(found) > 1:
        cursor.wrong(f"must not start after each other: {' after '.join((*found, found[0]))}")


def _volumes(cursor: Cursor) -> tuple[Json, ...]:
    _unique(cursor, "name")
    for entry in cursor.entries():
        sources = sorted(set(entry.mapping()) - {"name"})
        if not DNS_LABEL.fullmatch(entry.field("name").text()):
            entry.field("name").wrong("must be a DNS label")
        if len(sources) != 1 or sources[0] not in VOLUME_SOURCES:
            entry.wrong(f"must have exactly one of {', '.join(sorted(VOLUME_SOURCES))}, not {sources or 'none'}")
    return tuple(entry.mapping() for entry in cursor.entries())


def _application(cursor: Cursor, volumes: Cursor) -> Application:
    cursor.mapping(allowed=frozenset({"containers", "initContainers", "env", "volumeMounts"}))
    env, mounts = cursor.field("env"), cursor.field("volumeMounts")
    _unique(env, "name")
    _unique(mounts, "mountPath")
    provided = {entry.field("name").value for entry in volumes.entries()}
    for mount in mounts.entries():
        if mount.field("name").value not in provided:
            mount.field("name").wrong(
                f"must be a volume of spec.volumes ({', '.join(sorted(map(str, provided))) or 'there is none'}), "
                f"not {mount.field('name').value!r}"
            )
    init = cursor.field("initContainers").text("None")
    if init not in ("None", "All"):
        cursor.field("initContainers").wrong(f"must be one of None, All, not {init!r}")
    return Application(
        containers=tuple(entry.text() for entry in cursor.field("containers").entries()),
        init_containers=init == "All",
        env=tuple(entry.mapping() for entry in env.entries()),
        volume_mounts=tuple(entry.mapping() for entry in mounts.entries()),
    )


def _rollout(cursor: Cursor) -> Rollout:
    default = Rollout()
    cursor.mapping(
        allowed=frozenset({"strategy", "maxConcurrent", "progressDeadlineSeconds", "minReadySeconds", "paused"})
    )
    soak = cursor.field("minReadySeconds").integer(default.min_ready_seconds, least=0, most=86400)
    deadline = cursor.field("progressDeadlineSeconds")
    seconds = deadline.integer(default.progress_deadline_seconds, least=1, most=86400)
    if seconds <= soak:
        deadline.wrong(f"must be more than minReadySeconds ({soak}), not {seconds}")
    return Rollout(
        strategy=cursor.field("strategy").choice(Strategy.PROGRESSIVE),
        max_concurrent=_max_concurrent(cursor.field("maxConcurrent"), default.max_concurrent),
        progress_deadline_seconds=seconds,
        min_ready_seconds=soak,
        paused=cursor.field("paused").flag(),
    )


def _max_concurrent(cursor: Cursor, default: int | float) -> int | float:
    if isinstance(cursor.value, str):
        if PERCENT.fullmatch(cursor.value):
            return int(cursor.value[:-1]) / 100
        cursor.wrong(f"must be a positive number of workloads or a percentage from 1% to 100%, not {cursor.value!r}")
        return default
    if cursor.absent:
        return default
    return cursor.integer(1, least=1, most=INT32)


def _unique(cursor: Cursor, key: str) -> None:
    seen: set[Any] = set()
    for entry in cursor.entries():
        value = entry.field(key).value
        if isinstance(value, str) and value in seen:
            entry.field(key).wrong(f"must not appear twice: {value!r}")
        seen.add(value) if isinstance(value, str) else None


def author_words(spec: Mapping[str, Any]) -> Json:
    """Return what of *spec* shapes a Pod template, without values that equal their default.

    Two specs that mean the same give the same words, whether or not a schema filled defaults in; so neither an
    upgrade of the CRD nor one of the operator makes a new revision.
    """
    application = at(dict(spec), "application")
    if application.get("initContainers") == "None":
        application = {key: value for key, value in application.items() if key != "initContainers"}
    words: Json = {
        "priority": spec.get("priority"),
        "sidecars": [_sidecar_words(sidecar) for sidecar in items(spec, "sidecars")],
        "volumes": items(spec, "volumes"),
        "application": _without_empty(application),
    }
    return _without_empty(words)


def _sidecar_words(sidecar: Json) -> Json:
    role = Role(sidecar.get("role") or Role.CUSTOM)
    defaults = {
        "role": Role.CUSTOM,
        "position": ROLES[role].position,
        "startup": ROLES[role].startup,
        "podReadiness": ROLES[role].pod_readiness,
    }
    container = at(sidecar, "container")
    ports = [
        {key: value for key, value in port.items() if (key, value) != ("protocol", "TCP")}
        for port in items(container, "ports")
    ]
    kept = {key: value for key, value in sidecar.items() if value != defaults.get(key)}
    return _without_empty({**kept, "container": with_items(container, "ports", ports)})


def _without_empty(value: Json) -> Json:
    """Drop absent, zero and empty values: of these fields none means anything else than its absence."""
    return {key: field for key, field in value.items() if field not in (None, 0, "", [], {})}
