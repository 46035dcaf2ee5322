"""The chart, rendered by Helm: its values, its guards, and its objects beside those of kustomize."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import manifests
from localcluster import binaries
from tests.packaging.rendering import (
    CHART,
    ROOT,
    HelmFailed,
    Key,
    Manifest,
    by_key,
    helm,
    objects,
    snapshot,
    template,
    values_file,
)

EXPECTED = Path(__file__).parent / "expected"
SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
SWITCHED_ON = ("--set=restartOn.configMaps=true", "--set=restartOn.secrets=true")
# What Helm's objects say about Helm, and kustomize's need not.
HELMS = {
    "helm.sh/chart",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
}


@pytest.fixture(scope="module")
def kustomized() -> str:
    """`deploy/` as kustomize renders it: what `kubectl apply -k` and install.yaml hold."""
    return manifests.install(binaries.require(["kubectl"])["kubectl"])


def _without_helms_own(manifest: Manifest) -> Manifest:
    result = deepcopy(manifest)
    metadata = result["metadata"]
    metadata["labels"] = {
        key: value
        for key, value in metadata.get("labels", {}).items()
        if key not in HELMS and (result["kind"] != "CustomResourceDefinition")
    }
    metadata["annotations"] = {
        key: value for key, value in metadata.get("annotations", {}).items() if not key.startswith("helm.sh/")
    }
    return result


DRY_RUNS = ("ValidatingAdmissionPolicy", "", "sidecarpolicy-dry-runs")


def _operator_in(policy: Manifest) -> str:
    """Take the condition by which the rule about dry runs knows the operator, and return it."""
    (condition,) = policy["spec"].pop("matchConditions")
    return str(condition["expression"])


def _is_installed(manifest: Manifest) -> bool:
    # Helm makes no namespace, and its tests are no part of what is installed.
    hooked = "helm.sh/hook" in manifest["metadata"].get("annotations", {})
    return manifest["kind"] != "Namespace" and not hooked


def test_helm_and_kustomize_install_the_same_objects(kustomized: str) -> None:
    by_helm = by_key(_without_helms_own(each) for each in objects(template()) if _is_installed(each))
    by_kustomize = by_key(_without_helms_own(each) for each in objects(kustomized) if _is_installed(each))
    assert by_helm.keys() == by_kustomize.keys()
    # Helm knows the namespace; kustomize may be told another one, and cannot write it into CEL.
    assert _operator_in(by_helm[DRY_RUNS]) != _operator_in(by_kustomize[DRY_RUNS])
    for key, manifest in by_kustomize.items():
        assert by_helm[key] == manifest, key


@pytest.mark.parametrize(
    "moved", ["namespace: platform", "namePrefix: team-", "{namespace: platform, namePrefix: a-b-}"]
)
def test_the_rule_about_dry_runs_follows_the_operator_wherever_kustomize_puts_it(moved: str, tmp_path: Path) -> None:
    access = os.path.relpath(ROOT / "deploy/base/access", tmp_path.resolve())
    kustomization = {**yaml.safe_load(moved), "resources": [access]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kubectl = str(binaries.require(["kubectl"])["kubectl"])
    command = [kubectl, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path)]
    rendered = by_key(objects(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    suffix = DRY_RUNS[2]
    (binding,) = (each for key, each in rendered.items() if key[0] == "ClusterRoleBinding" and key[2].endswith(suffix))
    (rule,) = (each for key, each in rendered.items() if key[0] == DRY_RUNS[0] and key[2].endswith(suffix))
    (bound,) = (each for key, each in rendered.items() if key[0] == DRY_RUNS[0] + "Binding" and key[2].endswith(suffix))
    assert bound["spec"]["policyName"] == rule["metadata"]["name"]
    (subject,) = binding["subjects"]
    condition = re.fullmatch(r"request\.userInfo\.username\.matches\('(.*)'\)", _operator_in(rule))
    assert condition is not None
    assert re.search(condition[1], f"system:serviceaccount:{subject['namespace']}:{subject['name']}")
    for other in ("system:serviceaccount:platform:default", "system:serviceaccount:platform:sidecarpolicy-webhook"):
        assert not re.search(condition[1], other)


def test_helm_and_kustomize_let_the_operator_read_the_same_where_that_is_switched_on(tmp_path: Path) -> None:
    components = [ROOT / "deploy/base/restart-on" / each for each in ("config-maps", "secrets")]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "components": [os.path.relpath(each, tmp_path.resolve()) for each in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    kubectl = binaries.require(["kubectl"])["kubectl"]
    made = subprocess.run([str(kubectl), "kustomize", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    on, off = (by_key(objects(template(*values))) for values in (SWITCHED_ON, ()))
    added = by_key(_without_helms_own(each) for key, each in on.items() if key not in off)
    assert len(added) == 4
    assert added == by_key(_without_helms_own(each) for each in objects(made))


NAMESPACED = ROOT / "deploy/namespaced"
WORKLOADS = ("Role", "sidecarpolicy-system", "sidecarpolicy-workloads")
IN_NO_NAMESPACE = re.compile(r"Cluster.*|.*WebhookConfiguration|ValidatingAdmissionPolicy.*|Namespace|Custom.*")


def _built(folder: Path, **kustomization: Any) -> Mapping[Key, Manifest]:
    """What kustomize makes of a kustomization of a user's in *folder*; paths are below deploy/namespaced."""
    for key in kustomization.keys() & {"resources", "components"}:
        paths = [NAMESPACED / each for each in kustomization[key]]
        kustomization[key] = [os.path.relpath(each, folder.resolve()) for each in paths]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kubectl = str(binaries.require(["kubectl"])["kubectl"])
    return by_key(objects(subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True).stdout))


def test_helm_and_kustomize_install_the_same_for_one_namespace(tmp_path: Path) -> None:
    components = ["restart-on/config-maps", "restart-on/secrets"]
    by_kustomize = _built(tmp_path, namespace="shop", resources=["."], components=components)
    rendered = objects(template("--set=watchNamespaces={shop}", *SWITCHED_ON, namespace="shop"))
    by_helm = by_key(_without_helms_own(each) for each in rendered if _is_installed(each))
    assert by_helm.keys() == by_kustomize.keys()
    # Helm knows the namespace; kustomize is told it by somebody else.
    operator = by_kustomize["Deployment", "shop", "sidecarpolicy"]["spec"]["template"]["spec"]["containers"][0]
    assert operator["args"] == ["run", "--watch-namespace=$(POD_NAMESPACE)"]
    operator["args"] = ["run", "--watch-namespace=shop"]
    for key, manifest in by_kustomize.items():
        assert by_helm[key] == _without_helms_own(manifest), key


@pytest.mark.parametrize("also", [(), ("--set=crds.keep=false", "--set=webhook.failurePolicy=Fail"), SWITCHED_ON])
def test_for_some_namespaces_nothing_is_installed_that_is_in_none_and_nothing_elsewhere(also: tuple[str, ...]) -> None:
    rendered = by_key(objects(template("--set=watchNamespaces={shop,bank}", *also, namespace="ops")))
    assert [key for key in rendered if IN_NO_NAMESPACE.fullmatch(key[0])] == []
    assert {namespace for kind, namespace, _ in rendered if "Role" in kind} == {"shop", "bank", "ops"}
    assert {namespace for kind, namespace, _ in rendered if "Role" not in kind} == {"ops"}
    subjects = {str(each["subjects"]) for key, each in rendered.items() if key[0] == "RoleBinding"}
    assert subjects == {str([{"kind": "ServiceAccount", "name": "sidecarpolicy", "namespace": "ops"}])}
    operator = rendered["Deployment", "ops", "sidecarpolicy"]
    assert "sidecars.dev/inject" not in operator["metadata"]["labels"], "it does not serve its own namespace"


def test_an_old_cluster_is_not_refused_for_want_of_what_is_not_installed() -> None:
    assert objects(template("--set=watchNamespaces={shop}", kubernetes="1.29.4"))


def test_a_namespace_of_no_name_is_refused() -> None:
    with pytest.raises(HelmFailed, match=r"values don't meet the specifications of the schema"):
        template("--set=watchNamespaces={Shop}")


def test_what_an_operator_needs_in_a_namespace_is_part_of_what_it_needs_in_all(kustomized: str) -> None:
    workloads = _rights(by_key(objects((NAMESPACED / "access.yaml").read_text()))[WORKLOADS])
    everywhere = _rights(by_key(objects(kustomized))["ClusterRole", "", "sidecarpolicy"])
    assert workloads < everywhere
    others = {resource.partition("/")[0] for _, resource, _ in everywhere - workloads}
    assert others == {"namespaces", "nodes", "clustersidecarpolicies"}


def test_a_cluster_administrator_installs_no_operator_and_lets_admins_grant_its_role(tmp_path: Path) -> None:
    found = _built(tmp_path, resources=["cluster"])
    assert {f"{kind} {name}" for kind, _, name in found} == {
        "CustomResourceDefinition clustersidecarpolicies.sidecars.dev",
        "CustomResourceDefinition sidecarpolicies.sidecars.dev",
        *(f"ClusterRole sidecarpolicy-{each}" for each in ("view", "edit", "namespaced-admin")),
        *(f"ValidatingAdmissionPolicy sidecarpolicy-{each}" for each in ("authors", "deletions")),
        *(f"ValidatingAdmissionPolicyBinding sidecarpolicy-{each}" for each in ("authors", "deletions")),
    }
    admins = found["ClusterRole", "", "sidecarpolicy-namespaced-admin"]
    aggregated = [key for key in admins["metadata"]["labels"] if "aggregate" in key]
    assert aggregated == ["rbac.authorization.k8s.io/aggregate-to-admin"]
    assert _rights(admins) == _rights(by_key(objects((NAMESPACED / "access.yaml").read_text()))[WORKLOADS])


def _rights(role: Manifest) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_without_the_switch_nobody_may_read_config_maps_and_secrets_of_workloads(kustomized: str) -> None:
    roles = [each for each in objects(kustomized) if each["kind"] == "ClusterRole"]
    readable = {resource for role in roles for rule in role.get("rules", ()) for resource in rule.get("resources", ())}
    assert readable and not readable & {"configmaps", "secrets", "*"}


def test_kustomizes_kinds_are_those_of_the_repository(kustomized: str) -> None:
    ours = by_key(document for path in (ROOT / "crds").glob("*.yaml") for document in objects(path.read_text()))
    rendered = by_key(objects(kustomized))
    assert {key: rendered[key] for key in ours} == ours


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_values_renders_to_what_is_expected(name: str) -> None:
    made = snapshot(name)
    path = EXPECTED / f"{name}.yaml"
    assert made == path.read_text(), f"if that is meant: python -m tests.packaging.write_expected, and read {path.name}"


def test_helm_finds_nothing_to_improve() -> None:
    for name in SETS:
        said = helm("lint", "--strict", str(CHART), values_file(name))
        assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize(
    "argument", ["--set=replica=3", "--set=image.tga=1", "--set=metrics.rules.enable=true", "--set=crds.keep=maybe"]
)
def test_a_value_that_is_misspelt_or_of_the_wrong_kind_is_refused(argument: str) -> None:
    with pytest.raises(HelmFailed, match=r"values don't meet the specifications of the schema"):
        template(argument)


def _objects_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" in schema:
        yield path, schema
        for name, each in schema["properties"].items():
            yield from _objects_of(each, f"{path}.{name}".strip("."))


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, each in _objects_of(schema):
        assert each["additionalProperties"] is False, path
        there = values
        for part in filter(None, path.split(".")):
            there = there[part]
        # `global` is Helm's own; Kubernetes' own types have more fields than there are defaults.
        if path.rpartition(".")[2] not in {"resources", "objectSelector"}:
            assert set(each["properties"]) - {"global"} == set(there), path


def test_an_old_cluster_is_refused_with_a_sentence() -> None:
    with pytest.raises(HelmFailed, match=r"kubeVersion: >=1\.29\.0-0 which is incompatible with Kubernetes v1\.28"):
        template(kubernetes="1.28.9")
    with pytest.raises(
        HelmFailed, match=r"v1\.29\.4, which has no ValidatingAdmissionPolicy .* authorsPolicy\.enabled"
    ):
        template(kubernetes="1.29.4")
    assert objects(template("--set=authorsPolicy.enabled=false", kubernetes="1.29.4"))


def test_kube_system_is_refused_with_a_sentence() -> None:
    with pytest.raises(HelmFailed, match=r"a namespace of its own, such as sidecarpolicy-system"):
        template(namespace="kube-system")


def test_where_others_grant_rights_the_rule_about_dry_runs_is_there_all_the_same() -> None:
    kinds = {key[0] for key in by_key(objects(template("--set=rbac.create=false"))) if key[2].endswith("-dry-runs")}
    assert kinds == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    asks_nobody = by_key(objects(template("--set=podSecurity.ask=false")))
    assert not any(key[2].endswith("-dry-runs") for key in asks_nobody)


def test_a_servicemonitor_without_its_service_is_refused_with_a_sentence() -> None:
    with pytest.raises(HelmFailed, match=r"needs metrics\.service"):
        template("--set=metrics.serviceMonitor.enabled=true", "--set=metrics.service=false")


def test_no_manifest_holds_data_of_a_secret_or_a_certificate(kustomized: str) -> None:
    for text in (kustomized, *(template(values_file(name)) for name in SETS)):
        assert not re.search(r"^\s*caBundle:", text, re.MULTILINE)
        assert not [each for each in objects(text) if each["kind"] == "Secret" and {"data", "stringData"} & each.keys()]


def test_the_kinds_stay_at_uninstall_unless_that_is_not_wanted() -> None:
    def policies_of(*arguments: str) -> list[str]:
        return [
            each["metadata"].get("annotations", {}).get("helm.sh/resource-policy", "")
            for each in objects(template(*arguments))
            if each["kind"] == "CustomResourceDefinition"
        ]

    assert policies_of() == ["keep", "keep"]
    assert policies_of("--set=crds.keep=false") == ["", ""]
    assert policies_of("--set=crds.enabled=false") == []


def _before_uninstall(*arguments: str) -> list[Manifest]:
    """What Helm runs before it takes anything away, in its order."""

    def annotations(each: Manifest) -> dict[str, str]:
        return each["metadata"].get("annotations") or {}

    hooks = [each for each in objects(template(*arguments)) if annotations(each).get("helm.sh/hook") == "pre-delete"]
    return sorted(hooks, key=lambda each: int(annotations(each)["helm.sh/hook-weight"]))


def test_before_an_uninstall_a_job_that_may_do_nothing_else_deletes_the_webhook_configurations() -> None:
    account, role, binding, job = _before_uninstall()
    assert [each["kind"] for each in (account, role, binding, job)] == [
        *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job")
    ]
    rendered = by_key(objects(template()))
    configured = {name for kind, _, name in rendered if kind.endswith("WebhookConfiguration")}
    (rule,) = role["rules"]
    assert (rule["verbs"], set(rule["resourceNames"])) == (["delete"], configured)
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["containers"][0]["args"] == [(CHART / "files/before_uninstall.py").read_text()]


def test_nothing_runs_before_an_uninstall_where_there_is_no_webhook_or_it_is_not_wanted() -> None:
    assert _before_uninstall("--set=webhook.enabled=false") == []
    assert _before_uninstall("--set=webhook.removedFirst=false") == []


def test_the_chart_the_operator_and_the_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    said = subprocess.run(
        [str(Path(sys.executable).with_name("sidecarpolicy")), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[-1] == chart["version"] == chart["appVersion"]


def test_notes_say_what_is_left_and_warn_where_authors_are_not_checked() -> None:
    # `helm template` prints no notes; a dry run of an install does.
    said = helm("install", "--dry-run=client", "x", str(CHART), "--namespace=n", "--set=authorsPolicy.enabled=false")
    notes = said.partition("NOTES:")[2]
    assert "WARNING: authorsPolicy.enabled is false" in notes
    assert "kubectl delete crd sidecarpolicies.sidecars.dev clustersidecarpolicies.sidecars.dev" in notes


def test_what_is_made_from_other_manifests_is_current() -> None:
    for path, text in manifests.committed().items():
        assert path.read_text() == text, f"{path} is not current: make manifests"
