"""What a real API server says to deploy/examples: every object by dry run, and Pods under Pod Security `restricted`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pykube
import pytest
import yaml
from click.testing import CliRunner

import localcluster
from sidecarpolicy.cli.main import main
from tests.builders import Manifest, a_deployment
from tests.polling import poll

FILES = sorted((Path(__file__).parents[2] / "deploy/examples").glob("*.yaml"))

pytestmark = pytest.mark.long

RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def documents(file: Path, namespace: str) -> list[Manifest]:
    """The objects of *file*, in *namespace*."""
    found = list(yaml.safe_load_all(file.read_text()))
    for each in found:
        if "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = namespace
    return found


def injected(policy: Manifest, namespace: str, folder: Path) -> Manifest:
    """A restricted Deployment that *policy* selects, with its sidecars."""
    container = {"name": "app", "image": "example.test/app:1", "securityContext": RESTRICTED}
    app = a_deployment("cart", namespace, pod={"containers": [container]})
    app["spec"]["template"]["metadata"]["labels"] |= policy["spec"]["selector"].get("matchLabels", {})
    labels = policy["spec"].get("namespaceSelector", {}).get("matchLabels", {})
    where = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "app.yaml").write_text(yaml.safe_dump_all([where, app]))
    printed = CliRunner().invoke(main, ["inject", "-p", str(folder / "policy.yaml"), str(folder / "app.yaml")])
    return next(each for each in yaml.safe_load_all(printed.stdout) if each["kind"] == "Deployment")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_server_takes_every_object_of_an_example(cluster: localcluster.Cluster, namespace: str, file: Path) -> None:
    text = yaml.safe_dump_all(documents(file, namespace))
    applied = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", input=text)
    assert applied.stdout.count("(server dry run)") == len(documents(file, namespace))
    assert "Warning" not in applied.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_pod_with_an_examples_sidecars_runs_where_restricted_is_enforced(
    api: pykube.HTTPClient, cluster: localcluster.Cluster, namespace: str, file: Path, tmp_path: Path
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    (policy,) = (each for each in documents(file, namespace) if each["kind"].endswith("SidecarPolicy"))
    template = injected(policy, namespace, tmp_path)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
    pod["metadata"] = template["metadata"] | {"name": "cart", "namespace": namespace}
    poll(partial(creatable, api, pod, namespace), until=lambda answer: "serviceaccount" not in answer)
    assert creatable(api, pod, namespace) == ""
    root = json.loads(json.dumps(pod))
    root["spec"]["initContainers"][0]["securityContext"] = {"privileged": True}
    assert "violates PodSecurity" in creatable(api, root, namespace)  # so it is enforced


def creatable(api: pykube.HTTPClient, pod: Manifest, namespace: str) -> str:
    """Why the server would not create *pod*; empty if it would."""
    options: dict[str, Any] = {"params": {"dryRun": "All", "fieldValidation": "Strict"}, "data": json.dumps(pod)}
    response = api.post(version="v1", namespace=namespace, url="pods", **options)
    return "" if response.ok else str(response.json()["message"])
