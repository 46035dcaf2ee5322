"""What owners adjust of what is injected into their Deployments: free of budget, and only as the policy allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import NO_WISHES, adjusted, adjustment_on, invalid_skips, wishes_of
from sidecarpolicy.core.adjustment import Adjustment
from sidecarpolicy.core.claims import claims_of
from sidecarpolicy.core.injection import eject, inject, rebuilt
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import Entry, Record, parse, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.skips import invalid_marks
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.prepare import prepare
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.core.objects import WEB, decoded
from tests.core.reviews import Cluster, record_on, template_of
from tests.simulation.patches import json_patched

PROXY, LOGGER = a_sidecar("proxy", role="Proxy"), a_sidecar("logger", role="Logger")
TEMPLATE = a_deployment()["spec"]["template"]


def skipping(*sidecars: str, **policy: Any) -> Revision:
    """The revision of a policy as it is on a workload whose owner leaves *sidecars* out."""
    found = decoded(a_policy(**{"sidecars": [PROXY, LOGGER]} | policy))
    revision, wishes = offline(found), wishes_of({names.SKIP: ",".join(sidecars)}, {})
    return adjusted(revision, adjustment_on(revision, wishes, found, None))


def names_on(template: Json, listed: str = "initContainers") -> list[str]:
    """The names in a list of the Pod."""
    return [each["name"] for each in at(template, "spec").get(listed, [])]


# Single sidecars are left out.


def test_a_skipped_sidecar_is_left_out_and_its_record_says_so() -> None:
    template, record = inject(TEMPLATE, [skipping("logger")], Record())
    assert names_on(template) == ["proxy"]
    assert record.entries[WEB].adjustment == Adjustment(skipped=frozenset({"logger"}))
    assert parse(text_of(record)) == record
    assert eject(template, record) == TEMPLATE


def test_skipping_and_injecting_in_any_order_give_the_same() -> None:
    whole, record = inject(TEMPLATE, [skipping()], Record())
    assert inject(whole, [skipping("logger")], record) == inject(TEMPLATE, [skipping("logger")], Record())
    less, record = inject(TEMPLATE, [skipping("logger")], Record())
    assert inject(less, [skipping()], record) == inject(TEMPLATE, [skipping()], Record())


def mounting(name: str, *volumes: str) -> Json:
    """A sidecar that mounts *volumes*."""
    return a_sidecar(name, container={"volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in volumes]})


def test_a_volume_goes_with_the_last_sidecar_that_mounts_it() -> None:
    policy: Json = {
        "sidecars": [mounting("proxy", "shared"), mounting("logger", "shared", "own", "logs")],
        "volumes": [{"name": name, "emptyDir": {}} for name in ("shared", "own", "logs", "unused")],
        "application": {"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]},
    }
    template, _ = inject(TEMPLATE, [skipping("logger", **policy)], Record())
    assert names_on(template, "volumes") == ["logs", "shared", "unused"]


def test_names_of_other_policies_leave_no_trace_in_the_record() -> None:
    assert skipping("vault") == skipping()


def test_the_marks_of_the_deployment_and_of_its_template_add_up() -> None:
    assert wishes_of({names.SKIP: "a, b"}, {names.SKIP: "c"}).skipped == {"a", "b", "c"}
    assert wishes_of({names.PIN: "web@0123456789"}, {}) == NO_WISHES


def test_a_policy_that_forbids_it_is_not_adjusted() -> None:
    refusing = skipping("logger", optOut="Forbidden")
    assert replace(refusing, adjustment=refusing.adjustment.effect) == skipping()
    template, record = inject(TEMPLATE, [refusing], Record())
    assert template == inject(TEMPLATE, [skipping()], Record())[0]
    assert parse(text_of(record)) == record


def test_opting_out_is_allowed_or_forbidden_and_nothing_else() -> None:
    with pytest.raises(InvalidInput, match=r"spec\.optOut: must be one of Allowed, Forbidden, not 'Never'"):
        decoded(a_policy(optOut="Never"))


def test_a_policy_that_cannot_be_read_stays_as_it_is_recorded() -> None:
    revision, recorded = skipping(), Adjustment(skipped=frozenset({"logger"}))
    entry = Entry(revision=revision.name, adjustment=recorded)
    assert adjustment_on(revision, NO_WISHES, None, entry) == recorded
    assert adjustment_on(revision, wishes_of({names.SKIP: "proxy"}, {}), None, entry) == recorded


def test_what_is_no_sidecar_is_an_invalid_mark() -> None:
    assert list(invalid_skips("proxy, logger", {"proxy", "logger"})) == []
    assert list(invalid_skips("proxy,Logger", None)) == ["must be a comma list of names of sidecars, not 'Logger'"]
    (said,) = invalid_marks({}, {names.SKIP: "vault"}, sidecars={"proxy"})
    assert said.startswith(f"annotation {names.SKIP}: names 'vault', which is no sidecar")
    (said,) = invalid_marks({}, {}, {}, {names.SKIP: "vault"}, sidecars={"proxy"})
    assert said.startswith(f"annotation {names.SKIP} of the Pod template: names 'vault'")
    (said,) = invalid_marks({names.SKIP: "proxy"}, {}, sidecars={"proxy"})
    assert said.startswith(f"label {names.SKIP}: must be an annotation")


def test_a_long_list_of_wrong_names_is_not_told_whole() -> None:
    said = list(invalid_skips(",".join([*(f"V{number}" for number in range(9)), "V0", "x" * 5000]), {"proxy"}))
    assert len(said) == 4
    assert said[-1] == "and 7 more"
    assert list(invalid_skips("vault,vault", {"proxy"})) == list(invalid_skips("vault", {"proxy"}))
    (said_of_one,) = invalid_skips("X" * 5000, None)
    assert len(said_of_one) < 200


def test_a_lost_record_is_not_rebuilt_for_what_has_no_sidecar_there() -> None:
    revision = skipping("proxy", "logger", podMetadata={"labels": {"mesh": "on"}})
    owned: Json = {"f:spec": {"f:template": {"f:metadata": {"f:labels": {"f:mesh": {}}}}}}
    claims = claims_of({"managedFields": [{"manager": names.FIELD_MANAGER, "operation": "Update", "fieldsV1": owned}]})
    template = {**TEMPLATE, "metadata": {"labels": {"mesh": "on"}}}
    assert rebuilt(template, Record(), claims, [revision]) == Record()


# What operator and admission make of it.


@pytest.fixture
def cluster() -> Cluster:
    """With a policy of two sidecars, rolled out."""
    found = Cluster()
    found.roll_out(a_policy(sidecars=[PROXY, LOGGER]))
    return found


def injected(cluster: Cluster) -> Json:
    """A Deployment as admission lets it in."""
    return cluster.admit(a_deployment())


def with_marks(body: Json, labels: Json | None = None, **annotations: str) -> Json:
    """With labels, and annotations under our group, on the Deployment."""
    metadata = body["metadata"]
    added = {f"{names.GROUP}/{key}": value for key, value in annotations.items()}
    return {
        **body,
        "metadata": metadata | {"annotations": metadata["annotations"] | added, "labels": labels or {}},
    }


def after_step(cluster: Cluster, body: Json, revision: Revision) -> Json:
    """*body* after the step of a rollout that brings *revision*."""
    cluster.put(DEPLOYMENTS, body)
    (workload,) = cluster.cache.workloads.values()
    step = Step(workload=workload.id, revision=revision.name, why="its turn")
    return json_patched(cluster.as_cached(body), prepare(workload, {WEB: step}, cluster.context).operations)


def test_skipping_costs_no_step_of_a_rollout_nor_does_taking_it_back(cluster: Cluster) -> None:
    body = injected(cluster)
    assert cluster.writes(body) == []
    without = cluster.settled(with_marks(body, skip="logger"))
    assert names_on(template_of(without)) == ["proxy"]
    del without["metadata"]["annotations"][names.SKIP]
    assert names_on(template_of(cluster.settled(without))) == ["proxy", "logger"]


def test_admission_takes_a_skipped_sidecar_out_in_the_owners_own_write(cluster: Cluster) -> None:
    body = injected(cluster)
    cluster.put(DEPLOYMENTS, body)
    without = cluster.admit(with_marks(body, skip="logger"), cluster.as_cached(body))
    assert names_on(template_of(without)) == ["proxy"]
    assert cluster.writes(without) == []
    assert cluster.admit(with_marks(a_deployment(), skip="logger"))["spec"] == without["spec"]


def test_skipping_every_sidecar_is_opting_out_of_the_policy(cluster: Cluster) -> None:
    body = injected(cluster)
    template, record = cluster.operate(with_marks(body, skip="logger,proxy"))
    assert (template, record) == (template_of(a_deployment()), "")


def test_who_must_not_opt_out_is_told_so(cluster: Cluster) -> None:
    cluster.put(POLICIES[names.POLICY], a_policy(sidecars=[PROXY, LOGGER], optOut="Forbidden"))
    marked = with_marks(a_deployment(), labels={names.INJECT: "false"}, skip="logger")
    reviewed = cluster.review(marked)
    assert [each.partition(",")[0] for each in reviewed.warnings] == [
        f'the Deployment has the label {names.INJECT}: "false"',
        f"the annotation {names.SKIP} leaves out 'logger'",
    ]
    assert all("(optOut: Forbidden)" in each for each in reviewed.warnings)
    body = cluster.admit(marked)
    assert sorted(names_on(template_of(body))) == ["logger", "proxy"]
    assert cluster.writes(body) == []


def test_what_is_left_out_when_that_is_forbidden_comes_with_the_next_revision(cluster: Cluster) -> None:
    body = cluster.settled(with_marks(injected(cluster), skip="logger"))
    told = cluster.put(POLICIES[names.POLICY], a_policy(sidecars=[PROXY, LOGGER], optOut="Forbidden"))
    assert cluster.cache.workloads.keys() <= told
    assert cluster.writes(body) == []
    more = cluster.settled(with_marks(body, skip="logger,proxy"))
    assert template_of(more) == template_of(body)
    newer = a_sidecar("proxy", role="Proxy", container={"image": "example.test/proxy:2"})
    revision = cluster.roll_out(a_policy(sidecars=[newer, LOGGER], optOut="Forbidden"), number=2)
    assert cluster.writes(more) == []
    assert names_on(template_of(after_step(cluster, more, revision))) == ["proxy", "logger"]


def test_what_was_refused_waits_for_the_next_revision_when_it_is_allowed(cluster: Cluster) -> None:
    forbidding: Json = {"optOut": "Forbidden", "rollout": {"paused": True, "removal": "Manual"}}
    allowing = forbidding | {"optOut": "Allowed"}
    for labels, marks in (({names.INJECT: "false"}, {}), ({}, {"skip": "logger"}), ({}, {"skip": "proxy,logger"})):
        cluster.put(POLICIES[names.POLICY], a_policy(sidecars=[PROXY, LOGGER], **forbidding))
        body = cluster.settled(with_marks(cluster.admit(a_deployment()), labels=labels, **marks))
        assert sorted(names_on(template_of(body))) == ["logger", "proxy"]
        cluster.put(POLICIES[names.POLICY], a_policy(sidecars=[PROXY, LOGGER], **allowing))
        assert cluster.writes(body) == []
        assert "which SidecarPolicy shop/web allows by now" in str(
            cluster.review(body, cluster.as_cached(body)).warnings
        )
        unmarked = cluster.settled(with_marks(body) if labels else without_skip(body))
        assert "refused" not in record_on(unmarked)
        template, _ = cluster.operate(with_marks(unmarked, labels=labels, **marks))
        assert names_on(template) == ([] if labels or marks["skip"] == "proxy,logger" else ["proxy"])


def without_skip(body: Json) -> Json:
    """*body* without the annotation that leaves sidecars out."""
    annotations = {key: value for key, value in body["metadata"]["annotations"].items() if key != names.SKIP}
    return {**body, "metadata": body["metadata"] | {"annotations": annotations}}


def test_opting_out_that_was_refused_and_is_allowed_has_its_effect_after_the_next_revision(cluster: Cluster) -> None:
    cluster.put(POLICIES[names.POLICY], a_policy(sidecars=[PROXY, LOGGER], optOut="Forbidden"))
    body = cluster.settled(with_marks(cluster.admit(a_deployment()), labels={names.INJECT: "false"}))
    newer = a_sidecar("proxy", role="Proxy", container={"image": "example.test/proxy:2"})
    revision = cluster.roll_out(a_policy(sidecars=[newer, LOGGER]), number=2)
    assert cluster.writes(body) == []
    moved = after_step(cluster, body, revision)
    assert names_on(cluster.operate(moved)[0]) == []


def test_a_revision_without_the_others_removes_nothing_that_its_owner_has_not_skipped(cluster: Cluster) -> None:
    body = cluster.settled(with_marks(injected(cluster), skip="logger"))
    revision = cluster.roll_out(a_policy(sidecars=[LOGGER], rollout={"paused": True}), number=2)
    assert cluster.writes(body) == []
    moved = after_step(cluster, body, revision)
    assert names_on(template_of(moved)) == []
    assert cluster.operate(moved) == (template_of(a_deployment()), "")


def test_whoever_skips_what_is_not_there_in_the_template_is_told_in_the_answer(cluster: Cluster) -> None:
    body = a_deployment()
    template = template_of(body)
    metadata = template["metadata"] | {"annotations": {names.SKIP: "vault"}}
    marked = {**body, "spec": body["spec"] | {"template": {**template, "metadata": metadata}}}
    (said,) = cluster.review(marked).warnings
    assert said.startswith(f"annotation {names.SKIP} of the Pod template: names 'vault'")


def test_a_skip_is_no_repair_of_what_somebody_has_undone(cluster: Cluster) -> None:
    body = cluster.settled(with_marks(injected(cluster), skip="logger"))
    assert "undone" not in record_on(body)
    assert record_of(record_on(body)).entries[WEB].adjustment.skipped == {"logger"}
