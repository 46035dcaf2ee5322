"""Secrets to pull the sidecars' images with, and what a ServiceAccount would have given; the laws hold for them too."""

from __future__ import annotations

from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import Wishes, adjustment_on
from sidecarpolicy.core.adjustment import Account, Adjustment
from sidecarpolicy.core.injection import eject, inject
from sidecarpolicy.core.pull_secrets import account_on, secrets_in
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.record import Entry, Record, parse
from sidecarpolicy.core.rendering import canonical_request, offline
from sidecarpolicy.core.revision import from_controller_revision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.acceptance import in_the_authors_words
from sidecarpolicy.engine.prepare import NO_STEPS, prepare, warn
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES, SERVICE_ACCOUNTS
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.names import SkipReason, WarningReason
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.core.cached import a_stored_revision
from tests.core.objects import WEB, a_revision, decoded
from tests.core.reviews import Cluster, record_on, template_of

VENDOR = [{"name": "vendor"}]


def an_account(name: str = "default", *secrets: str) -> Json:
    """A ServiceAccount with these pull secrets."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": "shop"},
        "imagePullSecrets": [{"name": each} for each in secrets],
    }


def a_template(*secrets: str, **pod: Any) -> Json:
    """A Pod template with these pull secrets."""
    given = {"imagePullSecrets": [{"name": each} for each in secrets]} if secrets else {}
    app = {"name": "app", "image": "app"}
    template: Json = a_deployment(pod={"containers": [app]} | given | pod)["spec"]["template"]
    return template


def pulled(body: Json) -> list[str]:
    """The pull secrets of a Deployment's Pods."""
    return [each["name"] for each in template_of(body)["spec"].get("imagePullSecrets", [])]


def test_they_come_where_they_are_not_and_go_without_a_trace() -> None:
    revision = a_revision(imagePullSecrets=[*VENDOR, {"name": "registry"}])
    for own in ([], ["registry"], ["own", "vendor"]):
        template = a_template(*own)
        injected, record = inject(template, [revision], Record())
        found = [each["name"] for each in injected["spec"]["imagePullSecrets"]]
        assert found == [*own, *(each for each in ("registry", "vendor") if each not in own)]
        assert eject(injected, record) == template


def test_whose_pull_secrets_count() -> None:
    secrets = {"default": ("a",), "cart": ()}.get
    nothing = Record()
    assert account_on(a_template(), nothing, secrets) == Account(name="default", secrets=("a",))
    assert account_on(a_template(serviceAccountName="cart"), nothing, secrets) == Account(name="cart", secrets=())
    assert account_on(a_template(serviceAccount="cart"), nothing, secrets) == Account(name="cart", secrets=())
    assert account_on(a_template(serviceAccountName="x"), nothing, secrets) == Account(name="x", secrets=None)
    assert account_on(a_template("own"), nothing, secrets) is None
    assert account_on(a_template(imagePullSecrets=[{}]), nothing, secrets) is None  # it is an entry all the same
    assert secrets_in({"imagePullSecrets": [{}, {"name": "a"}]}) == ("a",)


@pytest.fixture
def cluster() -> Cluster:
    """With a policy that has a pull secret, and the ServiceAccount of the namespace."""
    found = Cluster()
    found.roll_out(a_policy(imagePullSecrets=VENDOR))
    found.put(SERVICE_ACCOUNTS, an_account("default", "mirror"))
    return found


def test_those_of_the_service_account_stay_in_effect(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    assert pulled(body) == ["mirror", "vendor"]
    assert cluster.writes(body) == []
    assert eject(template_of(body), parse(record_on(body))) == template_of(a_deployment())


def with_pod(body: Json, **fields: Any) -> Json:
    """*body* with other fields of the Pod's spec."""
    template = template_of(body)
    return {**body, "spec": body["spec"] | {"template": {**template, "spec": template["spec"] | fields}}}


def settled(cluster: Cluster, body: Json) -> Json:
    """*body* after what the operator writes on it without any step, and then writes no more."""
    template, record = cluster.operate(body)
    annotations = body["metadata"]["annotations"] | {names.RECORD: record}
    after = {
        **body,
        "metadata": body["metadata"] | {"annotations": annotations},
        "spec": body["spec"] | {"template": template},
    }
    assert cluster.writes(after) == []
    return after


def test_they_go_when_the_owner_has_some_and_come_when_they_have_none(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    with_own = settled(cluster, with_pod(body, imagePullSecrets=[{"name": "own"}, {"name": "mirror"}, *VENDOR]))
    assert pulled(with_own) == ["own", "vendor"]
    without = settled(cluster, with_pod(with_own, imagePullSecrets=VENDOR))
    assert sorted(pulled(without)) == ["mirror", "vendor"]


def test_another_service_account_of_the_owners_brings_its_own(cluster: Cluster) -> None:
    cluster.put(SERVICE_ACCOUNTS, an_account("cart", "other"))
    body = settled(cluster, with_pod(cluster.admit(a_deployment()), serviceAccountName="cart"))
    assert sorted(pulled(body)) == ["other", "vendor"]


def test_an_edit_of_a_service_account_restarts_nothing_until_the_next_revision(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    cluster.operate(body)
    told = cluster.put(SERVICE_ACCOUNTS, an_account("default", "newer"))
    assert cluster.cache.workloads.keys() <= told
    assert cluster.writes(body) == []
    cluster.forget(SERVICE_ACCOUNTS, "shop", "default")
    assert cluster.writes(body) == []


def test_where_it_cannot_be_read_nothing_is_changed(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    cluster.forget(SERVICE_ACCOUNTS, "shop", "default")
    assert cluster.admit(a_deployment()) == a_deployment()
    (warning,) = cluster.review(a_deployment()).warnings
    assert warning.startswith("SidecarPolicy shop/web skips this Deployment (PullSecretsUnreadable)")
    cluster.roll_out(a_policy(sidecars=[a_sidecar("other")], imagePullSecrets=VENDOR), number=2)
    assert cluster.writes(body) == []
    (workload,) = cluster.cache.workloads.values()
    skip = judged(workload, cluster.context).verdicts[WEB]
    assert skip is not None
    assert (skip.reason, skip.removes) == (SkipReason.PULL_SECRETS_UNREADABLE, False)
    assert "ServiceAccount 'default'" in skip.message
    assert pulled(cluster.admit(with_pod(a_deployment(), imagePullSecrets=[{"name": "own"}]))) == ["own", "vendor"]


def test_while_an_account_cannot_be_read_its_secrets_are_those_that_were_recorded() -> None:
    found = decoded(a_policy(imagePullSecrets=VENDOR))
    revision, recorded = offline(found), Adjustment(account=Account(name="default", secrets=("mirror",)))
    entry = Entry(revision="web-0000000000", adjustment=recorded)
    for name, expected in (("default", recorded.account), ("cart", None)):
        wishes = Wishes(account=Account(name=name, secrets=None))
        assert adjustment_on(revision, wishes, found, entry).account == expected


def test_it_is_told_where_an_owner_drops_their_own_while_the_account_cannot_be_read(cluster: Cluster) -> None:
    body = cluster.admit(with_pod(a_deployment(), imagePullSecrets=[{"name": "own"}]))
    cluster.forget(SERVICE_ACCOUNTS, "shop", "default")
    after = settled(cluster, with_pod(body, imagePullSecrets=VENDOR))
    cluster.put(DEPLOYMENTS, after)
    (workload,), context = cluster.cache.workloads.values(), cluster.context
    warn(prepare(workload, NO_STEPS, context), workload, context)
    (told,) = context.memory.of_policy(WEB).warned[workload.id]
    assert told.reason is WarningReason.PULL_SECRETS_HIDDEN
    assert "ServiceAccount 'default'" in told.message


def test_an_account_concerns_only_those_that_get_pull_secrets(cluster: Cluster) -> None:
    assert cluster.cache.accounts_needed.is_set()
    plain = Cluster()
    plain.roll_out(a_policy())
    plain.put(DEPLOYMENTS, a_deployment())
    assert not plain.cache.accounts_needed.is_set()
    assert not plain.cache.workloads.keys() & plain.put(SERVICE_ACCOUNTS, an_account("default", "mirror"))


def test_a_policy_without_any_asks_for_no_service_account() -> None:
    cluster = Cluster()
    cluster.roll_out(a_policy())
    assert "imagePullSecrets" not in str(cluster.admit(a_deployment()))


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ([{"name": "A"}], "spec.imagePullSecrets[0].name: must be the name of a Secret, not 'A'"),
        ([{"name": "a"}, {"name": "a"}], "spec.imagePullSecrets[1].name: must not appear twice: 'a'"),
        ([{"name": "a", "key": "b"}], "spec.imagePullSecrets[0].key: must be one of name"),
        ([{"name": f"a{number}"} for number in range(17)], "must hold at most 16 secrets, not 17"),
        ("vendor", "spec.imagePullSecrets: must be a list, not a string"),
    ],
)
def test_what_names_no_secret_is_refused(secrets: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(a_policy(imagePullSecrets=secrets))
    assert said in str(refused.value)


def test_they_are_stored_with_the_revision_and_only_where_there_are_any() -> None:
    body, revision = a_stored_revision(a_policy(imagePullSecrets=VENDOR))
    assert from_controller_revision(body).revision == revision
    assert revision.pull_secrets == ("vendor",)
    assert "imagePullSecrets" not in a_stored_revision(a_policy())[0]["data"]


def test_the_api_server_is_asked_about_them() -> None:
    policy = decoded(a_policy(imagePullSecrets=VENDOR))
    assert canonical_request(policy, "shop")["template"]["spec"]["imagePullSecrets"] == VENDOR
    said = 'PodTemplate "x" is invalid: template.spec.imagePullSecrets[0].name: Required value'
    assert in_the_authors_words(said, policy) == "spec.imagePullSecrets[0].name: Required value"


def test_a_policy_that_cannot_be_read_changes_none_of_them(cluster: Cluster) -> None:
    body = cluster.admit(a_deployment())
    cluster.put(POLICIES[names.POLICY], a_policy(selector={"matchLabels": 1}))
    cluster.put(SERVICE_ACCOUNTS, an_account("default", "newer"))
    assert cluster.writes(body) == []
