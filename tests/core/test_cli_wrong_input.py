"""The command line over manifests that are wrong: each problem is told with its place, and nothing is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.core.command_line import A_CONFIG_MAP, Command, WriteFile, assert_refused, documents


def test_every_problem_of_every_policy_is_told(command: Command, write: WriteFile) -> None:
    first = a_policy(sidecars=[a_sidecar(role="Prxy", container={"image": ""})])
    second = a_policy("second", priority="high", rollout={"maxConcurrent": "0%"})
    policies = write("policies.yaml", first, second)
    assert_refused(
        command("inject", "-p", policies, write("app.yaml", a_deployment())),
        f"{policies}, line 14: spec.sidecars[0].role: must be one of Proxy, Logger, Monitor, Custom, not 'Prxy'",
        f"{policies}, line 13: spec.sidecars[0].container.image: must not be empty",
        f"{policies}, line 29: spec.priority: must be a whole number, not a string ('high')",
        f"{policies}, line 31: spec.rollout.maxConcurrent: must be",
        "4 problems",
    )


def test_a_policy_of_another_version_is_a_problem(command: Command, write: WriteFile) -> None:
    policies = write("policy.yaml", a_policy() | {"apiVersion": "sidecars.dev/v2"})
    assert_refused(command("inject", "-p", policies, write("app.yaml", a_deployment())), "of sidecars.dev/v1alpha1")


def test_a_policy_declared_twice_is_a_problem(command: Command, write: WriteFile) -> None:
    policies = write("policy.yaml", a_policy(), a_policy())
    assert_refused(
        command("inject", "-p", policies, write("app.yaml", a_deployment())),
        "must not declare SidecarPolicy shop/web again",
    )


def test_policy_files_without_a_policy_are_a_problem(command: Command, write: WriteFile) -> None:
    policies = write("policy.yaml", A_CONFIG_MAP)
    assert_refused(
        command("inject", "-p", policies, write("app.yaml", a_deployment())), f"{policies}: must hold a SidecarPolicy"
    )


def test_start_orders_in_a_circle_are_a_problem(command: Command, write: WriteFile) -> None:
    policies = write(
        "policy.yaml",
        a_policy("a", sidecars=[a_sidecar("a", startAfter=["b"])]),
        a_policy("b", sidecars=[a_sidecar("b", startAfter=["a"])]),
    )
    assert_refused(
        command("inject", "-p", policies, write("app.yaml", a_deployment())),
        "on Deployment shop/cart, a after b after a",
    )


def test_every_problem_of_a_deployment_is_told(command: Command, write: WriteFile) -> None:
    deployment = a_deployment(pod={"containers": [{"image": "x"}], "volumes": {"name": "x"}})
    deployment["spec"]["template"]["metadata"]["labels"] = {"version": 1.1}
    path = write("app.yaml", A_CONFIG_MAP, deployment)
    assert_refused(
        command("inject", "-p", write("policy.yaml", a_policy()), path),
        f"{path}, line 27: spec.template.spec.containers[0].name: must be given",
        f"{path}, line 29: spec.template.spec.volumes: must be a list, not a mapping",
        f"{path}, line 24: spec.template.metadata.labels.version: must be a string, not a number (1.1)",
        "3 problems",
    )


@pytest.mark.parametrize(
    ("selector", "problem"),
    [
        ("x", "spec.selector: must be a mapping, not a string"),
        ({"matchExpressions": [{}]}, "spec.selector.matchExpressions[0].key: must be given"),
        ({"matchExpressions": ["a"]}, "spec.selector.matchExpressions[0]: must be a mapping, not a string"),
    ],
)
def test_a_selector_that_cannot_be_read_is_told(
    command: Command, write: WriteFile, selector: Any, problem: str
) -> None:
    path = write("app.yaml", a_deployment(selector=selector))
    assert_refused(command("inject", "-p", write("policy.yaml", a_policy()), path), problem)


def test_text_that_is_no_yaml_is_told_with_its_line(command: Command, write: WriteFile, tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ .Values.metadata }}\n")
    refused = command("inject", "-p", write("policy.yaml", a_policy()), str(path))
    assert_refused(refused, f"{path}, line 3, column 12: must have strings as keys (a Helm template? render it first")
    path.write_bytes(b"kind: \xff")
    assert_refused(command("eject", str(path)), f"{path}, line 1: must be UTF-8")


def test_a_number_that_is_none_is_a_problem(command: Command, write: WriteFile) -> None:
    body = a_deployment()
    body["spec"]["replicas"] = "a"
    assert_refused(
        command("eject", write("app.yaml", body)), "spec.replicas: must be a whole number, not a string ('a')"
    )


@pytest.mark.parametrize(
    "listed",
    ["containers", "initContainers", "volumes", "imagePullSecrets", "containers[0].env", "containers[0].ports"],
)
def test_null_in_a_list_is_a_problem(command: Command, write: WriteFile, listed: str) -> None:
    body = a_deployment()
    pod = body["spec"]["template"]["spec"]
    holder = pod["containers"][0] if "." in listed else pod
    holder.setdefault(listed.rpartition(".")[2], []).append(None)
    place = f"spec.template.spec.{listed}[{1 if listed == 'containers' else 0}]"
    refused = command("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", body))
    assert_refused(refused, f"{place}: must be a mapping, not null")


def test_an_empty_directory_is_a_problem(command: Command, write: WriteFile, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(command("eject", str(tmp_path / "empty")), "must hold a file that ends in .yaml")


@pytest.mark.parametrize(
    "arguments", [("inject",), ("inject", "-p", "/does/not/exist"), ("eject", "--policy", "pod/web"), ("nothing",)]
)
def test_wrong_usage_exits_with_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert command(*arguments).exit_code == 2


def test_every_problem_of_a_directory_is_told(command: Command, write: WriteFile, tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/a.yaml").write_text("a: [\n")
    (tmp_path / "apps/b.yaml").write_bytes(b"a: \xff")
    (tmp_path / "policy.yaml").write_text("a: }\n")
    result = command("inject", "-p", str(tmp_path / "policy.yaml"), str(tmp_path / "apps"))
    assert_refused(result, "a.yaml, line 2", "b.yaml, line 1: must be UTF-8", "policy.yaml, line 1", "3 problems")


def test_a_dropped_api_version_is_told(command: Command, write: WriteFile) -> None:
    old = a_deployment() | {"apiVersion": "extensions/v1beta1"}
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", old))
    assert documents(result) == [old]
    assert "passed through: Deployment of extensions/v1beta1, which Kubernetes 1.16 stopped serving" in result.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"image": "x"}, "spec.sidecars[0].image: must not stand here: it belongs under container"),
        (
            {"container": {"image": "x", "env": [{"name": "A", "value": 5432}]}},
            "container.env[0].value: must be a string, not a number (5432)",
        ),
        (
            {"container": {"image": "x", "resources": {"requests": {"cpu": 0.1}}}},
            "requests.cpu: must be a string or a whole number, not a number (0.1): put it in quotes ('0.1')",
        ),
        (
            {"container": {"image": "x", "resources": {"requests": {"cpu": "100mm"}}}},
            "requests.cpu: must be a quantity (100m, 0.5, 64Mi), not '100mm'",
        ),
        (
            {"container": {"image": "x", "readinessProbe": {"exec": {"command": ["a"]}, "failureThreshold": -1}}},
            "readinessProbe.failureThreshold: must not be negative, as -1 is",
        ),
        (
            {"container": {"image": "x", "readinessProbe": {"exec": {"command": ["a"]}, "grpc": {"port": 1}}}},
            "readinessProbe: must have one of exec, grpc, httpGet, tcpSocket, not exec and grpc",
        ),
        ({"container": {"image": "x", "imagePullPolicie": "Always"}}, "did you mean imagePullPolicy?"),
    ],
)
def test_a_policy_is_checked_as_the_api_server_would(
    command: Command, write: WriteFile, spec: Manifest, said: str
) -> None:
    policy = write("policy.yaml", a_policy(sidecars=[{"name": "proxy", **spec}]))
    result = command("inject", "-p", policy, write("app.yaml", a_deployment()))
    assert_refused(result, f"{policy}, line ", said)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "template", "metadata"), "text"),
        (("spec", "template"), "text"),
        (("spec",), "text"),
        (("metadata",), "text"),
        (("metadata", "annotations"), ["x"]),
        (("spec", "template", "spec", "containers", 0, "volumeMounts"), [{"name": "x"}]),
        (("spec", "template", "spec", "containers", 0, "resources"), "text"),
        (("spec", "template", "spec", "containers", 0, "resources"), {"requests": ["x"]}),
        (("spec", "template", "spec", "containers", 0, "ports"), ["x"]),
        (("spec", "template", "spec", "containers", 0, "startupProbe"), "text"),
        (("spec", "template", "spec", "initContainers"), [{"name": "x", "restartPolicy": 1, "startupProbe": 1}]),
    ],
)
def test_what_is_no_deployment_is_told_with_its_path(
    command: Command, write: WriteFile, path: tuple[Any, ...], value: Any
) -> None:
    body: Any = a_deployment()
    at = body
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    policy = a_policy(selector={}, sidecars=[a_sidecar(container={"resources": {"requests": {"cpu": "50m"}}})])
    result = command("inject", "-p", write("policy.yaml", policy), write("app.yaml", body))
    if result.exit_code:
        assert_refused(result, ".".join(str(step) for step in path if isinstance(step, str)).split(".containers")[0])


def test_half_a_surrogate_pair_is_told(command: Command, write: WriteFile, tmp_path: Path) -> None:
    text = json.dumps(a_policy(sidecars=[a_sidecar(container={"image": "\ud800"})]))
    (tmp_path / "policy.json").write_text(text)
    result = command("inject", "-p", str(tmp_path / "policy.json"), write("app.yaml", a_deployment()))
    assert_refused(result, "policy.json, line 1", "must be Unicode, not half a surrogate pair")


def test_a_kind_that_is_no_word_is_no_object_of_ours(command: Command, write: WriteFile) -> None:
    odd = {"apiVersion": "sidecars.dev/v1alpha1", "kind": {"name": None}}
    result = command("inject", "-p", write("policy.yaml", odd), write("app.yaml", a_deployment()))
    assert_refused(result, "kind: must be")


def test_an_alias_over_a_list_is_refused_with_its_line(command: Command, write: WriteFile, tmp_path: Path) -> None:
    text = yaml.safe_dump(a_deployment(pod={"initContainers": [{"name": "x", "image": "a"}]}), sort_keys=False)
    listed = "      initContainers:\n      - name: x\n        image: a\n"
    assert listed in text
    aliased = "list: &list\n- {name: x, image: a}\n" + text.replace(listed, "      initContainers: *list\n")
    (tmp_path / "app.yaml").write_text(aliased)
    result = command("inject", "-p", write("policy.yaml", a_policy()), str(tmp_path / "app.yaml"))
    line = aliased.splitlines().index("      initContainers: *list") + 1
    assert_refused(result, f"app.yaml, line {line}: initContainers is an alias of what stands elsewhere")
