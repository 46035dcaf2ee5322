"""Sidecars lifted into SidecarPolicies come back from them as the native ones that migrating in place would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from sidecarpolicy.cli.main import main
from sidecarpolicy.manifests import parse
from tests.lint.fixtures import all_manifests

MIGRATIONS = Path(__file__).parent / "migrations"

PROXY = """
      - name: envoy  # the proxy
        image: envoyproxy/envoy:v1.36.2
        volumeMounts: [{name: config, mountPath: /config}]
      volumes:
      - name: config
        configMap: {name: envoy}
"""


def a_deployment(name: str, *, rest: str = PROXY, namespace: str = "shop") -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}  # {name}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, tier: web}}}}
    spec:
      containers:
      - name: {name}
        image: registry.example/{name}:1
{rest.lstrip(chr(10))}"""


def lifted(tmp_path: Path, *texts: str) -> tuple[str, list[dict[str, Any]], str]:
    """Return the manifests without the sidecars, the policies, and what was said."""
    file, policies = tmp_path / "app.yaml", tmp_path / "policies.yaml"
    file.write_text("---\n".join(texts))
    result = CliRunner().invoke(main, ["migrate", str(file), "--to-policy", str(policies)], catch_exceptions=False)
    assert result.exit_code == 0
    made = list(yaml.safe_load_all(policies.read_text())) if policies.exists() else []
    return result.stdout, made, result.stderr


def injected(tmp_path: Path, text: str) -> list[dict[str, Any]]:
    """Return the workloads of *text* as the policies make them."""
    file = tmp_path / "without.yaml"
    file.write_text(text)
    arguments = ["inject", "-p", str(tmp_path / "policies.yaml"), str(file)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return [each.value for each in parse(result.stdout, "x").objects()]


def pod_spec(body: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = body["spec"]["template"]["spec"]
    return spec


def test_a_sidecar_and_its_own_volume_leave_the_deployment_and_nothing_else_does(tmp_path: Path) -> None:
    text, (policy,), _ = lifted(tmp_path, a_deployment("cart"))
    assert text == a_deployment("cart", rest="")
    assert policy["metadata"] == {"name": "cart", "namespace": "shop"}
    assert policy["spec"]["selector"] == {"matchLabels": {"app": "cart", "tier": "web"}}
    (sidecar,) = policy["spec"]["sidecars"]
    assert (sidecar["name"], sidecar["startup"]) == ("envoy", "WaitUntilStarted")
    assert policy["spec"]["volumes"] == [{"name": "config", "configMap": {"name": "envoy"}}]


def test_equal_sidecars_of_one_namespace_share_a_policy_that_selects_nobody_else(tmp_path: Path) -> None:
    other = a_deployment("other", rest="")
    _, policies, _ = lifted(
        tmp_path, a_deployment("cart"), a_deployment("web"), other, a_deployment("far", namespace="b")
    )
    shop, far = policies
    assert shop["metadata"] == {"name": "envoy", "namespace": "shop"}
    assert shop["spec"]["selector"] == {
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["cart", "web"]}]
    }
    assert far["metadata"] == {"name": "far", "namespace": "b"}


def test_a_sidecar_that_shares_a_volume_with_the_application_stays_in_place(tmp_path: Path) -> None:
    rest = PROXY.replace(
        "      volumes:",
        "      - name: api\n        image: a:1\n        volumeMounts: [{name: config, mountPath: /c}]\n      volumes:",
    )
    text, policies, said = lifted(tmp_path, a_deployment("cart", rest=rest))
    assert policies == []
    assert "envoy stays in the Deployment: it shares volume config with other containers" in said
    assert [each["name"] for each in pod_spec(yaml.safe_load(text))["initContainers"]] == ["envoy"]


def test_check_and_diff_write_no_policy(tmp_path: Path) -> None:
    file, policies = tmp_path / "app.yaml", tmp_path / "policies.yaml"
    file.write_text(a_deployment("cart"))
    for option, code in (("--check", 3), ("--diff", 0)):
        result = CliRunner().invoke(main, ["migrate", option, str(file), "--to-policy", str(policies)])
        assert result.exit_code == code
    assert not policies.exists()


@pytest.mark.parametrize(
    "file",
    sorted([*all_manifests(), *MIGRATIONS.glob("*/before.yaml")]),
    ids=lambda file: f"{file.parent.name}/{file.stem}",
)
def test_the_policy_injects_what_migrating_in_place_writes(file: Path, tmp_path: Path) -> None:
    text, policies, _ = lifted(tmp_path, file.read_text())
    if not policies:
        return
    in_place = CliRunner().invoke(main, ["migrate", str(file)], catch_exceptions=False).stdout
    for written, back in zip(parse(in_place, "x").objects(), injected(tmp_path, text), strict=True):
        if written.kind != "Deployment":
            continue
        wanted, found = pod_spec(written.value), pod_spec(back)
        for container in found["initContainers"]:
            if container.get("lifecycle") == {}:
                container.pop("lifecycle")  # the seal
        assert found["initContainers"] == wanted["initContainers"]
        assert found["containers"] == wanted["containers"]
        key = str
        assert sorted(found.get("volumes", []), key=key) == sorted(wanted.get("volumes", []), key=key)
