"""The command line: inject, eject and diff over files, as pipelines use them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import __version__, names
from sidecarpolicy.cli import manifests
from sidecarpolicy.cli.main import COMMANDS, main
from sidecarpolicy.manifests import parse
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar

Command = Callable[..., Result]
WriteFile = Callable[..., str]

READINESS = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 15000}, "timeoutSeconds": 2}}
A_NAMESPACE: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}}
A_CONFIG_MAP: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c"},
    "data": {"y": "on", "n": "1.10"},
}


@pytest.fixture
def command() -> Command:
    """Runs `sidecarpolicy` with arguments; an unexpected exception fails the test."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes manifests into a file, as YAML unless its name says otherwise, and returns its path."""

    def to_file(name: str, *bodies: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        as_text = json.dumps if name.endswith(".json") else (lambda body: yaml.safe_dump(body, sort_keys=False))
        path.write_text("---\n".join(as_text(body) for body in bodies))
        return str(path)

    return to_file


def documents(result: Result) -> list[Any]:
    """The manifests that a command printed."""
    assert result.exit_code == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def init_containers(deployment: Manifest) -> list[str]:
    return [each["name"] for each in deployment["spec"]["template"]["spec"].get("initContainers", [])]


def record(deployment: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(deployment["metadata"]["annotations"][names.RECORD])["policies"]
    return found


def a_rich_policy(**spec: Any) -> Manifest:
    """A policy that adds an item of every sort."""
    return a_policy(
        sidecars=[
            a_sidecar("proxy", role="Proxy", container=READINESS),
            a_sidecar("logger", role="Logger", container={"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}),
            a_sidecar("monitor", role="Monitor"),
        ],
        volumes=[{"name": "logs", "emptyDir": {}}],
        application={
            "env": [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}],
            "volumeMounts": [{"name": "logs", "mountPath": "/var/log/app"}],
        },
        **spec,
    )


A_RICH_DEPLOYMENT = a_deployment(
    annotations={"owner": "me"},
    pod={
        "initContainers": [{"name": "migrate", "image": "example.test/migrate:1"}],
        "containers": [
            {"name": "app", "image": "example.test/app:1", "env": [{"name": "LOG", "value": "yes"}]},
            {"name": "second", "image": "example.test/app:1"},
        ],
    },
)


def test_inject_prints_deployments_with_their_sidecars_in_start_order(command: Command, write: WriteFile) -> None:
    policy = write("policy.yaml", a_rich_policy())
    result = command("inject", "-p", policy, write("app.yaml", A_RICH_DEPLOYMENT))
    (after,) = documents(result)
    pod = after["spec"]["template"]["spec"]
    assert init_containers(after) == ["proxy", "logger", "migrate", "monitor"]
    assert pod["initContainers"][0] == {
        "name": "proxy",
        "image": "example.test/proxy:1",
        **READINESS,
        "restartPolicy": "Always",
        "startupProbe": {
            "httpGet": {"path": "/ready", "port": 15000},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 60,
        },
        "lifecycle": {},
    }
    assert pod["volumes"] == [{"name": "logs", "emptyDir": {}}]
    assert [each["name"] for each in pod["containers"][0]["env"]] == ["LOG", "HTTP_PROXY"]
    assert pod["containers"][1]["volumeMounts"] == [{"name": "logs", "mountPath": "/var/log/app"}]


def test_the_record_names_every_item(command: Command, write: WriteFile) -> None:
    policy = write("policy.yaml", a_rich_policy())
    (after,) = documents(command("inject", "-p", policy, write("app.yaml", A_RICH_DEPLOYMENT)))
    entry = record(after)["SidecarPolicy/shop/web"]
    assert entry.pop("revision").startswith("web-")
    assert entry == {
        "initContainers": ["logger", "monitor", "proxy"],
        "volumes": ["logs"],
        "env": {"app": ["HTTP_PROXY"], "second": ["HTTP_PROXY"]},
        "volumeMounts": {"app": ["/var/log/app"], "second": ["/var/log/app"]},
    }


def test_injecting_twice_changes_nothing(command: Command, write: WriteFile) -> None:
    policy = write("policy.yaml", a_rich_policy())
    once = command("inject", "-p", policy, write("app.yaml", A_RICH_DEPLOYMENT))
    twice = command("inject", "-p", policy, "-", stdin=once.stdout)
    assert twice.stdout == once.stdout
    assert "shop/cart: unchanged SidecarPolicy shop/web" in twice.stderr


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_ejecting_undoes_injecting(command: Command, write: WriteFile, suffix: str) -> None:
    policy = write("policy.yaml", a_rich_policy())
    original = write(f"app.{suffix}", A_RICH_DEPLOYMENT)
    injected = command("inject", "-p", policy, original)
    ejected = command("eject", stdin=injected.stdout)
    assert injected.stdout != ejected.stdout
    assert ejected.stdout == Path(original).read_text()


def test_everything_else_passes_through(command: Command, write: WriteFile) -> None:
    batch_job = a_deployment("batch")
    batch_job["spec"]["template"]["metadata"]["labels"] = {"tier": "batch"}
    others = [A_NAMESPACE, A_CONFIG_MAP, batch_job, ["not", "an", "object"], {"neither": "this"}]
    policy = write("policy.yaml", a_policy())
    result = command("inject", "-p", policy, write("all.yaml", *others))
    assert documents(result) == others
    assert "1 Deployment: 1 not selected" in result.stderr
    assert "no policy selects a Deployment" in result.stderr


def test_empty_lists_that_the_owner_wrote_stay(command: Command, write: WriteFile) -> None:
    deployment = a_deployment(pod={"initContainers": [], "volumes": []})
    deployment["spec"]["template"]["spec"]["containers"] = [{"name": "app", "image": "a", "env": []}]
    (after,) = documents(command("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", deployment)))
    assert list(after["spec"]["template"]["spec"]) == list(deployment["spec"]["template"]["spec"])
    assert after["spec"]["template"]["spec"]["volumes"] == []


def test_json_in_json_out(command: Command, write: WriteFile) -> None:
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("app.json", a_deployment()))
    assert init_containers(json.loads(result.stdout)) == ["proxy"]


def test_lists_are_injected_item_by_item(command: Command, write: WriteFile) -> None:
    typed = {"apiVersion": "v1", "kind": "List", "items": [A_CONFIG_MAP, a_deployment()]}
    bare = {key: value for key, value in a_deployment("pay").items() if key in ("metadata", "spec")}
    untyped = {"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [bare]}
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("all.yaml", typed, untyped))
    first, second = documents(result)
    assert first["items"][0] == A_CONFIG_MAP
    assert init_containers(first["items"][1]) == ["proxy"]
    assert init_containers(second["items"][0]) == ["proxy"]
    assert set(second["items"][0]) == {"metadata", "spec"}


def test_directories_are_read_like_kubectl_reads_them(command: Command, write: WriteFile, tmp_path: Path) -> None:
    policy = write("policies/web.yaml", a_policy())
    write("policies/notes.yaml", A_CONFIG_MAP)
    write("apps/b.yaml", a_deployment("b"))
    write("apps/a.yml", a_deployment("a"))
    write("apps/deeper/c.json", a_deployment("c"))
    (tmp_path / "apps/README.md").write_text("{{ not YAML")
    run = ("inject", "-p", str(Path(policy).parent), str(tmp_path / "apps"))
    assert [each["metadata"]["name"] for each in documents(command(*run))] == ["a", "b"]
    assert [each["metadata"]["name"] for each in documents(command(*run, "-R"))] == ["a", "b", "c"]


# Objects from a cluster


def a_live_deployment(command: Command, write: WriteFile, policy: Manifest) -> Manifest:
    """An injected Deployment with what the API server adds."""
    live: Manifest
    (live,) = documents(command("inject", "-p", write("then.yaml", policy), write("app.yaml", a_deployment())))
    live["metadata"] |= {
        "uid": "u",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": "2025-01-01T00:00:00Z",
    }
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "2"
    live["status"] = {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}
    for container in live["spec"]["template"]["spec"]["initContainers"]:
        container |= {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
        if gate := container.get("startupProbe"):
            gate["successThreshold"] = 1
    for volume in live["spec"]["template"]["spec"].get("volumes", []):
        if "configMap" in volume:
            volume["configMap"]["items"][0]["mode"] = 420
    return live


def test_a_live_object_at_the_revision_is_unchanged(command: Command, write: WriteFile) -> None:
    volume = {"name": "c", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}
    env = [{"name": "LIMIT", "value": ""}]
    policy = a_policy(sidecars=[a_sidecar(container=READINESS)], volumes=[volume], application={"env": env})
    live = a_live_deployment(command, write, policy)
    del live["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    result = command("inject", "-p", write("policy.yaml", policy), write("live.yaml", live))
    assert documents(result) == [live]
    assert "unchanged" in result.stderr


def test_a_container_added_to_a_live_object_gets_what_the_others_have(command: Command, write: WriteFile) -> None:
    policy = a_policy(application={"env": [{"name": "A", "value": "ours"}]})
    live = a_live_deployment(command, write, policy)
    live["spec"]["template"]["spec"]["containers"].append({"name": "second", "image": "example.test/app:1"})
    (after,) = documents(command("inject", "-p", write("policy.yaml", policy), write("live.yaml", live)))
    assert after["spec"]["template"]["spec"]["containers"][1]["env"] == [{"name": "A", "value": "ours"}]


def test_in_a_file_an_edited_sidecar_is_repaired(command: Command, write: WriteFile) -> None:
    policy = write("policy.yaml", a_policy())
    injected = command("inject", "-p", policy, write("app.yaml", a_deployment()))
    edited = injected.stdout.replace("example.test/proxy:1", "example.test/proxy:9")
    repaired = command("inject", "-p", policy, stdin=edited)
    assert repaired.stdout == injected.stdout
    assert "shop/cart: repaired SidecarPolicy shop/web" in repaired.stderr


@pytest.mark.parametrize("edited", ["x", "7", "[x]", "null", '""'])
def test_in_a_file_an_empty_value_is_repaired_whatever_stands_there(
    edited: str, command: Command, write: WriteFile
) -> None:
    volume = {"name": "sock", "emptyDir": {}}
    container = {"image": "example.test/proxy:1", "volumeMounts": [{"name": "sock", "mountPath": "/sock"}]}
    policy = write("policy.yaml", a_policy(sidecars=[a_sidecar(container=container)], volumes=[volume]))
    injected = command("inject", "-p", policy, write("app.yaml", a_deployment()))
    repaired = command("inject", "-p", policy, stdin=injected.stdout.replace("emptyDir: {}", f"emptyDir: {edited}"))
    assert documents(repaired)[0]["spec"]["template"]["spec"]["volumes"] == [volume]
    assert command("inject", "-p", policy, stdin=repaired.stdout).stdout == repaired.stdout


def test_an_empty_list_of_a_sidecar_is_none(command: Command, write: WriteFile) -> None:
    container = {"image": "example.test/proxy:1", "volumeMounts": [], "args": []}
    policy = write("policy.yaml", a_policy(sidecars=[a_sidecar(container=container)]))
    once = command("inject", "-p", policy, write("app.yaml", a_deployment()))
    (sidecar,) = documents(once)[0]["spec"]["template"]["spec"]["initContainers"]
    assert sidecar.keys() == {"name", "image", "restartPolicy", "lifecycle"}
    edited = once.stdout.replace(
        "image: example.test/proxy:1", "image: example.test/proxy:1\n          volumeMounts: []"
    )
    assert edited != once.stdout
    again = command("inject", "-p", policy, stdin=edited)
    assert command("inject", "-p", policy, stdin=again.stdout).stdout == again.stdout


def test_an_older_revision_is_moved(command: Command, write: WriteFile) -> None:
    live = a_live_deployment(command, write, a_rich_policy())
    newer = a_policy(sidecars=[a_sidecar("proxy", container={"image": "example.test/proxy:2"})])
    result = command("inject", "-p", write("policy.yaml", newer), write("live.yaml", live))
    (after,) = documents(result)
    assert init_containers(after) == ["proxy"]
    assert after["spec"]["template"]["spec"]["initContainers"][0]["image"] == "example.test/proxy:2"
    assert "volumes" not in after["spec"]["template"]["spec"]
    assert after["status"] == live["status"]
    assert "shop/cart: moved SidecarPolicy shop/web from web-" in result.stderr


def test_what_a_policy_that_was_not_given_injected_is_kept(command: Command, write: WriteFile) -> None:
    live = a_live_deployment(command, write, a_policy("old", sidecars=[a_sidecar("old")]))
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("live.yaml", live))
    (after,) = documents(result)
    assert set(init_containers(after)) == {"old", "proxy"}
    assert set(record(after)) == {"SidecarPolicy/shop/old", "SidecarPolicy/shop/web"}
    assert "shop/cart: kept SidecarPolicy shop/old" in result.stderr


def test_what_a_policy_no_longer_selects_is_removed(command: Command, write: WriteFile) -> None:
    live = a_live_deployment(command, write, a_policy())
    elsewhere = a_policy(selector={"matchLabels": {"tier": "other"}})
    result = command("inject", "-p", write("policy.yaml", elsewhere), write("live.yaml", live))
    (after,) = documents(result)
    assert init_containers(after) == []
    assert names.RECORD not in after["metadata"]["annotations"]
    assert "removed SidecarPolicy shop/web" in result.stderr


def test_a_record_that_cannot_be_read_is_left_alone(command: Command, write: WriteFile) -> None:
    live = a_live_deployment(command, write, a_policy())
    live["metadata"]["annotations"][names.RECORD] = "{"
    path = write("live.yaml", live)
    result = command("inject", "-p", write("policy.yaml", a_policy()), path)
    assert documents(result) == [live]
    assert "warning InvalidRecord" in result.stderr
    refused = command("eject", path)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert names.RECORD in refused.stderr


# Who is selected


def test_a_policy_reaches_its_own_namespace_only(command: Command, write: WriteFile) -> None:
    result = command(
        "inject", "-p", write("policy.yaml", a_policy(namespace="other")), write("app.yaml", a_deployment())
    )
    assert documents(result) == [a_deployment()]
    assert "these are in shop; SidecarPolicies reach other only" in result.stderr


def test_manifests_without_a_namespace_get_that_of_the_option(command: Command, write: WriteFile) -> None:
    policy, deployment = a_policy(), a_deployment()
    del policy["metadata"]["namespace"]
    run = ("inject", "-p", write("policy.yaml", policy), write("app.yaml", deployment))
    assert init_containers(documents(command(*run))[0]) == []
    assert init_containers(documents(command(*run, "-n", "shop"))[0]) == ["proxy"]
    del deployment["metadata"]["namespace"]
    (after,) = documents(
        command("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", deployment), "-n", "shop")
    )
    assert init_containers(after) == ["proxy"]
    assert "namespace" not in after["metadata"]


def test_a_cluster_policy_goes_by_the_labels_of_namespaces_in_the_input(command: Command, write: WriteFile) -> None:
    policy = write("policy.yaml", a_cluster_policy(namespaceSelector={"matchLabels": {"team": "a"}}))
    without = command("inject", "-p", policy, write("app.yaml", a_deployment()))
    assert init_containers(documents(without)[0]) == []
    assert "namespace shop: its labels are not known" in without.stderr
    result = command("inject", "-p", policy, write("all.yaml", A_NAMESPACE, a_deployment()))
    assert init_containers(documents(result)[1]) == ["proxy"]


def test_a_cluster_policy_always_knows_a_namespace_by_its_name(command: Command, write: WriteFile) -> None:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    result = command(
        "inject",
        "-p",
        write("policy.yaml", a_cluster_policy(namespaceSelector=selector)),
        write("app.yaml", a_deployment()),
    )
    assert init_containers(documents(result)[0]) == ["proxy"]


# Skipped, and said so


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        (a_deployment(labels={names.INJECT: "false"}), "OptedOut: the Deployment has the label"),
        (
            a_deployment(pod={"initContainers": [{"name": "proxy", "image": "x"}]}),
            "NameConflict: the application has its own",
        ),
        (a_deployment(paused=True), "DeploymentPaused"),
        (a_deployment(strategy={"type": "Recreate"}), 'the annotation sidecars.dev/allow-downtime: "true"'),
    ],
    ids=["opted-out", "name", "paused", "downtime"],
)
def test_skips_have_a_reason_and_a_sentence(
    command: Command, write: WriteFile, deployment: Manifest, said: str
) -> None:
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", deployment))
    assert documents(result) == [deployment]
    (line,) = [line for line in result.stderr.splitlines() if "skipped SidecarPolicy" in line]
    assert line.startswith("shop/cart: skipped SidecarPolicy shop/web: ")
    assert said in line
    assert "1 Deployment: 1 skipped" in result.stderr


def test_opting_out_later_removes_the_sidecars(command: Command, write: WriteFile) -> None:
    live = a_live_deployment(command, write, a_policy())
    live["metadata"]["labels"] = {names.INJECT: "false"}
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("live.yaml", live))
    assert init_containers(documents(result)[0]) == []
    assert "removed SidecarPolicy shop/web: OptedOut" in result.stderr


def test_warnings_are_told(command: Command, write: WriteFile) -> None:
    policy = a_policy(
        sidecars=[a_sidecar(startAfter=["vault"])],
        application={"containers": ["app", "web"], "env": [{"name": "A", "value": "ours"}]},
    )
    deployment = a_deployment(
        annotations={"sidecars.dev/pinned": "x"},
        pod={"containers": [{"name": "app", "image": "a", "env": [{"name": "A", "value": "mine"}]}]},
    )
    result = command("inject", "-p", write("policy.yaml", policy), write("app.yaml", deployment))
    assert result.exit_code == 0
    for said in (
        "SidecarPolicy shop/web: warning NoStartupGate: sidecar 'proxy' has neither",
        "SidecarPolicy shop/web: warning UnknownStartAfter: sidecar 'proxy' starts after 'vault'",
        "shop/cart: warning UnknownContainer: application.containers names 'web'",
        "shop/cart: warning EnvKept: env 'A' of container 'app'",
        "shop/cart: warning InvalidMark: annotation sidecars.dev/pinned: is not known",
    ):
        assert said in result.stderr


# What is wrong with the input


def assert_refused(result: Result, *problems: str, exit_code: int = 1) -> None:
    assert (result.exit_code, result.stdout) == (exit_code, "")
    for problem in problems:
        assert problem in result.stderr
    assert "nothing was printed" in result.stderr


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


def test_a_variable_that_hides_one_of_env_from_is_injected_and_told(command: Command, write: WriteFile) -> None:
    source = {"configMapRef": {"name": "settings"}}
    body = a_deployment(pod={"containers": [{"name": "app", "image": "example.test/app:1", "envFrom": [source]}]})
    policy = a_policy(application={"env": [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}]})
    result = command("inject", "-p", write("policy.yaml", policy), write("app.yaml", body))
    (after,) = documents(result)
    assert after["spec"]["template"]["spec"]["containers"][0]["env"] == policy["spec"]["application"]["env"]
    assert "HidesEnvFrom: " in result.stderr
    assert "ConfigMap 'settings' (envFrom): HTTP_PROXY" in result.stderr


def test_a_gate_that_is_made_of_a_readiness_probe_can_never_open_without_its_port(
    command: Command, write: WriteFile
) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "http"}}
    container = {"image": "example.test/proxy:1", "readinessProbe": probe}
    policy = a_policy(sidecars=[a_sidecar(role="Proxy", container=container)])
    result = command("inject", "-p", write("policy.yaml", policy), write("app.yaml", a_deployment()))
    assert "GateProbesApplication: " in result.stderr
    assert "asks port 'http', and the sidecar declares no port of that name" in result.stderr


def test_a_label_without_a_value_is_left_as_it_is(command: Command, write: WriteFile) -> None:
    body = a_deployment()
    body["metadata"] |= {"labels": {"team": None}, "annotations": {"sidecars.dev/injected": None}}
    body["spec"]["template"]["metadata"]["labels"]["team"] = None
    (after,) = documents(command("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", body)))
    assert init_containers(after) == ["proxy"]
    assert after["metadata"]["labels"] == {"team": None}


def test_an_empty_directory_is_a_problem(command: Command, write: WriteFile, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(command("eject", str(tmp_path / "empty")), "must hold a file that ends in .yaml")


@pytest.mark.parametrize(
    "arguments", [("inject",), ("inject", "-p", "/does/not/exist"), ("eject", "--policy", "pod/web"), ("nothing",)]
)
def test_wrong_usage_exits_with_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert command(*arguments).exit_code == 2


# What life brings


def test_a_patch_of_kustomize_passes_through_and_is_told(command: Command, write: WriteFile) -> None:
    patches = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"}, "spec": {"replicas": 2}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "cart"},
            "spec": {"template": {"spec": {"serviceAccountName": "x"}}},
        },
    ]
    result = command("inject", "-p", write("policy.yaml", a_policy()), write("all.yaml", *patches, a_deployment()))
    *first, last = documents(result)
    assert first == patches
    assert init_containers(last) == ["proxy"]
    for number in (1, 2, 3):
        assert result.stderr.count(f"document {number}: passed through: a Deployment without template") == 1


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


def an_autoscaler(of: str, *metrics: Manifest) -> Manifest:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": of}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "namespace": "shop"},
        "spec": {"scaleTargetRef": target, "metrics": list(metrics)},
    }


def test_an_autoscaler_of_nothing_here_passes_through(command: Command, write: WriteFile) -> None:
    metric: Manifest = {"resource": {"name": "cpu"}}
    policy = write("policy.yaml", a_policy())
    result = command("inject", "-p", policy, write("all.yaml", an_autoscaler("other", metric), a_deployment()))
    assert documents(result)[0] == an_autoscaler("other", metric)
    refused = command("inject", "-p", policy, write("all.yaml", an_autoscaler("cart", metric), a_deployment()))
    assert_refused(refused, "line 12: spec.metrics[0].type: must be given")


def test_what_is_so_of_all_is_one_line(command: Command, write: WriteFile) -> None:
    container = {"resources": {"requests": {"cpu": "50m"}}, **READINESS}
    policy = write("policy.yaml", a_policy(sidecars=[a_sidecar(container=container)]))
    sure = {"resources": {each: {"cpu": "1", "memory": "1Gi"} for each in ("limits", "requests")}}
    guaranteed = a_deployment("sure", pod={"containers": [{"name": "app", "image": "app:1"} | sure]})
    manifests = [*(a_deployment(f"web-{n}") for n in range(9)), guaranteed]
    result = command("inject", "-p", policy, write("all.yaml", *manifests))
    assert [line for line in result.stderr.splitlines() if "RequestsChange" in line and "10 Deployments" in line]
    assert result.stderr.count("RequestsChange") == 1
    (qos,) = (line for line in result.stderr.splitlines() if "QosChange" in line and "Guaranteed" in line)
    assert "sure" in qos, "what is so of one is told of that one"


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


def test_check_prints_nothing_and_exits_with_3(command: Command, write: WriteFile) -> None:
    policy, path = write("policy.yaml", a_policy()), write("app.yaml", a_deployment())
    result = command("inject", "--check", "-p", policy, path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "1 Deployment: 1 would change" in result.stderr
    assert command("eject", "--check", path).exit_code == 0


def test_in_place_writes_changed_files_back(command: Command, write: WriteFile, tmp_path: Path) -> None:
    policy, path = write("policy.yaml", a_policy()), Path(write("apps/app.yaml", a_deployment()))
    before = path.read_text()
    path.chmod(0o640)
    result = command("inject", "-i", "-p", policy, str(path.parent))
    assert (result.exit_code, result.stdout) == (0, "")
    assert init_containers(yaml.safe_load(path.read_text())) == ["proxy"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert command("eject", "-i", str(path)).exit_code == 0
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]
    assert command("inject", "-i", "-p", policy, "-", stdin=before).exit_code == 2


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_other_outputs_are_laid_out_anew(command: Command, write: WriteFile, output: str) -> None:
    path = write("all.yaml", A_CONFIG_MAP, a_deployment())
    result = command("inject", "-o", output, "-p", write("policy.yaml", a_policy()), path)
    found = documents(result)
    found = found[0]["items"] if output == "json" else found
    assert [each["kind"] for each in found] == ["ConfigMap", "Deployment"]
    assert init_containers(found[1]) == ["proxy"]


# eject


def test_eject_removes_one_policy_of_two(command: Command, write: WriteFile) -> None:
    policies = write("policies.yaml", a_policy(), a_cluster_policy("mesh", sidecars=[a_sidecar("mesh")]))
    both = command("inject", "-p", policies, write("app.yaml", a_deployment()))
    assert set(init_containers(documents(both)[0])) == {"mesh", "proxy"}
    (after,) = documents(command("eject", "--policy", "ClusterSidecarPolicy/mesh", stdin=both.stdout))
    assert init_containers(after) == ["proxy"]
    assert set(record(after)) == {"SidecarPolicy/shop/web"}
    (after,) = documents(command("eject", "--policy", "SidecarPolicy/shop/web", stdin=both.stdout))
    assert init_containers(after) == ["mesh"]


def test_eject_leaves_what_nobody_injected(command: Command, write: WriteFile) -> None:
    result = command("eject", write("app.yaml", A_RICH_DEPLOYMENT))
    assert documents(result) == [A_RICH_DEPLOYMENT]
    assert "1 Deployment: 1 with nothing to remove" in result.stderr


# diff


def test_diff_exits_as_kubectl_diff_does(command: Command, write: WriteFile) -> None:
    policy, path = write("policy.yaml", a_policy()), write("app.yaml", a_deployment())
    differs = command("diff", "-p", policy, path)
    assert differs.exit_code == 1
    assert differs.stdout.startswith(f"--- Deployment shop/cart ({path})\n+++ Deployment shop/cart (injected)\n")
    assert "+      - name: proxy\n" in differs.stdout
    assert "\x1b" not in differs.stdout
    same = command("diff", "-p", policy, stdin=command("inject", "-p", policy, path).stdout)
    assert (same.exit_code, same.stdout) == (0, "")
    assert_refused(
        command("diff", "-p", policy, write("bad.yaml", a_deployment(pod={"containers": [{}]}))), exit_code=3
    )
    assert command("diff").exit_code == 2


# explain


def test_explain_tells_order_gates_and_budgets(command: Command, write: WriteFile) -> None:
    policy, path = write("policy.yaml", a_rich_policy()), write("app.yaml", A_RICH_DEPLOYMENT)
    result = command("explain", "deploy/cart", "-n", "shop", "-p", policy, "-f", path, "-o", "json")
    found = json.loads(result.stdout)
    assert [(each["container"], each["kind"], each["policy"]) for each in found["start"]] == [
        ("proxy", "sidecar", "SidecarPolicy shop/web"),
        ("logger", "sidecar", "SidecarPolicy shop/web"),
        ("migrate", "init container", ""),
        ("monitor", "sidecar", "SidecarPolicy shop/web"),
        ("app", "application", ""),
        ("second", "application", ""),
    ]
    assert found["start"][0]["next"] == "its startup probe has succeeded, for at most 120 s"
    assert found["stop"] == [["app", "second"], ["monitor"], ["logger"], ["proxy"]]
    assert found["startup"] == {"seconds": 120, "unknown": ["init container 'migrate'"]}
    assert found["policies"][0]["maxConcurrent"] == "10%"
    text = command("explain", "shop/cart", "-p", policy, path).stdout
    assert text == command("explain", "shop/cart", "-p", policy, "-f", path).stdout
    assert "  1. proxy    sidecar of SidecarPolicy shop/web; the next one starts when its startup probe" in text
    assert yaml.safe_load(command("explain", "shop/cart", "-p", policy, "-f", path, "-o", "yaml").stdout) == found


def test_explain_says_what_the_owner_adjusts(command: Command, write: WriteFile) -> None:
    sidecars = [a_sidecar("proxy", overridable=["env.LOG_LEVEL"]), a_sidecar("logger")]
    marks = {names.SKIP: "logger", f"{names.OVERRIDE}proxy": '{"env": {"LOG_LEVEL": "debug"}}'}
    path = write("app.yaml", a_deployment(annotations=marks))
    arguments = ("explain", "cart", "-n", "shop", "-p", write("policy.yaml", a_policy(sidecars=sidecars)), "-f", path)
    (policy,) = json.loads(command(*arguments, "-o", "json").stdout)["policies"]
    assert (policy["sidecars"], policy["skipped"], policy["overridden"]) == (["proxy"], ["logger"], ["proxy"])
    assert ": proxy, logger left out by the owner, proxy overridden by the owner, 10% of" in command(*arguments).stdout


def test_inject_tells_what_has_no_effect(command: Command, write: WriteFile) -> None:
    marks = {names.SKIP: "proxy,vault", f"{names.OVERRIDE}proxy": '{"image": "x"}'}
    path = write("app.yaml", a_deployment(annotations=marks))
    result = command("inject", "-p", write("policy.yaml", a_policy(optOut="Forbidden")), path)
    assert "warning OptOutForbidden: the annotation sidecars.dev/skip leaves out 'proxy'" in result.stderr
    assert "warning OverrideIgnored: annotation sidecars.dev/override.proxy: image: must be" in result.stderr
    assert "warning InvalidMark: annotation sidecars.dev/skip: names 'vault'" in result.stderr


def test_inject_takes_pull_secrets_from_the_manifest_of_the_service_account(command: Command, write: WriteFile) -> None:
    policy = write("policy.yaml", a_policy(imagePullSecrets=[{"name": "vendor"}]))
    path = write("app.yaml", a_deployment())
    assert "PullSecretsUnreadable" in command("inject", "-p", policy, path).stderr
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "shop"},
        "imagePullSecrets": [{"name": "mirror"}, {}],
    }
    both = write("both.yaml", account, a_deployment())
    injected = list(yaml.safe_load_all(command("inject", "-p", policy, both).stdout))
    assert injected[0] == account
    assert injected[1]["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "mirror"}, {"name": "vendor"}]


def test_explain_says_why_a_deployment_is_skipped(command: Command, write: WriteFile) -> None:
    path = write("app.yaml", a_deployment(paused=True))
    result = command("explain", "cart", "-n", "shop", "-p", write("policy.yaml", a_policy()), "-f", path)
    assert "skipped SidecarPolicy shop/web: DeploymentPaused" in result.stdout
    missing = command("explain", "crt", "-n", "shop", "-p", write("policy.yaml", a_policy()), "-f", path)
    assert (missing.exit_code, "did you mean cart?" in missing.stderr) == (1, True)


# fn


@pytest.mark.parametrize("wrapped", [False, True], ids=["one policy", "several"])
def test_fn_injects_into_a_resource_list(command: Command, wrapped: bool) -> None:
    config = {"kind": "SidecarPolicies", "spec": {"policies": [a_policy()]}} if wrapped else a_policy()
    listed = {
        "apiVersion": "config.kubernetes.io/v1",
        "kind": "ResourceList",
        "items": [A_CONFIG_MAP, a_deployment()],
        "functionConfig": config,
    }
    (after,) = documents(command("fn", stdin=yaml.safe_dump(listed, sort_keys=False)))
    assert after["items"][0] == A_CONFIG_MAP
    assert init_containers(after["items"][1]) == ["proxy"]
    assert after["functionConfig"] == config


def test_fn_refuses_what_is_no_resource_list(command: Command) -> None:
    assert_refused(command("fn", stdin="kind: List\nitems: []\n"), "must be one ResourceList")
    assert_refused(command("fn", stdin="kind: ResourceList\nitems: []\n"), "functionConfig: must be a policy")


# Printing


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_string_stays_a_string(text: str) -> None:
    body = {"data": {"text": text, text: 1}}
    written = manifests.yaml_of(body)
    assert yaml.safe_load(written) == body
    (again,) = parse(written, "test").documents
    assert again.value == body


@pytest.mark.parametrize(
    "text", ["y", "N", "on", "1e3", "0o17", "017", "1:30", "2025-01-01", "~", "=", "<<", ".5", "1_000"]
)
def test_strings_that_look_like_something_else_are_quoted(text: str) -> None:
    assert manifests.yaml_of({"a": text}) == f"a: '{text}'\n"


def test_scalars_are_read_as_kubectl_reads_them() -> None:
    text = "{a: 1:30, b: 2025-01-01, c: 1e3, d: 0644, e: 0o644, f: on, g: , h: 0x1F, i: -0.5, y: 1}"
    (document,) = parse(text, "test").documents
    assert document.value == {
        "a": "1:30",
        "b": "2025-01-01",
        "c": 1000.0,
        "d": 420,
        "e": 420,
        "f": True,
        "g": None,
        "h": 31,
        "i": -0.5,
        "true": 1,
    }


@pytest.mark.parametrize(
    ("spelt", "read"),
    [
        *((each, True) for each in ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")),
        *((each, False) for each in ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")),
        *((each, None) for each in ("~", "null", "Null", "NULL")),
        *((each, each) for each in ("yES", "tRUE", "oN", "nULL", "1:30", "2025-01-01", "2025-01-01T00:00:00Z", "0o8")),
        *(("1_000", 1000), ("0b11", 3), ("+1", 1), (".5", 0.5), ("1e3", 1000), ("-0x1F", -31), ("1.0", 1)),
    ],
)
def test_a_word_is_what_kubectl_makes_of_it(spelt: str, read: object) -> None:
    """As go.yaml.in/yaml/v2 has it (resolve.go), and yaml.v3 or PyYAML have not (yaml/pyyaml#272)."""
    (document,) = parse(f"spec:\n  paused: {spelt}\n", "test").documents
    found = document.value["spec"]["paused"]
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("spelt", [".inf", "-.INF", "+.Inf", ".nan", ".NaN"])
def test_a_number_that_json_cannot_hold_is_refused_with_its_line(spelt: str) -> None:
    with pytest.raises(manifests.BadInput, match=r"test, line 2.*is no number in JSON"):
        _ = parse(f"spec:\n  replicas: {spelt}\n", "test").documents[0].value


def test_texts_of_many_lines_stay_readable() -> None:
    assert manifests.yaml_of({"a": "first\n  second\n"}) == "a: |\n  first\n    second\n"


# Start-up


def test_help_lists_all_commands_without_importing_them(command: Command) -> None:
    result = command("--help")
    assert result.exit_code == 0
    _, _, sections = result.stdout.partition("See what is there:")
    listed = [line.split()[0] for line in sections.splitlines() if line.startswith("  ")]
    assert [each for each in listed if each in COMMANDS] == list(COMMANDS)
    assert __version__ in command("--version").stdout


FOREIGN = {"kopf", "kubernetes", "pykube", "aiohttp", "rich", "asyncio"}


def imported_by(*arguments: str) -> set[str]:
    """The packages that a run of `sidecarpolicy` imports."""
    program = (
        "import sys; from sidecarpolicy.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PYTHONPATH": str(Path(manifests.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return {module.split(".")[0] for module in run.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize("command_name", ["inject", "explain", "fn"])
def test_help_imports_neither_kopf_nor_a_client(command_name: str) -> None:
    assert not imported_by("--help") & (FOREIGN | {"yaml"})
    assert not imported_by(command_name, "--help") & FOREIGN


def test_inject_imports_neither_kopf_nor_a_client(write: WriteFile) -> None:
    imported = imported_by("inject", "-p", write("policy.yaml", a_policy()), write("app.yaml", a_deployment()))
    assert "yaml" in imported
    assert not imported & FOREIGN
