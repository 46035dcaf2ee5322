"""`sidecarpolicy inject` as a post-renderer of the real Helm 4, installed as deploy/helm-plugin says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from localcluster import binaries
from tests.packaging.rendering import ROOT, Manifest

CHART = {
    "Chart.yaml": "{apiVersion: v2, name: cart, version: 0.1.0}\n",
    "templates/cart.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector:
    matchLabels: {app: cart}
  template:
    metadata:
      labels: {app: cart, tier: web}
    spec:
      containers:
      - {name: cart, image: "example.test/cart:1"}
""",
    "templates/settings.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}\n",
}
POLICIES = ROOT / "deploy/examples/web.yaml"


class Helm:
    """Helm with a home of its own, in which the plugin is installed."""

    def __init__(self, home: Path) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        others = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "XDG_"))}
        self._home, self._environment = home, others | {"HOME": str(home), "PATH": path}
        self.run("plugin", "install", str(ROOT / "deploy/helm-plugin"))
        for name, text in CHART.items():
            (home / "cart" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / "cart" / name).write_text(text)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Helm."""
        program = str(binaries.require(["helm"])["helm"])
        return subprocess.run(
            [program, *arguments],
            cwd=self._home,
            env=self._environment,
            capture_output=True,
            text=True,
            check=check,
            stdin=subprocess.DEVNULL,
        )

    def rendered(self, *arguments: str) -> dict[str, Manifest]:
        """What the chart renders through the plugin, by kind."""
        passed = [f"--post-renderer-args={each}" for each in arguments]
        done = self.run("template", "cart", "./cart", "--namespace=shop", "--post-renderer=sidecarpolicy", *passed)
        return {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    """Helm with the plugin."""
    return Helm(tmp_path)


def test_what_a_chart_renders_gets_its_sidecars_on_the_way(helm: Helm) -> None:
    found = helm.rendered("-p", str(POLICIES), "-nshop")
    names = [each["name"] for each in found["Deployment"]["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["proxy", "logger", "monitor"]
    assert found["ConfigMap"]["data"] == {"a": "b"}


def test_helm_tells_a_post_renderer_no_namespace_so_it_has_to_be_named(helm: Helm) -> None:
    assert "initContainers" not in helm.rendered("-p", str(POLICIES))["Deployment"]["spec"]["template"]["spec"]


def test_a_policy_that_is_wrong_ends_helm_with_nothing_rendered(helm: Helm, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(POLICIES.read_text().replace("role: Proxy", "role: Prxoy"))
    wrong = ("--post-renderer=sidecarpolicy", "--post-renderer-args=-p", "--post-renderer-args=wrong.yaml")
    done = helm.run("template", "cart", "./cart", *wrong, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'plugin "sidecarpolicy" exited with error' in done.stderr  # Helm keeps the reason to itself
