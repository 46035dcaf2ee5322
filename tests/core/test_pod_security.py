"""What is asked about Pod Security, and what an answer says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.adjustment import Adjustment
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.pod_security import (
    ENFORCE,
    NO_SETTINGS,
    RESTRICTED,
    RESTRICTED_ON_WINDOWS,
    a_pod,
    enforced,
    question,
    settings_of,
    words_of,
)
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Admitted
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.names import SkipReason
from tests.builders import a_deployment, a_sidecar
from tests.core.cached import Seen
from tests.core.objects import WEB, a_revision

CART = WorkloadId(namespace="shop", name="cart")
LOGS: Json = {"volumes": [{"name": "logs", "emptyDir": {}}]}
REVISION = a_revision(a_sidecar("proxy"), a_sidecar("logger"), **LOGS)
WORDS = 'violates PodSecurity "restricted:latest": privileged (container "proxy" must not set it)'


def asked_of(spec: Json | None = None) -> Json:
    """The spec of the Pod that is asked about for a template with that spec."""
    spec = a_pod(question(REVISION, "shop", settings_of(spec or {})), REVISION)["spec"]
    return dict(spec)


def test_the_pod_has_the_sidecars_and_a_placeholder_that_every_standard_allows() -> None:
    spec = asked_of()
    assert spec["initContainers"] == [each.container for each in REVISION.sidecars]
    assert spec["volumes"] == LOGS["volumes"]
    (application,) = spec["containers"]
    assert application["securityContext"] == RESTRICTED
    assert spec["automountServiceAccountToken"] is False


def test_what_a_template_says_for_all_containers_is_asked_with_it_and_nothing_else() -> None:
    settings = {"securityContext": {"runAsNonRoot": True}, "hostUsers": False, "runtimeClassName": "gvisor"}
    spec = asked_of(settings | {"hostNetwork": True, "serviceAccountName": "cart"})
    assert {key: spec.get(key) for key in settings} == settings
    assert "hostNetwork" not in spec
    assert "serviceAccountName" not in spec


def test_equal_settings_are_one_text_and_none_are_none() -> None:
    one, other = ({"securityContext": each} for each in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert settings_of(one) is settings_of(other)
    assert settings_of({"containers": [], "securityContext": {}}) == NO_SETTINGS


def test_for_windows_the_placeholder_says_nothing_that_windows_does_not_have() -> None:
    (application,) = asked_of({"os": {"name": "windows"}})["containers"]
    assert application["securityContext"] == RESTRICTED_ON_WINDOWS


def test_a_placeholder_takes_no_sidecars_name() -> None:
    revision = a_revision(a_sidecar("application"))
    spec = a_pod(question(revision, "shop", NO_SETTINGS), revision)["spec"]
    assert spec["containers"][0]["name"] != "application"


def test_a_sidecar_that_an_owner_leaves_out_is_another_question() -> None:
    left = replace(REVISION, sidecars=REVISION.sidecars[1:], adjustment=Adjustment(skipped=frozenset({"proxy"})))
    asked = question(left, "shop", NO_SETTINGS)
    assert asked != question(REVISION, "shop", NO_SETTINGS)
    assert [each["name"] for each in a_pod(asked, REVISION)["spec"]["initContainers"]] == ["logger"]


def test_where_an_owner_leaves_every_sidecar_out_nothing_is_asked() -> None:
    seen, context = seen_with(annotations={names.SKIP: "proxy"})
    assert judged(seen.cache.workloads[CART], context).questions == {}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f'pods "sidecarpolicy-dry-run-x7k2p" is forbidden: {WORDS}', WORDS),
        ('pods "x" is forbidden: exceeded quota: compute', ""),
        ('pods is forbidden: User "x" cannot create resource "pods" in API group ""', ""),
        ('admission webhook "w" does not support dry run', ""),
    ],
)
def test_only_what_pod_security_says_counts_and_no_made_up_name_is_in_it(message: str, words: str) -> None:
    assert words_of(message) == words


# What follows from an answer


def a_namespace(**labels: str) -> Json:
    """The namespace of the Deployment."""
    return {"metadata": {"name": "shop", "labels": labels}}


def seen_with(**deployment: Any) -> tuple[Seen, Context]:
    """A Deployment that a policy selects, in a namespace that enforces a standard."""
    seen = Seen()
    seen.put(NAMESPACES, a_namespace(**{ENFORCE: "restricted"}))
    seen.policy("web", a_sidecar("proxy"))
    seen.put(DEPLOYMENTS, a_deployment("cart", **deployment))
    return seen, Context(cache=seen.cache)


def answer(seen: Seen, context: Context, words: str) -> None:
    """Note what Pod Security says, as asking does."""
    (asked,) = judged(seen.cache.workloads[CART], context).questions.values()
    standard = enforced(seen.cache.namespace("shop").labels)
    known = Admitted(enforced=standard, words=words, until=0.0)
    context.memory.of_policy(WEB).admitted.setdefault(asked.revision, {})[asked] = known
    context.memory.of(CART).stale = True


def reason(seen: Seen, context: Context) -> SkipReason | None:
    """Why the Deployment is skipped."""
    skip = judged(seen.cache.workloads[CART], context).verdicts[WEB]
    return skip.reason if skip is not None else None


def test_what_was_never_asked_is_no_reason_and_a_yes_neither() -> None:
    seen, context = seen_with()
    assert reason(seen, context) is None
    answer(seen, context, "")
    assert reason(seen, context) is None


def test_a_no_skips_until_the_namespace_enforces_something_else() -> None:
    seen, context = seen_with()
    answer(seen, context, WORDS)
    assert reason(seen, context) is SkipReason.POD_SECURITY
    seen.put(NAMESPACES, a_namespace(**{ENFORCE: "restricted", "team": "shop"}))
    context.memory.of(CART).stale = True
    assert reason(seen, context) is SkipReason.POD_SECURITY
    seen.put(NAMESPACES, a_namespace(**{ENFORCE: "baseline"}))
    context.memory.of(CART).stale = True
    assert reason(seen, context) is None


def test_a_template_with_other_settings_is_another_question() -> None:
    seen, context = seen_with()
    answer(seen, context, WORDS)
    seen.put(DEPLOYMENTS, a_deployment("cart", pod={"securityContext": {"runAsNonRoot": True}}))
    context.memory.of(CART).stale = True
    assert reason(seen, context) is None
