"""`sidecarpolicy inject` as a post-renderer: of the real Helm 4 by deploy/helm-plugin, of the real Helm 3 as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.gitops.programs import program
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
    """Helm with a home of its own; *first* are the arguments that name the post-renderer."""

    def __init__(self, home: Path, program: Path, first: Sequence[str]) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        others = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "XDG_"))}
        self._home, self._environment = home, others | {"HOME": str(home), "PATH": path}
        self._program, self._first = program, first
        for name, text in CHART.items():
            (home / "cart" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / "cart" / name).write_text(text)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Helm."""
        return subprocess.run(
            [self._program, *arguments],
            cwd=self._home,
            env=self._environment,
            capture_output=True,
            text=True,
            check=check,
            stdin=subprocess.DEVNULL,
        )

    def rendered(self, *arguments: str) -> dict[str, Manifest]:
        """What the chart renders through the post-renderer, by kind."""
        done = self.template(*arguments)
        return {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}

    def template(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Render the chart through the post-renderer, with *arguments* for that."""
        passed = [f"--post-renderer-args={each}" for each in arguments]
        return self.run("template", "cart", "./cart", "--namespace=shop", *self._first, *passed, check=check)


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest, tmp_path: Path) -> Helm:
    """Helm 4 with the plugin, or Helm 3 with the program itself."""
    if request.param == "helm3":
        first = ("--post-renderer=sidecarpolicy", "--post-renderer-args=inject")
        return Helm(tmp_path, program("helm3"), first)
    found = Helm(tmp_path, program("helm"), ("--post-renderer=sidecarpolicy",))
    found.run("plugin", "install", str(ROOT / "deploy/helm-plugin"))
    return found


def test_what_a_chart_renders_gets_its_sidecars_on_the_way(helm: Helm) -> None:
    found = helm.rendered("-p", str(POLICIES), "-nshop")
    names = [each["name"] for each in found["Deployment"]["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["proxy", "logger", "monitor"]
    assert found["ConfigMap"]["data"] == {"a": "b"}


def test_helm_tells_a_post_renderer_no_namespace_so_it_has_to_be_named(helm: Helm) -> None:
    assert "initContainers" not in helm.rendered("-p", str(POLICIES))["Deployment"]["spec"]["template"]["spec"]


def test_a_policy_that_is_wrong_ends_helm_with_nothing_rendered(helm: Helm, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(POLICIES.read_text().replace("role: Proxy", "role: Prxoy"))
    done = helm.template("-p", "wrong.yaml", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    # Helm 4 keeps the reason to itself.
    assert 'plugin "sidecarpolicy" exited with error' in done.stderr or "must be one of" in done.stderr
