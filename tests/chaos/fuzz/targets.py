"""What is fed with mangled input, and what counts as right: an error that says where, or a right result.

A check returns nothing if all is well, and raises otherwise; AssertionError where the result is wrong, anything else
where the product raised what it does not promise to raise.
"""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from sidecarpolicy import names
from sidecarpolicy.cli.main import main
from sidecarpolicy.core.decode import decode_policy, decode_selector
from sidecarpolicy.core.injection import eject, inject
from sidecarpolicy.core.reading import Cursor, InvalidInput
from sidecarpolicy.core.record import Mangled, Record, parse, text_of
from sidecarpolicy.core.rendering import canonical_request, offline
from sidecarpolicy.core.revision import (
    StoredRevision,
    current_revision,
    from_controller_revision,
    to_controller_revision,
    update_revision,
    words_of,
)
from sidecarpolicy.engine import watched
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.chaos.fuzz import mangling

Check = Callable[[Any], None]
Change = Callable[[Any, random.Random], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """*corpus*: valid input; *change*: makes one change to it; *check*: see above."""

    corpus: tuple[Any, ...]
    change: Change
    check: Check

    def input(self, seed: int) -> Any:
        """Valid input with a few changes."""
        chance = random.Random(seed)
        value = copy.deepcopy(chance.choice(self.corpus))
        for _ in range(chance.choice((1, 1, 2, 3, 6))):
            value = self.change(value, chance)
        return value


# --- valid input -----------------------------------------------------------------------------------

PROBE = {"httpGet": {"path": "/ready", "port": 15021}, "timeoutSeconds": 2}
RICH: Manifest = {
    "sidecars": [
        a_sidecar(
            role="Proxy",
            startup="WaitUntilReady",
            podReadiness="Exclude",
            container={
                "image": "example.test/proxy:1",
                "ports": [{"containerPort": 15001, "protocol": "TCP", "name": "in"}],
                "readinessProbe": PROBE,
                "volumeMounts": [{"name": "sock", "mountPath": "/run/sock"}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1"}},
            },
        ),
        a_sidecar("logger", role="Logger", startAfter=["proxy"], position="AfterInit"),
    ],
    "volumes": [{"name": "sock", "emptyDir": {}}],
    "application": {
        "containers": ["app"],
        "initContainers": "All",
        "env": [{"name": "PROXY", "value": "1"}],
        "volumeMounts": [{"name": "sock", "mountPath": "/run/sock"}],
    },
    "rollout": {
        "strategy": "Progressive",
        "maxConcurrent": "10%",
        "progressDeadlineSeconds": 600,
        "minReadySeconds": 10,
        "maxFailures": 1,
        "onFailure": "Halt",
        "paused": False,
        "canary": [
            {"name": "first", "selector": {"matchLabels": {"stage": "canary"}}, "approval": "Manual"},
            {"name": "some", "max": "5%"},
        ],
        "removal": "Manual",
    },
    "priority": 5,
    "deletionPolicy": "Orphan",
    "revisionHistoryLimit": 3,
}
SELECTOR: Manifest = {
    "matchLabels": {"tier": "web", "example.test/x": ""},
    "matchExpressions": [
        {"key": "app", "operator": "In", "values": ["cart", "pay"]},
        {"key": "off", "operator": "DoesNotExist"},
        {"key": "stage", "operator": "NotIn", "values": ["dev"]},
    ],
}
OBJECT: Manifest = {"uid": "0b0e", "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-11-25T12:00:00Z"}

REQUIRED = frozenset(
    {"metadata", "spec", "kind", "name", "uid", "type", "status", "template", "scaleTargetRef", "resource", "target"}
    | {"containerResource", "container", "containers", "selector", "manager", "operation"}
)
"""What the API server never lets an object of its own kinds be without."""
TIMES = frozenset({"time", "lastUpdateTime", "lastTransitionTime", "creationTimestamp", "deletionTimestamp"})
"""Where it lets nothing stand but a time."""


def _stored(body: Manifest) -> Manifest:
    return body | {"metadata": body["metadata"] | OBJECT}


POLICIES = (a_policy(), a_policy(**RICH), a_policy(selector=SELECTOR), a_cluster_policy(**RICH))
TEMPLATE: Manifest = a_deployment(
    pod={
        "containers": [
            {"name": "app", "image": "example.test/app:1", "env": [{"name": "MODE", "value": "1"}]},
            {"name": "web", "image": "example.test/web:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        ],
        "initContainers": [{"name": "migrate", "image": "example.test/migrate:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
)["spec"]["template"]


def _injected() -> tuple[Manifest, str]:
    template, record = inject(TEMPLATE, [offline(decode_policy(each)) for each in POLICIES[1:2]], Record())
    return template, text_of(record)


INJECTED_TEMPLATE, RECORD = _injected()
FULL_RECORD = json.dumps(
    {
        "policies": {
            "SidecarPolicy/shop/web": {
                "revision": "web-0123456789",
                "initContainers": ["proxy", "logger"],
                "volumes": ["sock"],
                "env": {"app": ["PROXY"]},
                "volumeMounts": {"app": ["/run/sock"]},
                "adopted": ["vault"],
                "joined": True,
                "previous": "web-9876543210",
                "unhealthyBefore": True,
                "excused": True,
                "undone": {"count": 2, "last": "2026-11-25T12:00:00Z"},
            },
            "ClusterSidecarPolicy/all": {"revision": "", "failed": "all-0123456789#1"},
        },
        "orphaned": {"initContainers": ["old"], "env": {"app": ["OLD"]}},
    }
)


def _a_controller_revision(body: Manifest) -> Manifest:
    policy = decode_policy(_stored(body))
    revision = offline(policy)
    stored = StoredRevision(
        revision=revision, object_name=f"sidepol-{revision.name}", number=3, since="2026-11-25T12:00:00Z"
    )
    found = to_controller_revision(stored, policy=policy, namespace="shop")
    halt = json.dumps({"id": f"{revision.name}#1", "reason": "RolledBack", "since": "2026-11-25T12:00:00Z"})
    notes = {names.HALT: halt, names.ATTEMPT: "2", names.COMPLETED: "2026-11-25T12:01:00Z", names.APPROVED: "a,b"}
    annotations = found["metadata"]["annotations"] | notes
    metadata = found["metadata"] | {"annotations": annotations, "uid": "0b0f", "resourceVersion": "8"}
    return json.loads(json.dumps(found | {"metadata": metadata}))  # type: ignore[no-any-return]


REVISIONS = tuple(_a_controller_revision(each) for each in POLICIES[:2])


# --- what is checked -------------------------------------------------------------------------------


def _policy(body: Any) -> None:
    """The decoder: problems with a path, or a policy whose sidecars can be injected and taken out again."""
    if not isinstance(body, Mapping):
        return  # the API server and the command line give it mappings only
    try:
        policy = decode_policy(body)
    except InvalidInput as error:
        assert error.problems, "an error without a problem"
        assert all(each.path and each.message for each in error.problems), f"no path: {error.problems}"
        return
    canonical_request(policy, "shop")
    revision = offline(policy)
    template, record = inject(TEMPLATE, [revision], Record())
    assert inject(template, [revision], record) == (template, record), "injecting twice is not injecting once"
    assert eject(template, record) == TEMPLATE, "ejecting does not undo it"


def _selector(body: Any) -> None:
    cursor = Cursor(body, "spec.selector")
    selector = decode_selector(cursor)
    assert all(each.path.startswith("spec.selector") for each in cursor.problems), cursor.problems
    for labels in ({}, {"tier": "web"}, {"app": "cart", "stage": "dev"}):
        assert selector.matches(labels) in (True, False)


def _record(text: Any) -> None:
    """The record: Mangled, or one that is written as it was read, and can be taken out."""
    if not isinstance(text, str):
        text = json.dumps(text)
    try:
        record = parse(text)
    except Mangled:
        return
    assert parse(text_of(record)) == record, "it is not written as it was read"
    text_of(record).encode()
    eject(INJECTED_TEMPLATE, record)


def _revision(body: Any) -> None:
    """A ControllerRevision: ValueError or KeyError, as promised, or one that can be used like any other."""
    words_of(body)
    try:
        stored = from_controller_revision(body)
    except (ValueError, KeyError):
        return
    try:
        _used(stored)
    except Exception as error:
        where = type(error).__name__
        raise AssertionError(f"accepted, and cannot be used afterwards: {where}: {error}") from error


def _used(stored: StoredRevision) -> None:
    """What becomes of every revision."""
    good = from_controller_revision(REVISIONS[0])
    for found in ([stored, good], [good, stored]):
        assert update_revision(found) is not None
        current_revision(found)
    hash(stored.revision.policy), stored.attempt_id.encode()
    template, record = inject(TEMPLATE, [stored.revision], Record())
    parse(text_of(record))
    json.dumps(template)


def _invoke(command: str, policy: str, manifest: str) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "policy.yaml"), Path(folder, "deployment.yaml")
        for file, text in zip(files, (policy, manifest), strict=True):
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
        given = [] if command == "eject" else ["-p", str(files[0])]
        return CliRunner().invoke(main, [command, *given, str(files[1])])


def _command_line(texts: Any) -> None:
    """inject, diff and eject: an exit code that the help promises, with words, or a right result."""
    policy, manifest = texts
    for command, codes in (("inject", (0, 1)), ("diff", (0, 1, 3)), ("eject", (0, 1))):
        done = _invoke(command, policy, manifest)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code in codes, f"{command} exits with {done.exit_code}: {done.output[:300]}"
        failed = done.exit_code == (3 if command == "diff" else 1)
        if failed:
            assert ".yaml" in done.stderr, f"{command} does not say where: {done.stderr[:300]}"
            assert not done.stdout, f"{command} printed something besides its error"
        elif command == "inject":
            again = _invoke("inject", policy, done.stdout)
            assert again.exit_code == 0, f"cannot read what it printed itself: {again.stderr[:300]}"
            assert again.stdout == done.stdout, "injecting twice is not injecting once"


def _cache(bodies: Any) -> None:
    """Objects as the API server could send them, into the engine's cache: whatever they are, it goes on."""
    cache = _an_empty_cache()
    for plural, body in bodies:
        resource = next(each for each in watched.WATCHED if each.plural == plural)
        cache.put(resource, body)
        cache.put(resource, body | {"metadata": body["metadata"] | {"resourceVersion": "99"}})


def _an_empty_cache() -> Any:
    """The one part of this file that knows names in the engine."""
    try:
        return import_module("sidecarpolicy.engine.cache").Cache()
    except ModuleNotFoundError:
        return import_module("sidecarpolicy.engine.store").Store()


# --- how it is changed -----------------------------------------------------------------------------


def _record_change(value: Any, chance: random.Random) -> Any:
    """Some changes to the text, some to what it says."""
    if chance.random() < 0.3:
        return mangling.mangled_text(value, chance)
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        return mangling.mangled_text(value, chance)
    return json.dumps(mangling.mangled(said, chance))


def _revision_change(value: Manifest, chance: random.Random) -> Manifest:
    """What the API server lets through: anything in the data, any text in annotations."""
    if chance.random() < 0.8:
        return value | {"data": mangling.mangled(value.get("data"), chance)}
    metadata = value["metadata"]
    annotations = dict(metadata["annotations"])
    key = chance.choice((names.HALT, names.ATTEMPT, names.COMPLETED, names.APPROVED, names.SINCE))
    if key in annotations and chance.random() < 0.5:
        annotations[key] = mangling.mangled_text(annotations[key], chance)
    else:
        annotations[key] = chance.choice((*mangling.TEXTS, '{"id":1}', "[]", "1.5", "٣"))
    return value | {"metadata": metadata | {"annotations": annotations}}


def _text_change(value: list[str], chance: random.Random) -> list[str]:
    which = chance.randrange(2)
    return [_mangled_yaml(text, chance) if number == which else text for number, text in enumerate(value)]


def _mangled_yaml(text: str, chance: random.Random) -> str:
    """Some changes to the text, most to what it says."""
    if chance.random() < 0.3:
        return mangling.mangled_text(text, chance)
    try:
        said = yaml.safe_load(text)
        return yaml.safe_dump(mangling.mangled(said, chance, keys=mangling.YAML_KEYS), sort_keys=False)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError):
        return mangling.mangled_text(text, chance)


def _objects_change(value: list[Any], chance: random.Random) -> list[Any]:
    """Policies and the data of revisions may be anything (a CRD may be older or newer), the rest keeps its types."""
    number = chance.randrange(len(value))
    plural, body = value[number]
    kept = {key: body[key] for key in ("metadata", "apiVersion", "kind") if key in body}
    if plural in names.PLURALS.values():
        changed = body | {"spec": mangling.mangled(body["spec"], chance)}
    elif plural == "controllerrevisions":
        changed = _revision_change(body, chance)
    else:
        changed = mangling.mangled_within_types(body, chance, required=REQUIRED, fixed=TIMES)
        metadata = changed.get("metadata", {})
        for key in ("name", "namespace", "uid", "resourceVersion", "generation"):
            if key in kept["metadata"]:
                metadata = metadata | {key: kept["metadata"][key]}
        changed = changed | {"metadata": metadata}
    return [*value[:number], [plural, changed], *value[number + 1 :]]


def _objects() -> list[Any]:
    """One object of each kind that is watched."""
    deployment = _stored(a_deployment(annotations={names.RECORD: RECORD, names.PIN: "web@web-0123456789"}))
    deployment["spec"]["template"] = INJECTED_TEMPLATE
    deployment["spec"]["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1},
    }
    deployment["metadata"]["managedFields"] = [
        {
            "manager": "kubectl",
            "operation": "Apply",
            "time": "2026-11-25T12:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {".": {}}}}}}},
        }
    ]
    deployment["status"] = {
        "observedGeneration": 1,
        "replicas": 1,
        "updatedReplicas": 1,
        "availableReplicas": 1,
        "conditions": [
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable",
                "message": "done",
                "lastUpdateTime": "2026-11-25T12:00:00Z",
                "lastTransitionTime": "2026-11-25T12:00:00Z",
            }
        ],
    }
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart", "uid": "0b0e", "controller": True}
    replica_set = {
        "metadata": OBJECT
        | {
            "name": "cart-5d4f",
            "namespace": "shop",
            "uid": "0b10",
            "labels": {"pod-template-hash": "5d4f"},
            "annotations": {names.RECORD: RECORD, "deployment.kubernetes.io/revision": "3"},
            "ownerReferences": [owner],
        },
        "spec": {"replicas": 1, "template": INJECTED_TEMPLATE},
        "status": {"replicas": 1},
    }
    autoscaler = {
        "metadata": OBJECT | {"name": "cart", "namespace": "shop", "uid": "0b11"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"},
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app"}},
            ],
        },
    }
    namespace = {"metadata": OBJECT | {"name": "shop", "uid": "0b12", "labels": {"env": "live"}, "annotations": {}}}
    return [
        ["namespaces", namespace],
        ["sidecarpolicies", _stored(POLICIES[1])],
        ["clustersidecarpolicies", _stored(POLICIES[3])],
        ["controllerrevisions", REVISIONS[1]],
        ["replicasets", replica_set],
        ["horizontalpodautoscalers", autoscaler],
        ["deployments", deployment],
    ]


def _texts() -> tuple[list[str], ...]:
    injected = a_deployment(annotations={names.RECORD: RECORD})
    injected["spec"]["template"] = INJECTED_TEMPLATE
    listed = {"apiVersion": "v1", "kind": "List", "items": [a_deployment(), a_deployment("pay")]}
    return tuple(
        [yaml.safe_dump(policy, sort_keys=False), yaml.safe_dump(manifest, sort_keys=False)]
        for policy in POLICIES
        for manifest in (a_deployment(), injected, listed)
    )


TARGETS: Mapping[str, Target] = {
    "decoder": Target(corpus=POLICIES, change=mangling.mangled, check=_policy),
    "selector": Target(corpus=(SELECTOR,), change=mangling.mangled, check=_selector),
    "record": Target(corpus=(RECORD, FULL_RECORD), change=_record_change, check=_record),
    "revision": Target(corpus=REVISIONS, change=_revision_change, check=_revision),
    "cli": Target(corpus=_texts(), change=_text_change, check=_command_line),
    "cache": Target(corpus=(_objects(),), change=_objects_change, check=_cache),
}
"""By name."""
