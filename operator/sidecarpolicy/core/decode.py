"""From a policy object to a Policy: the one place where a policy's JSON is read.

The API server has checked stored objects against the CRD; files given to the command line come unchecked, and a CRD
may be older than the operator. So everything is checked here again, and what no schema can say is checked here alone:
order within the policy, ports that two sidecars share. What Kubernetes itself says of a container or volume is left to
Kubernetes (see `rendering`): no copy of its validation can be right for long.

A CRD may also be newer than the operator, and fill in fields that this operator does not know. Where a person types
such a field it is misspelt, and a problem; in an object of a cluster it is left out and warned of: it is part of no
revision, so neither this operator nor the one that will know it rolls anything out because of a default. Only in a
selector it stays a problem, since a selector that is half understood selects more than its author wants.

Nothing is ever removed for a policy whose spec cannot be read. See `InvalidPolicy` and `readable_deletion_policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.decode_additions import overridable, override_max, pod_metadata, pull_secrets, restart_on
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.ordering import cycle
from sidecarpolicy.core.policy import ROLES, Application, CanaryGroup, Policy, Rollout, Sidecar
from sidecarpolicy.core.ports import claimed_ports
from sidecarpolicy.core.reading import Cursor, InvalidInput, Problem
from sidecarpolicy.core.record import METADATA, PULL_SECRETS, normpath
from sidecarpolicy.core.restarts import with_restart
from sidecarpolicy.core.selection import Operator, Requirement, Selector
from sidecarpolicy.core.syntax import (
    container_parts,
    dns_label,
    encodable,
    given,
    label_key,
    label_value,
    unique,
    unique_values,
)
from sidecarpolicy.core.tree import Json, at, items, with_items, without_nulls
from sidecarpolicy.names import Approval, DeletionPolicy, OnFailure, OptOut, Position, Removal, Role, Strategy

MOST_SIDECARS = 16
MOST_REVISIONS = 100
MOST_CANARY_GROUPS = 8
INT32 = 2**31 - 1
PERCENT = re.compile(r"(100|[1-9][0-9]?)%")
SELECTION = re.compile(r"spec\.(namespaceSelector|selector)\b")

# Volumes that follow the Pod; hostPath and the vendors' own are left out on purpose (design: section 2).
VOLUME_SOURCES = frozenset(
    {"emptyDir", "configMap", "secret", "projected", "downwardAPI", "csi", "persistentVolumeClaim"}
)
SPEC_FIELDS = frozenset(
    {"selector", "priority", "sidecars", "volumes", "application", "podMetadata", "imagePullSecrets", "rollout"}
    | {"restartOn", "optOut", "deletionPolicy", "revisionHistoryLimit"}
)
# What owners may set anew is the policy's word as it is now, and no part of a revision.
PERMISSIONS = frozenset({"overridable", "overrideMax"})
SIDECAR_FIELDS = PERMISSIONS | {"name", "role", "position", "startAfter", "startup", "podReadiness", "container"}
# Those of a core/v1 Container that people who come from Deployments write beside `container` instead of into it.
CONTAINER_FIELDS = frozenset(
    {"image", "imagePullPolicy", "command", "args", "workingDir", "ports", "env", "envFrom", "resources"}
    | {"volumeMounts", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "securityContext"}
)
APPLICATION_FIELDS = frozenset({"containers", "initContainers", "env", "volumeMounts"})
ROLLOUT_FIELDS = frozenset(
    {
        "strategy",
        "maxConcurrent",
        "progressDeadlineSeconds",
        "minReadySeconds",
        "maxFailures",
        "onFailure",
        "paused",
        "canary",
        "removal",
    }
)
OURS_TO_SET = ("name", "restartPolicy", "restartPolicyRules")


def decode_policy(body: Mapping[str, Any], *, strict: bool = True) -> Policy:
    """Return the policy that *body* declares; raise InvalidInput with every problem found.

    *strict*: a field that is not known is a problem, as it is in what a person types. In an object of a cluster it is
    none: its path is in `Policy.unknown`.
    """
    unknown: list[str] = []
    root = Cursor(dict(body), "", unknown=None if strict else unknown)
    metadata = root.field("metadata")
    kind = str(body.get("kind"))
    if body.get("apiVersion") != names.API_VERSION or kind not in names.PLURALS:
        root.field("kind").wrong(f"must be {' or '.join(names.PLURALS)} of {names.API_VERSION}")
        raise InvalidInput(tuple(root.problems))
    cluster_wide = kind == names.CLUSTER_POLICY
    spec = root.field("spec")
    for read in (metadata.field("name"), metadata.field("namespace"), spec):
        encodable(read)
    if root.problems:
        raise InvalidInput(tuple(root.problems))
    name = given(metadata.field("name"))
    spec.mapping(allowed=SPEC_FIELDS | ({"namespaceSelector"} if cluster_wide else set()))
    selector = _required_selector(spec.field("selector"))
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
        selector=selector,
        namespace_selector=_required_selector(spec.field("namespaceSelector")) if cluster_wide else None,
        priority=spec.field("priority").integer(0, least=-INT32 - 1, most=INT32),
        sidecars=_sidecars(spec.field("sidecars"), spec.field("volumes")),
        volumes=_volumes(spec.field("volumes")),
        application=_application(spec.field("application"), spec.field("volumes")),
        pod_metadata=pod_metadata(spec.field("podMetadata"), selector),
        pull_secrets=pull_secrets(spec.field(PULL_SECRETS)),
        restart_on=restart_on(spec.field("restartOn")),
        rollout=_rollout(spec.field("rollout"), cluster_wide=cluster_wide),
        opt_out=spec.field("optOut").choice(OptOut.ALLOWED),
        deletion_policy=spec.field("deletionPolicy").choice(DeletionPolicy.REMOVE),
        revision_history_limit=spec.field("revisionHistoryLimit").integer(10, least=0, most=MOST_REVISIONS),
        words=with_restart(author_words(without_nulls(spec.mapping())), metadata.value) if not root.problems else {},
    )
    policy = replace(policy, unknown=tuple(unknown))
    if root.problems:
        raise InvalidPolicy(tuple(root.problems), policy)
    return policy


class InvalidPolicy(InvalidInput):
    """A policy that cannot be used. *readable* is the rest of it, where at least its selection is clear.

    So what an earlier spec injected can be kept in order on the workloads that this one selects. Where it is not clear
    how its rollout goes, whether owners may opt out, or what becomes of its sidecars in the end, the most careful is
    taken: nothing more is rolled out, nothing goes back, and nothing is removed without an approval, nor by an owner.
    """

    def __init__(self, problems: tuple[Problem, ...], policy: Policy) -> None:
        super().__init__(problems)
        places = {problem.path for problem in problems}
        unclear = any(place in ("metadata", "spec") or SELECTION.match(place) for place in places)
        if any(place.startswith(("spec.rollout", "spec.deletionPolicy")) for place in places):
            policy = replace(policy, rollout=careful(policy.rollout))
        if any(place.startswith("spec.optOut") for place in places):
            policy = replace(policy, rollout=careful(policy.rollout), opt_out=OptOut.FORBIDDEN)
        self.readable = None if unclear else policy


def careful(rollout: Rollout) -> Rollout:
    """Return *rollout* for a policy whose own cannot be read: nothing moves, goes back or is removed by itself."""
    return replace(rollout, paused=True, on_failure=OnFailure.HALT, removal=Removal.MANUAL)


def readable_deletion_policy(body: Mapping[str, Any]) -> DeletionPolicy | None:
    """Return what becomes of the sidecars when the policy *body* is deleted, whatever else of it can be read.

    None where that cannot be told: then they are neither removed nor handed over.
    """
    spec = body.get("spec")
    if not isinstance(spec, Mapping):
        return None
    cursor = Cursor(spec.get("deletionPolicy"), "spec.deletionPolicy")
    found = cursor.choice(DeletionPolicy.REMOVE)
    return None if cursor.problems else found


def _required_selector(cursor: Cursor) -> Selector:
    if cursor.absent:
        cursor.wrong("must be given; {} selects everything")
    return decode_selector(cursor.strict)


def decode_selector(cursor: Cursor) -> Selector:
    """Return the metav1.LabelSelector at *cursor*."""
    cursor.mapping(allowed=frozenset({"matchLabels", "matchExpressions"}))
    labels = cursor.field("matchLabels")
    requirements = [_has_label(labels, key) for key in sorted(labels.mapping())]
    for expression in cursor.field("matchExpressions").entries():
        operator = expression.field("operator").choice(Operator.IN)
        values = frozenset(label_value(value) for value in expression.field("values").entries())
        takes_values = operator in (Operator.IN, Operator.NOT_IN)
        if expression.field("operator").absent:
            expression.field("operator").wrong(f"must be one of {', '.join(Operator)}")
        elif takes_values != bool(values):
            must = "must not be empty" if takes_values else "must be empty"
            expression.field("values").wrong(f"{must} when the operator is {operator}")
        key = label_key(expression.field("key"))
        requirements.append(Requirement(key=key, operator=operator, values=values))
    return Selector(requirements=tuple(requirements))


def _has_label(labels: Cursor, key: str) -> Requirement:
    label_key(Cursor(key, labels.path, labels.problems))
    return Requirement(key=key, operator=Operator.IN, values=frozenset({label_value(labels.field(key))}))


def _sidecars(cursor: Cursor, volumes: Cursor) -> tuple[Sidecar, ...]:
    sidecars = tuple(_sidecar(entry) for entry in cursor.entries())
    if not 1 <= len(sidecars) <= MOST_SIDECARS:
        cursor.wrong(f"must hold between 1 and {MOST_SIDECARS} sidecars, not {len(sidecars)}")
    unique(cursor, "name")
    _order_is_possible(cursor, sidecars)
    taken: dict[tuple[str, int, str], str] = {}
    for entry, sidecar in zip(cursor.entries(), sidecars, strict=True):
        _mounts_are_provided(entry.field("container").field("volumeMounts"), volumes)
        for port in sorted(claimed_ports(sidecar.container)):
            if port in taken:
                entry.field("container").field("ports").wrong(
                    f"must not repeat {port[0]} {port[1]}/{port[2]} of sidecar {taken[port]!r}: "
                    "all containers of a Pod share its network"
                )
            taken.setdefault(port, sidecar.name)
    return sidecars


def _sidecar(cursor: Cursor) -> Sidecar:
    cursor.mapping(allowed=SIDECAR_FIELDS, inside={"container": CONTAINER_FIELDS})
    role = cursor.field("role").choice(Role.CUSTOM)
    unique_values(cursor.field("startAfter"))
    return Sidecar(
        name=dns_label(cursor.field("name")),
        role=role,
        position=cursor.field("position").choice(ROLES[role].position),
        startup=cursor.field("startup").choice(ROLES[role].startup),
        pod_readiness=cursor.field("podReadiness").choice(ROLES[role].pod_readiness),
        start_after=tuple(dns_label(entry) for entry in cursor.field("startAfter").entries()),
        container=_container(cursor.field("container")),
        overridable=overridable(cursor.field("overridable")),
        override_max=override_max(cursor.field("overrideMax")),
    )


def _container(cursor: Cursor) -> Json:
    """Return the author's container; only what is decided on here is checked, the rest is the API server's."""
    for field in OURS_TO_SET:
        if not cursor.field(field).absent:
            cursor.field(field).wrong("must not be set: the policy sets it")
    image = cursor.field("image").text()
    if not image:
        cursor.field("image").wrong("must be given")
    elif image.split() != [image]:  # the API server takes it in a template, and no Pod can be made of that
        cursor.field("image").wrong(f"must have no white space, not {image!r}")
    container_parts(cursor)
    _mounts_are_apart(cursor.field("volumeMounts"))
    cursor.field("readinessProbe").field("timeoutSeconds").integer(1, least=0, most=INT32)
    ports: list[Json] = []
    seen: set[tuple[int, str]] = set()
    for entry in cursor.field("ports").entries():
        key = (
            entry.field("containerPort").integer(0, least=1, most=65535),
            entry.field("protocol").text() or "TCP",
        )
        entry.field("hostPort").integer(0, least=0, most=65535)
        if key in seen:
            entry.wrong(f"must not repeat containerPort {key[0]}/{key[1]}")
        seen.add(key)
        ports.append(entry.mapping())
    container: Json = without_nulls(cursor.mapping())
    return with_items(container, "ports", without_nulls(ports))


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
    found = cycle({each.name: [name for name in each.start_after if name != each.name] for each in sidecars})
    if found:
        cursor.wrong(f"must not start after each other: {' after '.join((*found, found[0]))}")


def _volumes(cursor: Cursor) -> tuple[Json, ...]:
    unique(cursor, "name")
    volumes = tuple(without_nulls(entry.mapping()) for entry in cursor.entries())
    for entry, volume in zip(cursor.entries(), volumes, strict=True):
        sources = sorted(set(volume) - {"name"})
        dns_label(entry.field("name"))
        if len(sources) != 1 or sources[0] not in VOLUME_SOURCES:
            entry.wrong(f"must have exactly one of {', '.join(sorted(VOLUME_SOURCES))}, not {sources or 'none'}")
    return volumes


def _mounts_are_provided(mounts: Cursor, volumes: Cursor) -> None:
    provided = sorted(str(entry.field("name").value) for entry in volumes.entries())
    for mount in mounts.entries():
        name = mount.field("name")
        if name.value not in provided:
            name.wrong(
                f"must be a volume of spec.volumes ({', '.join(provided) or 'there is none'}), not {name.value!r}"
            )


def _mounts_are_apart(mounts: Cursor) -> None:
    """One place that is spelt in two ways is mounted twice, and one hides the other: the API server compares text."""
    seen: dict[str, str] = {}
    for mount in mounts.entries():
        path = mount.field("mountPath")
        if not isinstance(path.value, str) or not path.value:
            continue
        before = seen.setdefault(normpath(path.value), path.value)
        if before != path.value:
            path.wrong(f"must not be the same place as {before!r}")


def _application(cursor: Cursor, volumes: Cursor) -> Application:
    cursor.mapping(allowed=APPLICATION_FIELDS)
    env, mounts = cursor.field("env"), cursor.field("volumeMounts")
    for listed, key in ((env, "name"), (mounts, "mountPath")):
        unique(listed, key)
        for entry in listed.entries():
            given(entry.field(key))
    _mounts_are_provided(mounts, volumes)
    _mounts_are_apart(mounts)
    unique_values(cursor.field("containers"))
    init = cursor.field("initContainers").text("None")
    if init not in ("None", "All"):
        cursor.field("initContainers").wrong(f"must be one of None, All, not {init!r}")
    return Application(
        containers=tuple(dns_label(entry) for entry in cursor.field("containers").entries()),
        init_containers=init == "All",
        env=tuple(without_nulls(entry.mapping()) for entry in env.entries()),
        volume_mounts=tuple(without_nulls(entry.mapping()) for entry in mounts.entries()),
    )


def _rollout(cursor: Cursor, *, cluster_wide: bool) -> Rollout:
    default = Rollout()
    cursor.mapping(allowed=ROLLOUT_FIELDS)
    soak = cursor.field("minReadySeconds").integer(default.min_ready_seconds, least=0, most=86400)
    deadline = cursor.field("progressDeadlineSeconds")
    seconds = deadline.integer(default.progress_deadline_seconds, least=1, most=86400)
    if seconds <= soak:
        deadline.wrong(f"must be more than minReadySeconds ({soak}), not {seconds}")
    return Rollout(
        strategy=cursor.field("strategy").choice(Strategy.PROGRESSIVE),
        max_concurrent=_share(cursor.field("maxConcurrent"), default.max_concurrent),
        progress_deadline_seconds=seconds,
        min_ready_seconds=soak,
        max_failures=cursor.field("maxFailures").integer(default.max_failures, least=0, most=INT32),
        on_failure=cursor.field("onFailure").choice(OnFailure.ROLLBACK),
        paused=cursor.field("paused").flag(),
        canary=_canary(cursor.field("canary"), cluster_wide=cluster_wide),
        removal=cursor.field("removal").choice(Removal.MANUAL if cluster_wide else Removal.AUTOMATIC),
    )


def _canary(cursor: Cursor, *, cluster_wide: bool) -> tuple[CanaryGroup, ...]:
    unique(cursor, "name")
    groups = tuple(_canary_group(entry, cluster_wide=cluster_wide) for entry in cursor.entries())
    if len(groups) > MOST_CANARY_GROUPS:
        cursor.wrong(f"must hold at most {MOST_CANARY_GROUPS} groups, not {len(groups)}")
    return groups


def _canary_group(cursor: Cursor, *, cluster_wide: bool) -> CanaryGroup:
    cursor.mapping(
        allowed=frozenset({"name", "selector", "max", "approval"} | ({"namespaceSelector"} if cluster_wide else set()))
    )
    selector, namespaces, most = (cursor.field(key) for key in ("selector", "namespaceSelector", "max"))
    if selector.absent == most.absent:
        cursor.wrong("must have exactly one of selector and max")
    if not namespaces.absent and selector.absent:
        namespaces.wrong("must go with a selector; {} selects everything there")
    return CanaryGroup(
        name=dns_label(cursor.field("name")),
        selector=None if selector.absent else decode_selector(selector.strict),
        namespace_selector=None if namespaces.absent else decode_selector(namespaces.strict),
        most=None if most.absent else _share(most, 1),
        approval=cursor.field("approval").choice(Approval.AUTOMATIC),
    )


def _share(cursor: Cursor, default: int | float) -> int | float:
    if isinstance(cursor.value, str):
        if PERCENT.fullmatch(cursor.value):
            return int(cursor.value[:-1]) / 100
        cursor.wrong(f"must be a positive number of workloads or a percentage from 1% to 100%, not {cursor.value!r}")
        return default
    if cursor.absent:
        return default
    return cursor.integer(1, least=1, most=INT32)


def author_words(spec: Mapping[str, Any]) -> Json:
    """Return what of *spec* shapes a Pod template, without values that equal their default.

    Two specs that mean the same give the same words, whether or not a schema filled defaults in; so neither an
    upgrade of the CRD nor one of the operator makes a new revision. What is not known here is not injected, and so no
    part of them; a container and a volume are Kubernetes' own, in which everything is known to the API server.
    """
    application = {key: value for key, value in at(dict(spec), "application").items() if key in APPLICATION_FIELDS}
    if application.get("initContainers") == "None":
        del application["initContainers"]
    words: Json = {
        "priority": spec.get("priority"),
        "sidecars": [_sidecar_words(sidecar) for sidecar in items(spec, "sidecars")],
        "volumes": items(spec, "volumes"),
        "application": _without_empty(application),
        "podMetadata": _without_empty({listed: at(spec, "podMetadata", listed) for listed in METADATA}),
        PULL_SECRETS: items(spec, PULL_SECRETS),
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
        if isinstance(port, dict)  # anything else is for the API server to refuse
    ]
    kept = {
        key: value
        for key, value in sidecar.items()
        if key in SIDECAR_FIELDS - PERMISSIONS and value != defaults.get(key)
    }
    return _without_empty({**kept, "container": with_items(container, "ports", ports)})


def _without_empty(value: Json) -> Json:
    """Drop absent, zero and empty values: of these fields none means anything else than its absence."""
    return {key: field for key, field in value.items() if field not in (None, 0, "", [], {})}
