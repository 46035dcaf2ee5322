"""The leader's part of the webhooks' certificates: what it writes, and how often."""

from __future__ import annotations

from typing import Any, cast

from sidecarpolicy.admission.keeper import Keeper
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.port import NotFound, Resource
from sidecarpolicy.engine.resources import MUTATING_WEBHOOKS, SECRETS
from tests.core.cached import SYSTEM
from tests.simulation.loop import VirtualLoop

WEBHOOK = {"name": "deployments", "clientConfig": {"service": {"name": "webhook", "namespace": SYSTEM}}}


class Stripped:
    """A cluster in which something takes every caBundle away again as soon as it is written."""

    def __init__(self) -> None:
        self.data: Json = {}
        self.patches = 0

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The Secret as it was written, the configuration always as it was made."""
        if resource == SECRETS:
            return {"metadata": {"resourceVersion": "1"}, "data": self.data}
        if resource == MUTATING_WEBHOOKS:
            return {"metadata": {"name": name, "resourceVersion": "1"}, "webhooks": [WEBHOOK]}
        raise NotFound(verb="get", what=name, message="not found", status=404)

    async def merge_patch(self, resource: Resource, namespace: str, name: str, body: Json, **options: Any) -> Json:
        """Of the Secret."""
        self.data |= body["data"]
        return body

    async def json_patch(self, *request: Any, **options: Any) -> Json:
        """Of the configuration."""
        self.patches += 1
        return {}


class Leading:
    """Whoever leads for ever."""

    leading, term = True, 1

    async def wait_until_leading(self) -> None:
        """At once."""


def test_a_bundle_that_is_taken_away_again_is_written_more_and_more_rarely() -> None:
    """Never a patch war."""
    loop, api = VirtualLoop(), Stripped()
    loop.create_task(Keeper(cast("Any", api), cast("Any", Leading()), Cache(SYSTEM)).run())
    loop.run_to(600.0)
    loop.end()
    assert api.data, "it has made a certificate"
    assert 10 < api.patches < 100
