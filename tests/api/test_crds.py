"""What the API server itself says to a policy: the schema, its rules, its defaults, its columns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pykube
import pytest
import yaml

import localcluster
from sidecarpolicy import names
from tests import kube
from tests.builders import Manifest, a_cluster_policy, a_policy, a_sidecar
from tests.conftest import ROOT, Kubectl

DEFINITIONS = sorted((ROOT / "crds").glob("*.yaml"))
GENERATE = ROOT / "crds/src/generate.py"
EXAMPLES = sorted((ROOT / "deploy/examples").glob("*.yaml"))

# Bytes that the annotation may have in which client-side apply keeps the object; Argo CD has the same bound.
ANNOTATION_LIMIT = 262_144

# Where the schema is core/v1's, whose bounds are the API server's own business.
SERVERS_OWN = (
    ".spec.sidecars[].container.",
    ".spec.volumes[].",
    ".spec.application.env[].valueFrom",
    ".spec.application.volumeMounts[].bindMountOptions",
)

WORDS: dict[str, type[StrEnum]] = {
    ".spec.sidecars[].role": names.Role,
    ".spec.sidecars[].position": names.Position,
    ".spec.sidecars[].startup": names.Startup,
    ".spec.sidecars[].podReadiness": names.PodReadiness,
    ".spec.rollout.strategy": names.Strategy,
    ".spec.rollout.onFailure": names.OnFailure,
    ".spec.optOut": names.OptOut,
    ".spec.deletionPolicy": names.DeletionPolicy,
}

LOGS: Manifest = {"name": "logs", "emptyDir": {}}
NOT_OURS_TO_GIVE = {"name", "restartPolicy", "restartPolicyRules"}


def mounting(name: str) -> Manifest:
    return {"volumeMounts": [{"name": name, "mountPath": "/logs"}]}


def listening(*ports: Manifest) -> Manifest:
    return {"ports": list(ports)}


def selecting(**requirement: Any) -> Manifest:
    return {"matchExpressions": [{"key": "tier", "operator": "In"} | requirement]}


ACCEPTED = {
    "the least there can be": a_policy(),
    "all Deployments": a_policy(selector={}),
    "a requirement with values": a_policy(selector=selecting(values=["web", "api"])),
    "a requirement without values": a_policy(selector=selecting(operator="Exists")),
    "a key with a DNS name": a_policy(selector=selecting(key="app.kubernetes.io/name", values=[""])),
    "a sidecar of another policy first": a_policy(sidecars=[a_sidecar(startAfter=["vault"])]),
    "a Proxy before a Monitor": a_policy(
        sidecars=[
            a_sidecar("proxy", role="Proxy"),
            a_sidecar("monitor", role="Monitor", startAfter=["proxy"]),
        ]
    ),
    "a Custom moved before a Logger": a_policy(
        sidecars=[
            a_sidecar("own", position="BeforeInit"),
            a_sidecar("logger", role="Logger", startAfter=["own"]),
        ]
    ),
    "one percent": a_policy(rollout={"maxConcurrent": "1%"}),
    "all of them": a_policy(rollout={"maxConcurrent": "100%"}),
    "five": a_policy(rollout={"maxConcurrent": 5}),
    "no soak": a_policy(rollout={"minReadySeconds": 0, "progressDeadlineSeconds": 1}),
    "DNS over both protocols": a_policy(
        sidecars=[a_sidecar(container=listening({"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}))]
    ),
    "a quoted fraction": a_policy(sidecars=[a_sidecar(container={"resources": {"limits": {"cpu": "1.5"}}})]),
    "a whole number of CPUs": a_policy(sidecars=[a_sidecar(container={"resources": {"limits": {"cpu": 2}}})]),
    "a volume shared with the application": a_policy(
        volumes=[LOGS],
        sidecars=[a_sidecar(container=mounting("logs"))],
        application=mounting("logs"),
    ),
    "labels and annotations for the Pods": a_policy(
        podMetadata={
            "labels": {"mesh": "on", "example.test/empty": ""},
            "annotations": {"prometheus.io/scrape": "true", "kubectl.kubernetes.io/default-container": "app"},
        }
    ),
    "pull secrets": a_policy(imagePullSecrets=[{"name": "vendor"}, {"name": "my.registry"}]),
    "nobody may opt out": a_policy(optOut="Forbidden"),
    "restarts for a configuration": a_policy(restartOn={"configMaps": ["otel.v1"], "secrets": ["vault-token"]}),
    "what owners may override": a_policy(
        sidecars=[
            a_sidecar(
                overridable=["resources", "resources.limits", "resources.requests.cpu", "env.LOG_LEVEL"],
                overrideMax={"cpu": 1, "memory": "256Mi"},
            )
        ]
    ),
    "all namespaces": a_cluster_policy(),
    "a name of 63": a_policy("w" * 63),
}

REFUSED = {
    "a label by which controllers tell their Pods": (
        a_policy(podMetadata={"labels": {"pod-template-hash": "1"}}),
        "must not have keys that Kubernetes sets itself, and goes by",
    ),
    "an annotation that restarts": (
        a_policy(podMetadata={"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}),
        "must not have keys that Kubernetes and its tools set themselves, and go by",
    ),
    "a mark of the owner's": (
        a_policy(podMetadata={"annotations": {"sidecars.dev/inject": "false"}}),
        "must not have keys under sidecars.dev/",
    ),
    "an added value that no label has": (
        a_policy(podMetadata={"labels": {"mesh": "on off"}}),
        "must be a label value",
    ),
    "a pull secret twice": (a_policy(imagePullSecrets=[{"name": "a"}, {"name": "a"}]), "Duplicate value"),
    "no name of a Secret": (a_policy(imagePullSecrets=[{"name": "A"}]), "must be the name of a Secret"),
    "restarts for nothing": (a_policy(restartOn={}), "must name a ConfigMap or a Secret"),
    "restarts for no name": (a_policy(restartOn={"secrets": ["A"]}), "must be the name of a Secret"),
    "restarts for one name twice": (a_policy(restartOn={"configMaps": ["a", "a"]}), "Duplicate value"),
    "another word for opting out": (a_policy(optOut="Never"), 'Unsupported value: "Never"'),
    "a path that cannot be overridden": (
        a_policy(sidecars=[a_sidecar(overridable=["image"])]),
        'spec.sidecars[0].overridable[0]: Invalid value: "image": must be resources, a part of it',
    ),
    "a maximum that is no quantity": (
        a_policy(sidecars=[a_sidecar(overrideMax={"memory": "lots"})]),
        "overrideMax.memory",
    ),
    "no selector": (a_policy(selector=None), "spec.selector: Required value"),
    "no sidecars": (a_policy(sidecars=[]), "spec.sidecars in body should have at least 1 items"),
    "17 sidecars": (a_policy(sidecars=[a_sidecar(f"s{i}") for i in range(17)]), "must have at most 16 items"),
    "two of one name": (a_policy(sidecars=[a_sidecar(), a_sidecar()]), 'Duplicate value: {"name":"proxy"}'),
    "a name that no container may have": (
        a_policy(sidecars=[a_sidecar("My_Proxy")]),
        'spec.sidecars[0].name: Invalid value: "My_Proxy": must be a DNS label',
    ),
    "a name of 64": (a_policy("w" * 64), "metadata.name must be at most 63 characters long"),
    "an unknown role": (
        a_policy(sidecars=[a_sidecar(role="Mesh")]),
        '"Proxy", "Logger", "Monitor", "Custom"',
    ),
    "no image": (a_policy(sidecars=[{"name": "proxy", "container": {}}]), "container.image: Required value"),
    "a name inside the container": (
        a_policy(sidecars=[a_sidecar(container={"name": "other"})]),
        'unknown field "spec.sidecars[0].container.name"',
    ),
    "a restart policy": (
        a_policy(sidecars=[a_sidecar(container={"restartPolicy": "Never"})]),
        'unknown field "spec.sidecars[0].container.restartPolicy"',
    ),
    "a misspelt field": (
        a_policy(sidecars=[a_sidecar(container={"imagePullPolice": "Always"})]),
        'unknown field "spec.sidecars[0].container.imagePullPolice"',
    ),
    "a misspelt field deep inside": (
        a_policy(sidecars=[a_sidecar(container={"readinessProbe": {"httpGet": {"prot": 80}}})]),
        'unknown field "spec.sidecars[0].container.readinessProbe.httpGet.prot"',
    ),
    "a fraction without quotes": (
        a_policy(sidecars=[a_sidecar(container={"resources": {"limits": {"cpu": 1.5}}})]),
        "limits.cpu",
    ),
    "no quantity": (
        a_policy(sidecars=[a_sidecar(container={"resources": {"limits": {"memory": "64 MB"}}})]),
        "limits.memory",
    ),
    "a port twice": (
        a_policy(
            sidecars=[a_sidecar(container=listening({"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}))]
        ),
        "must have each containerPort once per protocol",
    ),
    "started after itself": (
        a_policy(sidecars=[a_sidecar("proxy", startAfter=["proxy"])]),
        "spec.sidecars[0].startAfter: Invalid value: must not name the sidecar itself",
    ),
    "a Proxy after a Monitor": (
        a_policy(sidecars=[a_sidecar("proxy", role="Proxy", startAfter=["mon"]), a_sidecar("mon", role="Monitor")]),
        "must not start a BeforeInit sidecar after an AfterInit one",
    ),
    "a Logger after one without a role": (
        a_policy(sidecars=[a_sidecar("logger", role="Logger", startAfter=["own"]), a_sidecar("own")]),
        "must not start a BeforeInit sidecar after an AfterInit one",
    ),
    "one moved before the init containers after one that is not": (
        a_policy(sidecars=[a_sidecar("a", position="BeforeInit", startAfter=["b"]), a_sidecar("b")]),
        "must not start a BeforeInit sidecar after an AfterInit one",
    ),
    "none at a time": (a_policy(rollout={"maxConcurrent": 0}), "must be a whole number of at least 1"),
    "minus one at a time": (a_policy(rollout={"maxConcurrent": -1}), "must be a whole number of at least 1"),
    "zero percent": (a_policy(rollout={"maxConcurrent": "0%"}), "or a percentage from 1% to 100%"),
    "101 percent": (a_policy(rollout={"maxConcurrent": "101%"}), "or a percentage from 1% to 100%"),
    "a number in quotes": (a_policy(rollout={"maxConcurrent": "5"}), "or a percentage from 1% to 100%"),
    "a soak as long as the deadline": (
        a_policy(rollout={"minReadySeconds": 600}),
        "spec.rollout.progressDeadlineSeconds: Invalid value: must be more than minReadySeconds",
    ),
    "a deadline of two days": (
        a_policy(rollout={"progressDeadlineSeconds": 172_800}),
        "progressDeadlineSeconds",
    ),
    "a strategy to come": (a_policy(rollout={"strategy": "BlueGreen"}), '"Progressive", "AllAtOnce", "OnNextChange"'),
    "a priority beyond int32": (a_policy(priority=2**31), "spec.priority"),
    "a volume without a source": (a_policy(volumes=[{"name": "logs"}]), "must have exactly one source"),
    "a volume of two sources": (
        a_policy(volumes=[LOGS | {"secret": {"secretName": "s"}}]),
        "spec.volumes[0]: Invalid value: must have exactly one source",
    ),
    "a directory of the node": (
        a_policy(volumes=[{"name": "logs", "hostPath": {"path": "/"}}]),
        'unknown field "spec.volumes[0].hostPath"',
    ),
    "a sidecar's mount of no volume": (
        a_policy(sidecars=[a_sidecar(container=mounting("logs"))]),
        "spec.sidecars: Invalid value: must mount only volumes of spec.volumes",
    ),
    "the application's mount of no volume": (
        a_policy(volumes=[LOGS], application=mounting("data")),
        "spec.application.volumeMounts: Invalid value: must mount only volumes of spec.volumes",
    ),
    "In without values": (
        a_policy(selector=selecting()),
        "matchExpressions[0].values: Invalid value: must have at least one value where operator is In",
    ),
    "NotIn with none": (
        a_policy(selector=selecting(operator="NotIn", values=[])),
        "must have at least one value",
    ),
    "Exists with values": (
        a_policy(selector=selecting(operator="Exists", values=["web"])),
        "must be empty where operator is Exists or DoesNotExist",
    ),
    "an operator that labels do not have": (
        a_policy(selector=selecting(operator="Gt", values=["1"])),
        '"In"',
    ),
    "a key that no label has": (a_policy(selector=selecting(key="a b", values=["x"])), "must be a label key"),
    "a value that no label has": (
        a_policy(selector={"matchLabels": {"tier": "web api"}}),
        'spec.selector.matchLabels[tier]: Invalid value: "web api": must be a label value',
    ),
    "no namespace selector": (
        a_cluster_policy(namespaceSelector=None),
        "spec.namespaceSelector: Required value",
    ),
    "a namespace selector in a namespace": (
        a_policy(namespaceSelector={}),
        'unknown field "spec.namespaceSelector"',
    ),
    "a cluster policy with a bad requirement": (
        a_cluster_policy(namespaceSelector=selecting()),
        "spec.namespaceSelector.matchExpressions[0].values",
    ),
}


@pytest.mark.parametrize("manifest", ACCEPTED.values(), ids=ACCEPTED)
def test_a_sensible_policy_is_accepted(api: pykube.HTTPClient, manifest: Manifest, shop: str) -> None:
    assert kube.skip(api, moved(manifest, shop)) == ""


@pytest.mark.parametrize(("manifest", "words"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_refused_in_words(api: pykube.HTTPClient, manifest: Manifest, words: str, shop: str) -> None:
    assert words in kube.skip(api, moved(without_nulls(manifest), shop))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted(api: pykube.HTTPClient, example: Path, shop: str) -> None:
    (policy,) = (each for each in yaml.safe_load_all(example.read_text()) if each["kind"] in names.PLURALS)
    assert kube.skip(api, moved(policy, shop)) == ""


def test_a_new_policy_does_not_look_finished(api: pykube.HTTPClient, namespace: str) -> None:
    assert kube.create(api, a_policy(namespace=namespace))["status"] == {"observedGeneration": -1}


def test_defaults_fill_in_what_the_author_left_out(api: pykube.HTTPClient, namespace: str) -> None:
    made = kube.create(api, a_policy(namespace=namespace, rollout={}, application={}))["spec"]
    assert made["priority"] == 0
    assert made["deletionPolicy"] == "Remove"
    assert made["application"] == {"initContainers": "None"}
    assert made["rollout"] == {
        "strategy": "Progressive",
        "maxConcurrent": "10%",
        "progressDeadlineSeconds": 600,
        "minReadySeconds": 10,
        "maxFailures": 0,
        "onFailure": "Rollback",
        "paused": False,
    }


def test_no_default_adds_an_object_or_changes_a_list(api: pykube.HTTPClient, namespace: str) -> None:
    """Either is a difference from Git to one tool or another (see policy.yaml)."""
    written = a_policy(
        namespace=namespace,
        volumes=[LOGS],
        sidecars=[a_sidecar(container=listening({"containerPort": 80}) | mounting("logs"))],
    )
    made = kube.create(api, written)["spec"]
    assert made == written["spec"] | {"priority": 0, "deletionPolicy": "Remove", "revisionHistoryLimit": 10}


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem)
def test_no_default_stands_inside_a_list(definition: Path) -> None:
    assert [path for path, schema in fields(definition) if "default" in schema and "[]" in path] == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem)
def test_every_field_has_a_description(definition: Path) -> None:
    silent = [path for path, schema in fields(definition) if "description" not in schema]
    assert [path for path in silent if not path.endswith(("[]", "{}")) and path != ".metadata"] == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem)
def test_every_list_has_a_type(definition: Path) -> None:
    untyped = [
        path
        for path, schema in fields(definition)
        if schema.get("type") == "array" and "x-kubernetes-list-type" not in schema
    ]
    assert untyped == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem)
def test_every_list_string_and_map_of_our_own_is_bounded(definition: Path) -> None:
    limits = {"array": "maxItems", "string": "maxLength", "object": "maxProperties"}
    unbounded = [
        path
        for path, schema in fields(definition)
        if path.startswith((".spec", ".status"))
        and not path.startswith(SERVERS_OWN)
        and ("additionalProperties" in schema or schema.get("type") in ("array", "string"))
        and not {limits[schema["type"]], "enum", "format"} & schema.keys()
    ]
    assert unbounded == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem)
def test_the_words_of_the_schema_are_those_of_the_operator(definition: Path) -> None:
    schemas = dict(fields(definition))
    assert {path: schemas[path]["enum"] for path in WORDS} == {path: list(words) for path, words in WORDS.items()}


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem)
def test_client_side_apply_can_keep_the_definition(definition: Path) -> None:
    assert len(json.dumps(yaml.safe_load(definition.read_text()))) < ANNOTATION_LIMIT / 2


def test_client_side_apply_of_an_unchanged_policy_changes_nothing(kubectl: Kubectl, namespace: str) -> None:
    listed = a_sidecar(container=listening({"containerPort": 80}))
    manifest = json.dumps(a_policy(namespace=namespace, sidecars=[listed], rollout={"maxConcurrent": 3}))
    assert "created" in kubectl("apply", "--filename=-", input=manifest).stdout
    assert "unchanged" in kubectl("apply", "--filename=-", input=manifest).stdout
    assert kubectl("diff", "--filename=-", input=manifest).stdout == ""


def test_kubectl_refuses_a_misspelt_field(kubectl: Kubectl, namespace: str) -> None:
    refused = kubectl(
        "apply", "--filename=-", input=json.dumps(a_policy(namespace=namespace, roll_out={})), check=False
    )
    assert refused.returncode
    assert 'unknown field "spec.roll_out"' in refused.stderr


def test_the_columns_tell_how_far_a_policy_is(api: pykube.HTTPClient, kubectl: Kubectl, namespace: str) -> None:
    policy = kube.SidecarPolicy(api, kube.create(api, a_policy(namespace=namespace)))
    targets = {"matched": 9, "updated": 4, "available": 8, "failed": 1, "skipped": 2}
    ready = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "RollingOut",
        "message": "4 of 9",
        "lastTransitionTime": "2026-11-22T12:00:00Z",
    }
    policy.patch(
        {"status": {"conditions": [ready], "targets": targets, "updateRevision": "web-7d21c0a9e1"}},
        subresource="status",
    )
    head, row = kubectl("get", "sidepol", f"--namespace={namespace}").stdout.splitlines()
    assert " ".join(head.split()) == "NAME READY STATUS MATCHED UPDATED AVAILABLE FAILED SKIPPED AGE"
    assert " ".join(row.split()[:-1]) == "web Unknown RollingOut 9 4 8 1 2"
    head, row = kubectl("get", "sidepol", f"--namespace={namespace}", "--output=wide").stdout.splitlines()
    assert head.split()[-2:] == ["REVISION", "MESSAGE"]
    assert row.split()[-4:] == ["web-7d21c0a9e1", "4", "of", "9"]


def test_one_command_installs_everything(kubectl: Kubectl) -> None:
    installed = kubectl("apply", "--kustomize", str(ROOT / "deploy"), "--dry-run=server")
    assert "deployment.apps/sidecarpolicy" in installed.stdout
    assert installed.stderr == ""  # no warning, least of all that the operator's Pod is not `restricted`


def test_installing_the_same_again_changes_nothing(kubectl: Kubectl) -> None:
    again = kubectl("apply", "--kustomize", str(ROOT / "deploy/base/access")).stdout.splitlines()
    assert [line for line in again if not line.endswith(" unchanged")] == []


def test_both_kinds_answer_to_their_short_names_and_category(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--api-group", names.GROUP, "--no-headers").stdout.splitlines()
    assert [line.split()[:2] for line in sorted(listed)] == [
        ["clustersidecarpolicies", "csidepol"],
        ["sidecarpolicies", "sidepol"],
    ]
    of_category = kubectl("api-resources", "--categories", "sidecars", "--output=name").stdout.split()
    assert sorted(of_category) == [f"{plural}.{names.GROUP}" for plural in sorted(names.PLURALS.values())]


@pytest.mark.parametrize(
    ("path", "words"),
    {
        "sidepol.spec.sidecars.podReadiness": "A sidecar that is not running at all makes the Pod unready",
        "sidepol.spec.sidecars.startup": "Kubernetes itself never waits for a readinessProbe",
        "sidepol.spec.sidecars.container.readinessProbe.httpGet.path": "Path to access on the HTTP server",
        "sidepol.spec.sidecars.container.securityContext.capabilities.drop": "Removed capabilities",
        "sidepol.spec.volumes.projected.sources.serviceAccountToken.audience": "audience of the token",
        "sidepol.spec.application.env.valueFrom.secretKeyRef": "Selects a key of a secret",
        "sidepol.spec.rollout.progressDeadlineSeconds": "Must be more than minReadySeconds",
        "csidepol.spec.namespaceSelector": "{} selects every namespace",
        "csidepol.status.targets": "matched = skipped + pending + progressing + updated + failed",
    }.items(),
    ids=lambda value: value if value.count(".") else "",
)
def test_kubectl_explains(kubectl: Kubectl, path: str, words: str) -> None:
    assert words in " ".join(kubectl("explain", path).stdout.split())


def test_the_container_is_the_servers_own_without_what_makes_it_a_sidecar(
    cluster: localcluster.Cluster,
) -> None:
    openapi = json.loads(cluster.kubectl("get", "--raw", "/openapi/v3/apis/apps/v1").stdout)
    theirs = set(openapi["components"]["schemas"]["io.k8s.api.core.v1.Container"]["properties"])
    schemas = dict(fields(ROOT / "crds/sidecarpolicies.yaml"))
    ours = set(schemas[".spec.sidecars[].container"]["properties"])
    assert theirs - ours == NOT_OURS_TO_GIVE
    assert ours <= theirs


def test_the_definitions_are_what_the_generator_makes() -> None:
    assert generated("--check") == (0, "")


def test_the_running_server_describes_containers_as_the_definitions_do(cluster: localcluster.Cluster) -> None:
    assert generated("--check", "--refresh", str(cluster.kubeconfig)) == (0, "")


@pytest.fixture(scope="module")
def shop(api: pykube.HTTPClient) -> Iterator[str]:
    """The namespace of manifests that are only tried and not created."""
    with kube.a_namespace(api, "shop") as name:
        yield name


def generated(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, GENERATE, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def without_nulls(manifest: Manifest) -> Manifest:
    """Without the fields of spec that a case has set to None."""
    spec = {name: value for name, value in manifest["spec"].items() if value is not None}
    return manifest | {"spec": spec}


def moved(manifest: Manifest, namespace: str) -> Manifest:
    """The same in another namespace, if it is in one at all."""
    metadata = manifest["metadata"]
    return manifest | {"metadata": metadata | ({"namespace": namespace} if "namespace" in metadata else {})}


def fields(definition: Path) -> Iterator[tuple[str, Manifest]]:
    """Every field of a definition: its path, `[]` for a list's items and `{}` for a map's, and its schema."""
    crd = yaml.safe_load(definition.read_text())

    def below(path: str, schema: Manifest) -> Iterator[tuple[str, Manifest]]:
        yield path, schema
        for name, nested in schema.get("properties", {}).items():
            yield from below(f"{path}.{name}", nested)
        for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(schema.get(key), dict):
                yield from below(path + mark, schema[key])

    yield from below("", crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
