"""The folders of tests/golden: a Deployment before, policies, and the Deployment after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import Wishes, adjusted, adjustment_on, ignored_overrides, wishes_of
from sidecarpolicy.core.argo_rollouts import KIND, driven_from
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, autoscaler_from
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import Composition, compose, eject
from sidecarpolicy.core.kinds.deployment import workload_from
from sidecarpolicy.core.node_groups import Nodes
from sidecarpolicy.core.nodes import node_from
from sidecarpolicy.core.opt_out import opts_out, without_effect
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.pull_secrets import account_on, secrets_in
from sidecarpolicy.core.record import parse, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.skips import Skip, Subject, judge, pins_among
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Namespace, Workload, namespace_from, record_of
from sidecarpolicy.names import OptOut, SkipReason
from tests.core.golden import GOLDEN, check

CASES = sorted(path.parent for path in GOLDEN.glob("*/before.yaml"))

# What a stored object has and a file has not.
STORED = {"uid": "uid", "resourceVersion": "1", "generation": 1}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder, read."""

    deployment: Json
    namespace: Namespace
    policies: tuple[Policy, ...]
    inspected: frozenset[PolicyId]
    autoscalers: tuple[Autoscaler, ...]
    driven_by: str
    pull_secrets: dict[str, tuple[str, ...]]
    nodes: Nodes
    refused: str

    @classmethod
    def read(cls, folder: Path) -> Case:
        """Read *folder*."""
        before = list(yaml.safe_load_all((folder / "before.yaml").read_text()))
        namespaces = [namespace_from(each) for each in before if each["kind"] == "Namespace"]
        inspected, refused = folder / "inspected.txt", folder / "refused.txt"
        nodes = Nodes()
        for each in before:
            if each["kind"] == "Node":
                nodes.put(each["metadata"]["name"], node_from(each))
        return cls(
            deployment=next(each for each in before if each["kind"] == "Deployment"),
            namespace=namespaces[0] if namespaces else Namespace(name="shop"),
            policies=tuple(decode_policy(each) for each in yaml.safe_load_all((folder / "policy.yaml").read_text())),
            inspected=frozenset(map(PolicyId.parse, inspected.read_text().split() if inspected.exists() else ())),
            autoscalers=tuple(
                found
                for each in before
                if each["kind"] == "HorizontalPodAutoscaler" and (found := autoscaler_from(each))
            ),
            driven_by=next(
                (driven.by for each in before if each["kind"] == KIND and (driven := driven_from(each))), ""
            ),
            pull_secrets={
                each["metadata"]["name"]: secrets_in(each) for each in before if each["kind"] == "ServiceAccount"
            },
            nodes=nodes,
            refused=refused.read_text().strip() if refused.exists() else "",
        )

    @property
    def workload(self) -> Workload:
        """The Deployment as the operator sees it."""
        return workload_from({**self.deployment, "metadata": {**STORED, **self.deployment["metadata"]}})

    @property
    def wishes(self) -> Wishes:
        """What its owner wants adjusted, and what it brings along."""
        workload = self.workload
        wishes = wishes_of(workload.annotations, workload.pod_annotations)
        account = account_on(workload.content.template, record_of(workload.record), self.pull_secrets.get)
        return replace(wishes, account=account, opts_out=bool(opts_out(workload, self.namespace)))


def selects(policy: Policy, case: Case) -> bool:
    """Whether *policy* selects the Deployment of *case*."""
    if policy.namespace_selector is not None:
        there = policy.namespace_selector.matches(case.namespace.labels)
    else:
        there = policy.id.namespace == case.workload.id.namespace
    return there and policy.selector.matches(case.workload.pod_labels)


def composed(case: Case) -> tuple[Composition, dict[PolicyId, Skip | None]]:
    """Judge and compose, as the operator does for a Deployment to which every policy is assigned."""
    workload = case.workload
    record = record_of(workload.record)
    wishes = case.wishes
    revisions = {
        policy.id: adjusted(revision, adjustment_on(revision, wishes, policy, record.entries.get(policy.id)))
        for policy, revision in ((each, offline(each)) for each in case.policies if selects(each, case))
    }
    subject = Subject(
        workload=workload,
        namespace=case.namespace,
        template=workload.content.template,
        record=record,
        owners=workload.content.claims.owners,
        pins=pins_among(workload.annotations, revisions.values()),
        inspected=case.inspected,
        autoscalers=case.autoscalers,
        driven_by=case.driven_by,
        emptied=workload.content.claims.emptied,
        binding=frozenset(policy.id for policy in case.policies if policy.opt_out is OptOut.FORBIDDEN),
        skipped=wishes.skipped,
        account=wishes.account,
        nodes=case.nodes.eligible(workload.node_demand),
        violations=dict.fromkeys(revisions, case.refused) if case.refused else {},
    )
    verdicts = judge(subject, revisions.values())
    assigned = {policy: revision for policy, revision in revisions.items() if verdicts[policy] is None}
    held = frozenset(policy for policy, skip in verdicts.items() if skip is not None and not skip.removes)
    return compose(workload.content.template, record, assigned, held=held), verdicts


def with_template(deployment: Json, template: Json, record: str) -> Json:
    """Return *deployment* with another template and record; in the order of its own fields."""
    metadata = {**deployment["metadata"]}
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != names.RECORD}
    annotations |= {names.RECORD: record} if record else {}
    metadata.pop("annotations", None)
    metadata |= {"annotations": annotations} if annotations else {}
    spec = {**deployment["spec"], "template": in_the_order_of(deployment["spec"]["template"], template)}
    return {**deployment, "metadata": metadata, "spec": spec}


def in_the_order_of(before: Any, after: Any) -> Any:
    """The template is kept as JSON with sorted keys; lay it out as the author did, new fields last."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*(key for key in before if key in after), *(key for key in after if key not in before)]
        return {key: in_the_order_of(before.get(key), after[key]) for key in keys}
    if isinstance(before, list) and isinstance(after, list):
        by_name = {each.get("name"): each for each in before if isinstance(each, dict)}
        return [
            in_the_order_of(by_name.get(each.get("name")), each) if isinstance(each, dict) else each for each in after
        ]
    return after


def lines(case: Case, composition: Composition, verdicts: dict[PolicyId, Skip | None]) -> str:
    """What verdict.txt says."""
    workload = case.workload
    said = [f"{policy.label}: {skip.reason}: {skip.message}" for policy, skip in verdicts.items() if skip]
    said += [f"warning: the application sets {item} itself; its value is kept" for item in composition.env_kept]
    said += [f"warning: its Pod template has another {item}; it is kept" for item in composition.metadata_kept]
    said += [
        f"warning: application.containers names {name!r}, which the application does not have"
        for name in composition.unknown_containers
    ]
    said += [
        f"warning: {sentence}"
        for policy in case.policies
        if policy.id in verdicts
        for sentence in ignored_overrides(
            offline(policy), case.wishes, policy, record_of(workload.record).entries.get(policy.id)
        )
    ]
    said += [
        f"warning: {sentence}"
        for policy in case.policies
        if policy.id in verdicts
        for sentence in without_effect(
            workload, case.namespace, case.wishes, policy, record_of(workload.record).entries.get(policy.id)
        )
    ]
    return "".join(f"{line}\n" for line in said)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def dumped(body: Json) -> str:
    """YAML as the golden files have it."""
    return yaml.dump(body, Dumper=_Plain, sort_keys=False, width=120)


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_what_is_injected(folder: Path) -> None:
    case = Case.read(folder)
    composition, verdicts = composed(case)
    after = with_template(case.deployment, composition.template, text_of(composition.record))
    check(folder / "after.yaml", dumped(after))
    check(folder / "verdict.txt", lines(case, composition, verdicts))


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_what_is_injected_can_be_injected_again_and_taken_out(folder: Path) -> None:
    case = Case.read(folder)
    after = yaml.safe_load((folder / "after.yaml").read_text())
    again, _ = composed(replace(case, deployment=after))
    assert again.template == after["spec"]["template"]
    record = after["metadata"].get("annotations", {}).get(names.RECORD)
    assert text_of(again.record) == (record or "")
    assert eject(after["spec"]["template"], parse(record)) == case.deployment["spec"]["template"]


@pytest.mark.parametrize(
    "folder", [each for each in CASES if each.name.startswith("skipped-")], ids=lambda path: path.name
)
def test_where_every_policy_is_skipped_nothing_changes(folder: Path) -> None:
    case = Case.read(folder)
    _, verdicts = composed(case)
    if all(verdicts.values()):
        assert yaml.safe_load((folder / "after.yaml").read_text()) == case.deployment
    assert (folder / "verdict.txt").exists()


def test_every_reason_for_skipping_has_a_case() -> None:
    said = "".join((folder / "verdict.txt").read_text() for folder in CASES if (folder / "verdict.txt").exists())
    assert {reason for reason in SkipReason if f": {reason}: " in said} == set(SkipReason)
