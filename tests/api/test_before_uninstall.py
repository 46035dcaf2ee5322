"""The chart's Job before an uninstall, as its own account on a real API server; only its Pod is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import localcluster
from tests.packaging.rendering import CHART, NAMESPACE, objects, template

PLURALS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
NAME = "sidecarpolicy-before-uninstall"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
def configured(cluster: localcluster.Cluster) -> Iterator[localcluster.Cluster]:
    """With the chart's webhook configurations, and those that somebody else has; and what the Job may."""
    rendered = [each for each in objects(template()) if each["metadata"]["name"].startswith("sidecarpolicy")]
    webhooks = [each for each in rendered if each["kind"].endswith("WebhookConfiguration")]
    others = [each | {"metadata": {"name": "somebody-elses"}} for each in webhooks]
    rights = [each for each in rendered if each["metadata"]["name"] == NAME and each["kind"] != "Job"]
    # What they would be asked for is not there; nothing in this test writes a Deployment or a policy.
    text = yaml.safe_dump_all([*webhooks, *others, *rights])
    cluster.kubectl("apply", "--filename=-", input=text)
    yield cluster
    cluster.kubectl("delete", "--ignore-not-found", "--filename=-", input=text)


def run(cluster: localcluster.Cluster, folder: Path) -> subprocess.CompletedProcess[str]:
    """The Job's program, with the account's token where it looks for it."""
    token = cluster.kubectl("create", "token", NAME, f"--namespace={NAMESPACE}").stdout
    (folder / "token").write_text(token.strip())
    assert cluster.ca_file is not None
    (folder / "ca.crt").write_bytes(cluster.ca_file.read_bytes())
    program = (CHART / "files/before_uninstall.py").read_text()
    assert ACCOUNT in program
    server = urlsplit(cluster.server)
    where = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port)}
    command = [sys.executable, "-I", "-c", program.replace(ACCOUNT, str(folder))]
    return subprocess.run(command, env=os.environ | where, capture_output=True, text=True, check=False)


def test_it_deletes_our_configurations_and_nobody_elses_and_may_do_so_twice(
    configured: localcluster.Cluster, tmp_path: Path
) -> None:
    first, second = run(configured, tmp_path), run(configured, tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [f"{plural}/sidecarpolicy: deleted" for plural in PLURALS]
    assert second.stdout.splitlines() == [f"{plural}/sidecarpolicy: not there" for plural in PLURALS]
    left = json.loads(configured.kubectl("get", ",".join(PLURALS), "--output=json").stdout)["items"]
    assert [each["metadata"]["name"] for each in left].count("somebody-elses") == 2


def test_it_says_why_where_it_may_not(configured: localcluster.Cluster, tmp_path: Path) -> None:
    configured.kubectl("delete", "clusterrolebinding", NAME)
    done = run(configured, tmp_path)
    assert done.returncode == 1
    assert "403" in done.stderr
