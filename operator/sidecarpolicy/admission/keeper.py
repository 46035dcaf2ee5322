"""The leader's part: makes the certificates, and tells the API servers which authority to trust.

It looks at the Secret and at both webhook configurations and takes one step; after any stop it goes on from what is
there. Where admission is not installed (there are no configurations) it does nothing. A Secret that cert-manager fills
is left to it, and so is a configuration into which cert-manager injects the authority.

The manifests ship neither the Secret's data nor a caBundle, so that no tool that applies them fights with this.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from sidecarpolicy import names
from sidecarpolicy.admission.certificates import data_of, material_of, next_material
from sidecarpolicy.admission.loading import decoded
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.port import Api, ApiError, Conflict, Leadership, NotFound, Resource
from sidecarpolicy.engine.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0
FIRST_SECONDS: Final = 0.2  # after a step, doubled after each that follows at once
TRUST_SECONDS: Final = 10.0  # after these every API server has seen a new caBundle, and drops old connections
CERT_MANAGERS: Final = "cert-manager.io/certificate-name"  # annotation on a Secret that it fills
INJECTED: Final = ("cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret")


class Keeper:
    """Create it inside the running loop, then `run` it. *cache* learns whether admission is there."""

    def __init__(self, api: Api, leadership: Leadership, cache: Cache) -> None:
        self._api, self._leadership, self._cache = api, leadership, cache
        self._namespace = cache.operator_namespace
        self._published: tuple[bytes, float] = b"", 0.0  # what every configuration trusts, and since when
        self._told = ""

    async def run(self) -> None:
        """Work while this process leads, until cancelled."""
        loop, pause = asyncio.get_running_loop(), FIRST_SECONDS
        while True:
            await self._leadership.wait_until_leading()
            problem, again = "", False
            try:
                again = await self.step(loop.time())
            except Conflict:
                again = True
            except (ApiError, ValueError) as error:
                problem = str(error)
            if problem and problem != self._told:
                log.warning("the webhook's certificate: %s; trying until it works", problem)
            self._told = problem
            await asyncio.sleep(pause if again else LOOK_SECONDS)
            pause = min(LOOK_SECONDS, 2 * pause) if again else FIRST_SECONDS  # somebody may undo each step

    async def step(self, moment: float) -> bool:
        """Take the next step, if any is due; return whether one was taken. *moment*: of a monotonic clock, in seconds.

        Raise ApiError, or ValueError where the Secret cannot be read.
        """
        configurations = await self._configurations()
        self._cache.note_admission(any(resource == MUTATING_WEBHOOKS for resource, _ in configurations))
        if not configurations:
            return False
        secret = await self._api.get(SECRETS, self._namespace, names.WEBHOOK_SECRET)
        material = material_of(decoded(secret))
        if CERT_MANAGERS not in at(secret, "metadata", "annotations"):
            hosts = sorted({host for _, each in configurations for host in hosts_of(each)})
            bundle, since = self._published
            trusted = bundle == material.authorities and moment >= since + TRUST_SECONDS
            due = next_material(material, hosts, datetime.now(UTC), trusted=trusted)
            if due is not None and self._leadership.leading:
                material, why = due
                data = {key: base64.b64encode(value).decode() for key, value in data_of(material).items()}
                version = {"resourceVersion": at(secret, "metadata")["resourceVersion"]}
                body = {"metadata": version, "data": data}
                await self._api.merge_patch(SECRETS, self._namespace, names.WEBHOOK_SECRET, body)
                log.info("Secret %s/%s: %s", self._namespace, names.WEBHOOK_SECRET, why)
                return True
        return await self._publish(material.authorities, configurations, moment)

    async def _publish(self, bundle: bytes, configurations: Iterable[tuple[Resource, Json]], moment: float) -> bool:
        if not bundle:
            return False
        text, wrote = base64.b64encode(bundle).decode(), False
        for resource, body in configurations:
            if any(key in at(body, "metadata", "annotations") for key in INJECTED):
                continue
            operations = [
                {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": text}
                for index, each in enumerate(items(body, "webhooks"))
                if at(each, "clientConfig").get("caBundle") != text
            ]
            if operations and self._leadership.leading:
                version = at(body, "metadata")["resourceVersion"]
                test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
                await self._api.json_patch(resource, "", names.WEBHOOKS, [test, *operations])
                wrote = True
        if wrote or self._published[0] != bundle:
            self._published = bundle, moment
        return wrote

    async def _configurations(self) -> list[tuple[Resource, Json]]:
        found = []
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            try:
                found.append((resource, await self._api.get(resource, "", names.WEBHOOKS)))
            except NotFound:
                continue
        return found


def hosts_of(configuration: Json) -> Iterable[str]:
    """Yield the names and addresses under which the webhooks of a configuration are called."""
    for each in items(configuration, "webhooks"):
        client = at(each, "clientConfig")
        if client.get("url"):
            yield urlsplit(client["url"]).hostname or ""
        elif service := at(client, "service"):
            name = f"{service['name']}.{service['namespace']}.svc"
            yield from (name, f"{name}.cluster.local")
