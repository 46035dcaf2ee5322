"""Who else says that an item is theirs, read from managedFields and kubectl's annotation as a cluster writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from sidecarpolicy import names
from sidecarpolicy.core.claims import CLIENT_SIDE_APPLY, LAST_APPLIED, NO_CLAIMS, claims_of, template_items
from sidecarpolicy.core.injection import compose, inject
from sidecarpolicy.core.kinds.deployment import workload_from
from sidecarpolicy.core.record import ItemKey, Record
from sidecarpolicy.core.tree import Json
from tests.builders import a_deployment, a_sidecar
from tests.core.objects import WEB, a_revision
from tests.core.strategies import templates

PROXY = ItemKey(list="initContainers", name="proxy")
LOGS = ItemKey(list="volumes", name="logs")
ENV = ItemKey(list="env", name="HTTP_PROXY", container="app")
MOUNT = ItemKey(list="volumeMounts", name="/var/log", container="app")


def owned(manager: str, operation: str, spec: Json, **entry: Any) -> Json:
    """One entry of managedFields over the Pod's spec."""
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": spec}}},
        **entry,
    }


# As a 1.37 API server records them.
OURS = owned(
    names.FIELD_MANAGER,
    "Update",
    {
        "f:initContainers": {
            ".": {},
            'k:{"name":"proxy"}': {
                ".": {},
                "f:image": {},
                "f:env": {".": {}, 'k:{"name":"MODE"}': {".": {}, "f:name": {}, "f:value": {}}},
                "f:name": {},
            },
        },
        "f:containers": {
            'k:{"name":"app"}': {
                "f:env": {'k:{"name":"HTTP_PROXY"}': {".": {}, "f:name": {}, "f:value": {}}},
                "f:volumeMounts": {'k:{"mountPath":"/var/log"}': {".": {}, "f:mountPath": {}, "f:name": {}}},
            }
        },
        "f:volumes": {".": {}, 'k:{"name":"logs"}': {".": {}, "f:emptyDir": {}, "f:name": {}}},
    },
)
CONTROLLER = {
    "manager": "kube-controller-manager",
    "operation": "Update",
    "subresource": "status",
    "fieldsV1": {"f:status": {"f:replicas": {}}},
}


def test_items_that_we_wrote_are_ours() -> None:
    claims = claims_of({"managedFields": [OURS, CONTROLLER]})
    inner = ItemKey(list="env", name="MODE", container="proxy")
    assert claims.ours == {PROXY, LOGS, ENV, MOUNT, inner}
    assert not claims.owners
    assert not claims.touched


def test_an_apply_manager_claims_what_it_owns() -> None:
    flux = owned(
        "kustomize-controller",
        "Apply",
        {"f:initContainers": {'k:{"name":"proxy"}': {".": {}, "f:image": {}, "f:name": {}}}},
    )
    claims = claims_of({"managedFields": [OURS, flux]})
    assert claims.owners == {PROXY: "kustomize-controller"}
    assert claims.touched == {PROXY: "kustomize-controller"}
    assert PROXY in claims.ours


def test_a_claim_that_is_dropped_without_any_other_change_is_seen() -> None:
    """The API server then moves neither the generation nor the manager's time."""
    proxy: Json = {'k:{"name":"proxy"}': {".": {}, "f:image": {}}}
    stamp = {"time": "2026-11-30T01:52:49Z"}
    body = a_deployment()
    body["metadata"] |= {"uid": "1", "resourceVersion": "1", "generation": 2}
    body["metadata"]["managedFields"] = [
        owned("robot", "Apply", {"f:initContainers": proxy, "f:dnsPolicy": {}}, **stamp)
    ]
    before = workload_from(body)
    dropped = {**body["metadata"], "managedFields": [owned("robot", "Apply", {"f:dnsPolicy": {}}, **stamp)]}
    after = workload_from({**body, "metadata": dropped}, before)
    assert (before.content.claims.owners, after.content.claims.owners) == ({PROXY: "robot"}, {})


def test_an_update_manager_touches_but_claims_nothing() -> None:
    edit = owned("kubectl-edit", "Update", {"f:initContainers": {'k:{"name":"proxy"}': {"f:image": {}}}})
    claims = claims_of({"managedFields": [OURS, edit]})
    assert claims.touched == {PROXY: "kubectl-edit"}
    assert not claims.owners


@pytest.mark.parametrize("manager", ["helm", "helm-controller", "Terraform"])
def test_a_tool_that_only_writes_what_is_declared_claims_what_it_writes(manager: str) -> None:
    chart = owned(manager, "Update", {"f:initContainers": {'k:{"name":"proxy"}': {"f:image": {}, "f:command": {}}}})
    assert claims_of({"managedFields": [OURS, chart]}).owners == {PROXY: manager}


def test_kubectls_annotation_declares_items_by_name() -> None:
    applied = {
        "spec": {
            "template": {
                "spec": {
                    "initContainers": [{"name": "proxy", "image": "mine"}],
                    "containers": [
                        {
                            "name": "app",
                            "env": [{"name": "HTTP_PROXY", "value": "mine"}],
                            "volumeMounts": [{"name": "data", "mountPath": "/var/log"}],
                        }
                    ],
                    "volumes": [{"name": "logs", "emptyDir": {}}],
                }
            }
        }
    }
    claims = claims_of({"annotations": {LAST_APPLIED: json.dumps(applied)}, "managedFields": [OURS]})
    assert claims.owners == dict.fromkeys([PROXY, LOGS, ENV, MOUNT], CLIENT_SIDE_APPLY)


def test_a_list_without_a_value_is_one_that_kubectl_empties() -> None:
    app: Json = {"name": "app", "env": None, "volumeMounts": [], "args": None}
    pod = {"initContainers": None, "volumes": [], "imagePullSecrets": None, "containers": [app]}
    text = json.dumps({"spec": {"template": {"metadata": {"labels": {}, "annotations": None}, "spec": pod}}})
    claims = claims_of({"annotations": {LAST_APPLIED: text}})
    assert claims.emptied == {("annotations", ""), ("initContainers", ""), ("imagePullSecrets", ""), ("env", "app")}
    mounts = json.dumps({"spec": {"template": {"spec": {"containers": [{"name": "app", "volumeMounts": None}]}}}})
    assert claims_of({"annotations": {LAST_APPLIED: mounts}}).emptied == {("volumeMounts", "app")}
    assert claims_of({}).emptied == frozenset()
    assert claims_of({"annotations": {LAST_APPLIED: '{"spec": null, "null"'}}).emptied == frozenset()


@pytest.mark.parametrize(
    "mangled",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        '{"spec": 1}',
        '{"spec": {"template": {"spec": {"initContainers": 1}}}}',
        '{"spec": {"template": {"spec": {"initContainers": ["proxy"]}}}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_a_mangled_annotation_declares_nothing(mangled: str) -> None:
    assert claims_of({"annotations": {LAST_APPLIED: mangled}}).owners == {}


def test_nothing_is_claimed_where_nothing_is_said() -> None:
    assert claims_of({}) == NO_CLAIMS
    assert claims_of({"managedFields": [{"manager": "x", "operation": "Apply"}]}) == NO_CLAIMS
    assert claims_of({"managedFields": None, "annotations": None}) == NO_CLAIMS


@given(templates())
def test_every_item_of_a_template_has_a_key_of_its_own(template: Json) -> None:
    spec, metadata = template.get("spec", {}), template.get("metadata", {})
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    listed = [
        *(spec.get(each, ()) for each in ("initContainers", "volumes", "imagePullSecrets")),
        *(container.get(each, ()) for container in containers for each in ("env", "volumeMounts")),
        *(metadata.get(each, ()) for each in ("labels", "annotations")),
    ]
    assert len(template_items(template)) == sum(map(len, listed))


def test_a_held_sidecar_that_its_owner_declares_too_stays_where_the_owner_has_it() -> None:
    """It is in another order than ours. Were it moved, every apply of its owner would be two rollouts."""
    revision = a_revision(a_sidecar("proxy", role="Proxy"))
    injected, record = inject(a_deployment()["spec"]["template"], [revision], Record())
    inits = [{"name": "migrate", "image": "migrate:1"}, *injected["spec"]["initContainers"]]
    template = {**injected, "spec": injected["spec"] | {"initContainers": inits}}
    applied = {LAST_APPLIED: json.dumps({"spec": {"template": template}})}

    def order(annotations: Json) -> list[str]:
        claims = claims_of({"annotations": annotations})
        held = frozenset({WEB})
        kept = compose(template, record, {}, held=held, known=lambda *_: revision, claims=claims).template
        return [each["name"] for each in kept["spec"]["initContainers"]]

    assert order({}) == ["proxy", "migrate"]
    assert order(applied) == ["migrate", "proxy"]
