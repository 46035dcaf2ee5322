"""`sidecarpolicy fn` as a function of the real kustomize: an executable in its folder, as docs/cli.md says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import a_deployment, a_policy, a_sidecar
from tests.docs.blocks import blocks
from tests.gitops.programs import program

FUNCTION = "inject.sh"
Manifest = dict[str, Any]


class Kustomization:
    """A folder that kustomize builds: a Deployment, a ConfigMap, and *function* as a transformer."""

    def __init__(self, folder: Path, function: Manifest) -> None:
        self._folder = folder
        annotated = {"config.kubernetes.io/function": f"exec:\n  path: ./{FUNCTION}\n"}
        metadata = function["metadata"]
        self._write("function.yaml", {**function, "metadata": {**metadata, "annotations": annotated}})
        self._write("cart.yaml", a_deployment("cart", "shop"))
        self._write("settings.yaml", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}})
        self._write(
            "kustomization.yaml",
            {"resources": ["cart.yaml", "settings.yaml"], "transformers": ["function.yaml"], "nameSuffix": "-blue"},
        )
        script = folder / FUNCTION
        script.write_text("#!/bin/sh\nexec sidecarpolicy fn\n")
        script.chmod(0o755)

    def build(self) -> subprocess.CompletedProcess[str]:
        """Run `kustomize build`."""
        command = [str(program("kustomize")), "build", "--enable-alpha-plugins", "--enable-exec", str(self._folder)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)

    def _write(self, name: str, body: Manifest) -> None:
        (self._folder / name).write_text(yaml.safe_dump(body))


def built(kustomization: Kustomization) -> dict[str, Manifest]:
    """What kustomize prints, by kind."""
    done = kustomization.build()
    assert done.returncode == 0, done.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}


def init_names(deployment: Manifest) -> list[str]:
    return [each["name"] for each in deployment["spec"]["template"]["spec"].get("initContainers", [])]


def test_a_policy_as_transformer_gives_the_deployments_their_sidecars(tmp_path: Path) -> None:
    found = built(Kustomization(tmp_path, a_policy("web", "shop", sidecars=[a_sidecar("proxy")])))
    assert init_names(found["Deployment"]) == ["proxy"]
    assert found["ConfigMap"] == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings-blue"}}


def test_the_policy_and_the_script_of_the_page_work_as_they_stand_there(tmp_path: Path) -> None:
    page = {
        each.language: each.text for each in blocks("docs/cli.md") if "inject.sh" in each.text or "exec " in each.text
    }
    kustomization = Kustomization(tmp_path, a_policy("web", "shop", sidecars=[a_sidecar("proxy")]))
    (tmp_path / "function.yaml").write_text(page["yaml"])
    (tmp_path / FUNCTION).write_text(page["bash"])
    assert init_names(built(kustomization)["Deployment"]) == ["proxy"]


def test_a_list_of_policies_is_one_function_too(tmp_path: Path) -> None:
    policies = [a_policy(each, "shop", sidecars=[a_sidecar(each)]) for each in ("logger", "proxy")]
    function = {"apiVersion": "example.test/v1", "kind": "Sidecars", "metadata": {"name": "all"}}
    found = built(Kustomization(tmp_path, {**function, "spec": {"policies": policies}}))
    assert init_names(found["Deployment"]) == ["logger", "proxy"]


def test_what_a_build_prints_is_what_eject_takes_out_again(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    nothing = a_policy("web", "elsewhere", sidecars=[a_sidecar("proxy")])
    without = built(Kustomization(plain, nothing))["Deployment"]
    injected = Kustomization(tmp_path, a_policy("web", "shop", sidecars=[a_sidecar("proxy")])).build().stdout
    command = [str(Path(sys.executable).with_name("sidecarpolicy")), "eject", "-"]
    ejected = subprocess.run(command, input=injected, capture_output=True, text=True, check=True).stdout
    assert without in list(yaml.safe_load_all(ejected))
    assert init_names(without) == []


@pytest.mark.parametrize(("field", "value"), [("sidecars", []), ("selector", "cart")])
def test_a_policy_that_is_wrong_ends_the_build_with_the_reason_and_nothing_printed(
    tmp_path: Path, field: str, value: Any
) -> None:
    policy = a_policy("web", "shop", sidecars=[a_sidecar("proxy")])
    done = Kustomization(tmp_path, {**policy, "spec": {**policy["spec"], field: value}}).build()
    assert done.returncode != 0
    assert done.stdout == ""
    assert f"spec.{field}" in done.stderr
