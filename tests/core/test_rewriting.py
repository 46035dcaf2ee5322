"""What inject and eject do to the text of a manifest: nothing, but for what is theirs."""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sidecarpolicy.cli import batch
from sidecarpolicy.cli.main import main
from sidecarpolicy.cli.offline import ejected, injected
from sidecarpolicy.manifests import BadInput, parse
from tests.builders import Manifest, a_deployment, a_policy, a_sidecar
from tests.core.golden import GOLDEN
from tests.core.test_manifests import Writer

CASES = sorted(path.parent for path in GOLDEN.glob("*/before.yaml"))
GATED = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 15000}}}
POLICY = a_policy(
    selector={},
    sidecars=[
        a_sidecar("proxy", role="Proxy", container=GATED),
        a_sidecar("logger", role="Logger", container={"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}),
        a_sidecar("monitor", role="Monitor", container={"args": ["a: b", "two\nlines\n"]}),
    ],
    volumes=[{"name": "logs", "emptyDir": {}}],
    application={
        "initContainers": "All",
        "env": [{"name": "HTTP_PROXY", "value": "http://localhost:15001"}],
        "volumeMounts": [{"name": "logs", "mountPath": "/var/log/app"}],
    },
    podMetadata={"labels": {"mesh": "on"}, "annotations": {"prometheus.io/scrape": "true", "note": "a: b\n"}},
)
POLICIES = [parse(yaml.safe_dump(POLICY, sort_keys=False), "policy.yaml")]


def inject(text: str, source: str = "app.yaml") -> str:
    """What `inject` prints for *text*."""
    done, _ = batch.with_policies([parse(text, source)], POLICIES, injected, namespace="shop")
    return done.rewritten[0].text


def eject(text: str, source: str = "app.yaml") -> str:
    """What `eject` prints for *text*."""
    return batch.transform([parse(text, source)], ejected, namespace="shop").rewritten[0].text


def lines_lost(before: str, after: str) -> list[str]:
    """The lines of *before* that are not, in their order, among those of *after*."""
    old, new = before.splitlines(), after.splitlines()
    changes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [line for kind, start, end, _, _ in changes if kind != "equal" for line in old[start:end]]


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last_break", [True, False], ids=["whole", "cut"])
def test_ejecting_gives_back_the_bytes_of_a_golden_case(
    folder: Path, line_break: str, last_break: bool, tmp_path: Path
) -> None:
    before = (folder / "before.yaml").read_text()
    before = (before if last_break else before.removesuffix("\n")).replace("\n", line_break)
    path, out = tmp_path / "app.yaml", tmp_path / "out.yaml"
    path.write_bytes(before.encode())
    first = CliRunner().invoke(main, ["inject", "-p", str(folder / "policy.yaml"), str(path)], catch_exceptions=False)
    assert first.exit_code == 0, first.stderr
    assert lines_lost(before, first.stdout_bytes.decode()) == []
    out.write_bytes(first.stdout_bytes)
    again = CliRunner().invoke(main, ["inject", "-p", str(folder / "policy.yaml"), str(out)], catch_exceptions=False)
    assert again.stdout_bytes == first.stdout_bytes
    if "annotations:\n    sidecars.dev/injected" in before:
        return  # it has been injected already: what comes back is older
    back = CliRunner().invoke(main, ["eject", str(out)], catch_exceptions=False)
    assert back.stdout_bytes.decode() == before


# Deployments as people write them

ENV = st.one_of(
    st.lists(
        st.sampled_from([{"name": "A", "value": "x\ny\n"}, {"name": "B", "value": "1"}]), unique_by=repr, max_size=2
    ),
    st.none(),
)
EXTRA: dict[str, Any] = {
    "env": ENV,
    "volumeMounts": st.sampled_from([[], None, [{"name": "data", "mountPath": "/data"}]]),
    "args": st.sampled_from([["-c", "echo hi\n"], ["exit 0\n\n"], ["a", "b: c"]]),
    "tty": st.booleans(),
}


def containers(names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    one = st.fixed_dictionaries({"image": st.sampled_from(["a:1", "b"])}, optional=EXTRA)
    return st.lists(one, min_size=1, max_size=len(names)).map(
        lambda found: [{"name": name, **each} for name, each in zip(names, found, strict=False)]
    )


PODS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"containers": containers(("app", "web"))},
    optional={
        "initContainers": st.one_of(containers(("migrate", "wait")), st.sampled_from([[], None])),
        "volumes": st.sampled_from([[], None, [{"name": "data", "emptyDir": {}}]]),
        "restartPolicy": st.just("Always"),
    },
)


@st.composite
def deployments(draw: st.DrawFn) -> str:
    pod: dict[str, Any] = draw(PODS)
    body: Any = a_deployment(pod={key: pod[key] for key in draw(st.permutations(list(pod)))})
    written: list[list[Any]] = [[], [{}], [None], [{"a": "b"}]]
    if annotations := draw(st.sampled_from(written)):
        body["metadata"]["annotations"] = annotations[0]
    text = "\n".join(Writer(draw).lines({key: body[key] for key in draw(st.permutations(list(body)))})) + "\n"
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    if draw(st.booleans()):
        text = text.removesuffix("\n").removesuffix("\r")
    return text


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(deployments())
def test_ejecting_gives_back_the_bytes(text: str) -> None:
    try:
        after = inject(text)
    except BadInput as error:
        assert "line" in str(error)
        assume(False)
    assert after != text
    assert inject(after) == after
    assert eject(after) == text


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(PODS, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_ejecting_gives_back_the_bytes_of_json(pod: Manifest, indent: int | str | None, tight: bool) -> None:
    separators = (",", ":") if tight else None
    text = json.dumps(a_deployment(pod=pod), indent=indent, separators=separators)
    after = inject(text, "app.json")
    assert parse(after, "app.json").is_json
    assert inject(after, "app.json") == after
    assert eject(after, "app.json") == text


def test_what_the_owner_wrote_stays() -> None:
    text = """\
# The shop's cart.
apiVersion: apps/v1
kind: Deployment
metadata: {name: "cart", namespace: shop, annotations: {}}   # one line
spec:
    template:
        metadata: {labels: {tier: web}}
        spec:
            volumes: []  # none
            initContainers:
              # migrates
              - {name: 'migrate', image: m}
            containers:
              - name: app
                env:
                args:
                  - |
                    exec app

                  # the end
"""
    after = inject(text)
    assert lines_lost(text, after) == [
        'metadata: {name: "cart", namespace: shop, annotations: {}}   # one line',
        "        metadata: {labels: {tier: web}}",
        "            volumes: []  # none",
        "              - {name: 'migrate', image: m}",
        "                env:",
    ]
    assert "            volumes: # was [] before sidecars.dev  # none\n              - name: logs\n" in after
    assert eject(after) == text


@pytest.mark.parametrize(
    "line",
    ["  &n name: cart", "  labels: &l", "    &k app: cart", "  &spec\n  &r replicas: 2", "        - &c name: app"],
    ids=["key", "mapping", "key-of-labels", "mapping-and-key", "key-of-item"],
)
def test_an_anchor_belongs_to_the_key_on_its_line(line: str) -> None:
    text = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  namespace: shop
  labels:
    app: cart
spec:
  replicas: 2
  template:
    metadata:
      labels:
        tier: web
    spec:
      containers:
        - name: app
"""
    plain = re.sub(r"&\w+( |\n *|$)", "", line).rstrip()
    text = text.replace(plain, line, 1)
    assert "&" in text
    after = inject(text)
    assert lines_lost(text, after) == []
    assert "\n  annotations:\n    sidecars.dev/injected:" in after
    assert inject(after) == after
    assert eject(after) == text


def test_a_key_that_is_null_in_another_object_hides_no_problem_of_this_one() -> None:
    text = """\
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata:
    name: cart
    namespace:
    - &here shop
  spec: {template: {spec: {containers: [{name: app}]}}}
- apiVersion: v1
  kind: ConfigMap
  data:
    null: x
"""
    with pytest.raises(BadInput) as caught:
        inject(text)
    assert str(caught.value) == "app.yaml, line 8: metadata.namespace: must be a string, not a list"


def test_a_block_scalar_at_the_end_without_a_line_break_keeps_its_value() -> None:
    text = yaml.safe_dump(a_deployment(), sort_keys=False) + "---\nkind: ConfigMap\ndata:\n  a: |\n    no break"
    after = inject(text)
    assert after.endswith("    no break")
    assert eject(after) == text
