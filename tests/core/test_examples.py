"""The policies of deploy/examples: valid, whole, without surprises, and as Pod Security `restricted` wants them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from sidecarpolicy import names
from sidecarpolicy.cli.main import main
from tests.builders import Manifest, a_deployment

FOLDER = Path(__file__).parents[2] / "deploy/examples"
FILES = sorted(FOLDER.glob("*.yaml"))

# What the decoder finds and no author can avoid: memory and disk that the sidecars take.
TOLD = {"LocalStorage", "RequestsChange"}


def documents(file: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(file.read_text()))


def policy_of(file: Path) -> Manifest:
    (policy,) = (each for each in documents(file) if each["kind"] in names.PLURALS)
    return policy


def config_maps() -> dict[tuple[str, str], Manifest]:
    found = (each for file in FILES for each in documents(file) if each["kind"] == "ConfigMap")
    return {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in found}


def containers(file: Path) -> Iterator[Manifest]:
    for sidecar in policy_of(file)["spec"]["sidecars"]:
        yield sidecar["container"]


def selected_by(policy: Manifest) -> Manifest:
    """A Deployment that *policy* selects."""
    namespace = policy["metadata"].get("namespace", "shop")
    app = a_deployment("cart", namespace)
    app["spec"]["template"]["metadata"]["labels"] |= policy["spec"]["selector"].get("matchLabels", {})
    return app


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_there_is_an_example_for_each_kind_of_sidecar() -> None:
    told = set(re.findall(r"^\| \[([a-z0-9-]+\.yaml)\]", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert told == {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_valid_without_a_warning(file: Path) -> None:
    result = run("validate", "--strict", str(file))
    assert (result.exit_code, result.output) == (0, "1 policy valid\n")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_selected_deployment_gets_every_sidecar_and_no_warning_but_what_it_costs(file: Path, tmp_path: Path) -> None:
    policy = policy_of(file)
    labels = policy["spec"].get("namespaceSelector", {}).get("matchLabels", {})
    shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
    (tmp_path / "app.yaml").write_text(yaml.safe_dump_all([shop, selected_by(policy)]))
    result = run("inject", "-p", str(file), str(tmp_path / "app.yaml"))
    assert result.exit_code == 0, result.output
    app = next(each for each in yaml.safe_load_all(result.stdout) if each["kind"] == "Deployment")
    injected = [each["name"] for each in app["spec"]["template"]["spec"]["initContainers"]]
    assert sorted(injected) == sorted(each["name"] for each in policy["spec"]["sidecars"])
    assert set(re.findall(r"warning (\w+):", result.stderr)) <= TOLD


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_map_that_is_mounted_is_there(file: Path) -> None:
    policy = policy_of(file)
    mounted = {each["configMap"]["name"] for each in policy["spec"].get("volumes", ()) if "configMap" in each}
    assert {(policy["metadata"].get("namespace"), name) for name in mounted} <= set(config_maps())


@pytest.mark.parametrize(("key", "config_map"), config_maps().items(), ids=str)
def test_what_is_yaml_in_a_config_map_can_be_read(key: tuple[str, str], config_map: Manifest) -> None:
    for name, text in config_map["data"].items():
        assert not name.endswith(".yaml") or isinstance(yaml.safe_load(text), dict), key


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_fits_pod_security_restricted(file: Path) -> None:
    for container in containers(file):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["capabilities"]["drop"] == ["ALL"]
        assert set(security["capabilities"].get("add", ())) <= {"NET_BIND_SERVICE"}
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
        assert not any("hostPort" in port for port in container.get("ports", ()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_names_a_registry_and_a_version_bounds_its_memory_and_requests_cpu(file: Path) -> None:
    for container in containers(file):
        assert re.fullmatch(r"[a-z.]+\.[a-z]+/.+:[\w.-]*\d[\w.-]*", container["image"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
