"""The operator's image as `make image` packs it: what is in it, what is not, and that its digests are right."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.image.build import Image, build
from tests.packaging.rendering import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the image is assembled by root")
# In uv.lock, and not in the image: deploy/image/assemble says why.
LEFT_OUT = "kubernetes"


@pytest.fixture(scope="module")
def image() -> Image:
    """The image of this checkout."""
    return build()


@pytest.fixture(scope="module")
def parts(image: Image) -> Mapping[str, bytes]:
    """Every file of the archive."""
    with tarfile.open(image.archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


@pytest.fixture(scope="module")
def files(image: Image) -> Mapping[str, tarfile.TarInfo]:
    """Every file of the root file system, by its path."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in image.layers:
        with tarfile.open(layer.path) as tar:
            found |= {f"/{member.name}": member for member in tar.getmembers()}
    return found


def blob(parts: Mapping[str, bytes], descriptor: Mapping[str, Any]) -> bytes:
    """What a descriptor names; its digest and its size have to be right."""
    content = parts[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    assert len(content) == descriptor["size"]
    return content


def test_the_archive_is_a_valid_image_that_runs_as_nobody_in_particular(parts: Mapping[str, bytes]) -> None:
    (described,) = json.loads(parts["index.json"])["manifests"]
    manifest = json.loads(blob(parts, described))
    config = json.loads(blob(parts, manifest["config"]))
    tars = [gzip.decompress(blob(parts, layer)) for layer in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Entrypoint"] == ["/usr/bin/sidecarpolicy"]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/library/sidecarpolicy:0.1.0"


def test_the_dockerfile_says_the_same_of_user_command_and_environment(parts: Mapping[str, bytes]) -> None:
    (described,) = json.loads(parts["index.json"])["manifests"]
    manifest = json.loads(blob(parts, described))
    config = json.loads(blob(parts, manifest["config"]))["config"]
    last = (ROOT / "deploy/Dockerfile").read_text().rpartition("\nFROM ")[2]
    said = dict(line.split(" ", 1) for line in last.splitlines() if line.split(" ")[0] in {"USER", "ENV"})
    assert said == {"USER": config["User"], "ENV": " ".join(config["Env"])}
    assert f"ENTRYPOINT {json.dumps(config['Entrypoint'])}" in last
    assert f"CMD {json.dumps(config['Cmd'])}" in last


def test_there_is_no_shell_no_package_manager_and_nothing_that_gains_rights(
    files: Mapping[str, tarfile.TarInfo],
) -> None:
    programs = {Path(path).name for path in files if re.match(r"/(usr/)?(local/)?s?bin/", path)}
    assert {name for name in programs if not name.startswith("python3")} == {"sidecarpolicy"}
    assert [path for path, file in files.items() if file.isfile() and file.mode & 0o6000] == []
    assert [path for path, file in files.items() if file.mode & 0o002 and not file.issym()] == ["/tmp"]


def test_everything_is_compiled_since_nothing_can_be_written(files: Mapping[str, tarfile.TarInfo]) -> None:
    package = "/dist-packages/sidecarpolicy/"
    sources = [Path(path) for path in files if path.endswith(".py") and package in path]
    assert sources
    cached = {re.sub(r"__pycache__/(.*)\.cpython-\d+\.pyc$", r"\1.py", path) for path in files if path.endswith(".pyc")}
    assert [path for path in sources if str(path) not in cached] == []


def test_its_packages_are_those_that_are_locked(files: Mapping[str, tarfile.TarInfo]) -> None:
    named = (re.search(r"/([^/]+)-([^/-]+)\.dist-info$", path) for path in files)
    installed = {found[1]: found[2] for found in named if found}
    locked = {
        package["name"].replace("-", "_"): package["version"]
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    assert {name: locked.get(name.lower()) for name in installed} == installed
    assert LEFT_OUT not in installed
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=]", each)[0].replace("-", "_") for each in wanted}
    assert names - {name.lower() for name in installed} == {LEFT_OUT}


def test_the_operator_imports_nothing_that_is_left_out() -> None:
    for path in (ROOT / "operator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert LEFT_OUT not in {name.partition(".")[0] for name in names}, path


def test_the_same_checkout_gives_the_same_image(image: Image) -> None:
    made = image.archive.stat().st_ino
    again = build()
    assert again.archive == image.archive
    assert again.archive.stat().st_ino == made
