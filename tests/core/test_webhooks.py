"""The webhooks as the API server calls them: over HTTP, without a cluster."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecarpolicy import names
from sidecarpolicy.admission.application import MOST_BYTES, MUTATE_DEPLOYMENTS, VALIDATE_POLICIES, Webhooks
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import cached_policy
from sidecarpolicy.engine.metrics import Metrics
from sidecarpolicy.engine.resources import DEPLOYMENTS
from tests.core.objects import a_deployment, a_policy, a_sidecar
from tests.core.reviews import Cluster, a_request, template_of
from tests.simulation.patches import json_patched


class Api:
    """An API server that has our webhooks in its configuration."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.metrics = Metrics()
        self.ready = True
        self.webhooks = Webhooks(self.cluster.context, self.metrics, lambda: self.ready)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
        """Connect."""
        async with TestClient(TestServer(self.webhooks.application())) as found:
            yield found

    async def ask(self, path: str, request: Json) -> Json:
        """Send an AdmissionReview; return the response in the answer."""
        async with self.client() as client:
            answer = await client.post(path, json={"apiVersion": "admission.k8s.io/v1", "request": request})
            assert answer.status == 200
            body = await answer.json()
        assert (body["apiVersion"], body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        response: Json = body["response"]
        assert response["uid"] == request["uid"]
        return response

    def results(self) -> dict[str, float]:
        """How many reviews ended how."""
        return {
            sample.labels["result"]: sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "sidecarpolicy_webhook_reviews_total"
        }


@pytest.fixture
def api() -> Api:
    """With one policy."""
    found = Api()
    found.cluster.roll_out(a_policy())
    return found


async def test_a_new_deployment_gets_a_patch(api: Api) -> None:
    body = a_deployment()
    response = await api.ask(MUTATE_DEPLOYMENTS, a_request(body))
    assert (response["allowed"], response["patchType"]) == (True, "JSONPatch")
    patched = json_patched(body, json.loads(base64.b64decode(response["patch"])))
    assert [each["name"] for each in template_of(patched)["spec"]["initContainers"]] == ["proxy"]
    assert api.results() == {"patched": 1}


async def test_what_is_nothing_to_us_is_allowed_without_a_patch(api: Api) -> None:
    response = await api.ask(MUTATE_DEPLOYMENTS, a_request(a_deployment(labels={names.INJECT: "false"})))
    assert response == {"uid": response["uid"], "allowed": True}
    assert api.results() == {"unchanged": 1}


async def test_a_review_that_fails_inside_allows_the_object_and_is_counted_and_logged(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    response = await api.ask(MUTATE_DEPLOYMENTS, a_request(a_deployment()) | {"operation": "DELETE"})
    assert response == {"uid": response["uid"], "allowed": True}
    assert api.results() == {"failed": 1}
    assert "the review of DELETE shop/cart failed; it is allowed as it is" in caplog.text


async def test_before_everything_is_listed_objects_are_allowed_as_they_are(api: Api) -> None:
    api.ready = False
    assert "patch" not in await api.ask(MUTATE_DEPLOYMENTS, a_request(a_deployment()))
    assert api.results() == {"not_ready": 1}


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[]", b'{"request": {}}'])
async def test_what_is_no_review_is_a_bad_request(api: Api, body: bytes) -> None:
    async with api.client() as client:
        assert (await client.post(MUTATE_DEPLOYMENTS, data=body)).status == 400


async def test_an_unknown_path_is_not_allowed_but_not_found(api: Api) -> None:
    async with api.client() as client:
        assert (await client.post("/mutate/pods", json={"request": {"uid": "1"}})).status == 404
        assert (await client.get(MUTATE_DEPLOYMENTS)).status == 405


async def test_bodies_up_to_seven_mebibytes_are_taken(api: Api) -> None:
    request = a_request(a_deployment(annotations={"big": "x" * 6_900_000}))
    assert "patch" in await api.ask(MUTATE_DEPLOYMENTS, request)
    async with api.client() as client:
        assert (await client.post(MUTATE_DEPLOYMENTS, data=b"x" * (MOST_BYTES + 1))).status == 413


async def test_at_the_end_every_answer_closes_its_connection(api: Api) -> None:
    async with api.client() as client:
        review = {"request": a_request(a_deployment())}
        assert "Connection" not in (await client.post(MUTATE_DEPLOYMENTS, json=review)).headers
        api.webhooks.ending = True
        assert (await client.post(MUTATE_DEPLOYMENTS, json=review)).headers["Connection"] == "close"


# Policies


def about(policy: Json, old: Json | None = None) -> Json:
    """The request of a review of a policy."""
    return a_request(policy, old, kind={"kind": policy["kind"]})


async def test_a_policy_is_refused_with_the_words_of_its_status(api: Api) -> None:
    wrong = a_policy(sidecars=[a_sidecar(startAfter=["proxy"])])
    response = await api.ask(VALIDATE_POLICIES, about(wrong))
    assert response["allowed"] is False
    assert response["status"]["code"] == 422
    api.cluster.roll_out(a_policy())
    stored = {**wrong, "metadata": wrong["metadata"] | {"uid": "1", "resourceVersion": "1", "generation": 1}}
    assert response["status"]["message"] == cached_policy(stored).problems
    assert api.results() == {"refused": 1}


async def test_a_policy_that_is_wrong_already_may_be_changed_otherwise(api: Api) -> None:
    wrong = a_policy(sidecars=[a_sidecar(startAfter=["proxy"])])
    labelled = {**wrong, "metadata": wrong["metadata"] | {"labels": {"team": "a"}}}
    assert (await api.ask(VALIDATE_POLICIES, about(labelled, wrong)))["allowed"] is True


async def test_what_depends_on_other_objects_is_a_warning(api: Api) -> None:
    response = await api.ask(VALIDATE_POLICIES, about(a_policy("late", sidecars=[a_sidecar("x", startAfter=["y"])])))
    assert response["allowed"] is True
    assert response["warnings"] == [
        "spec.sidecars[0]: WaitUntilReady has nothing to wait for: the container has neither a startupProbe nor a "
        "readinessProbe",
        "spec.sidecars[0].startAfter[0]: names 'y', which no policy provides",
    ]


async def test_a_cycle_with_another_policy_is_a_warning(api: Api) -> None:
    api.cluster.put(DEPLOYMENTS, a_deployment())
    api.cluster.roll_out(a_policy("first", sidecars=[a_sidecar("a", startAfter=["b"])]))
    response = await api.ask(VALIDATE_POLICIES, about(a_policy("second", sidecars=[a_sidecar("b", startAfter=["a"])])))
    assert response["allowed"] is True
    assert "startAfter makes a cycle" in response["warnings"][-1]
