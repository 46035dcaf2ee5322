"""The command line: inject, eject and diff over files, as pipelines use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecarpolicy import __version__, names
from sidecarpolicy.cli import manifests
from sidecarpolicy.cli.main import COMMANDS
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.core.command_line import A_CONFIG_MAP, Command, WriteFile, assert_refused, documents

READINESS = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 15000}, "timeoutSeconds": 2}}
A_NAMESPACE: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}}


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
