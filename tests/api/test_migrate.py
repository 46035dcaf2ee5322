"""What migrate writes is what a real API server takes, wherever it takes what was there before."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pykube
from click.testing import CliRunner

from sidecarpolicy.cli.main import main
from sidecarpolicy.lint.pods import POD_SPECS, pods
from sidecarpolicy.manifests import parse
from tests.lint.fixtures import all_manifests

MIGRATIONS = Path(__file__).parents[1] / "lint" / "migrations"
FILES = sorted([*all_manifests(), *MIGRATIONS.glob("*/before.yaml")])


def workloads(text: str) -> list[dict[str, Any]]:
    return [each.value for each in parse(text, "x").objects() if each.kind in POD_SPECS and pods(each.value)]


def migrated(file: Path) -> str:
    result = CliRunner().invoke(main, ["migrate", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def answer(api: pykube.HTTPClient, namespace: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ask the server to create *body*, and to keep nothing; unknown fields are refused."""
    group = body["apiVersion"]
    response = api.post(
        version=group,
        namespace=namespace,
        url=f"{body['kind'].lower()}s",
        params={"dryRun": "All", "fieldValidation": "Strict"},
        data=json.dumps({**body, "metadata": {**body["metadata"], "namespace": namespace}}),
    )
    return response.status_code, response.json()


def test_the_server_takes_every_migrated_manifest_and_keeps_the_sidecars_native(
    api: pykube.HTTPClient, namespace: str
) -> None:
    taken = native = 0
    refused: list[str] = []
    for file in FILES:
        for before, after in zip(workloads(file.read_text()), workloads(migrated(file)), strict=True):
            if answer(api, namespace, before)[0] != HTTPStatus.CREATED:
                refused.append(f"{file.parent.name}/{file.name}")
                continue
            status, stored = answer(api, namespace, after)
            assert status == HTTPStatus.CREATED, (str(file), stored)
            wanted, kept = pods(after), pods(stored)
            assert wanted is not None
            assert kept is not None
            assert [each.name for each in kept.native] == [each.name for each in wanted.native]
            taken += 1
            native += len(kept.native)
    assert not refused, "a fixture that no server would take proves nothing"
    assert taken > 100
    assert native > 60
