"""The webhooks over HTTPS: AdmissionReview v1 in, a decision out.

Not Kopf's server: it refuses bodies over 1 MiB, answers an unknown path with "allowed", and closes its listener for a
new certificate. Here a body may have 7 MiB (an UPDATE brings the object twice, and etcd takes 1.5 MiB), an unknown path
is a 404, and whatever fails inside lets the object through as it is.

At the end of the process the API server still has connections open, and would go on with them. So every answer then
closes its connection, and the listener stays for some seconds more.
"""

from __future__ import annotations

import base64
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web

from sidecarpolicy.admission.policies import decide
from sidecarpolicy.admission.proposal import proposal_from
from sidecarpolicy.admission.room import Room
from sidecarpolicy.admission.workloads import review
from sidecarpolicy.core.tree import Json
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.metrics import Metrics

log = logging.getLogger(__name__)

MUTATE_DEPLOYMENTS: Final = "/mutate/deployments"
VALIDATE_POLICIES: Final = "/validate/policies"
MOST_BYTES: Final = 7 * 2**20

# What came of a review.
PATCHED, UNCHANGED, REFUSED, FAILED, NOT_READY = "patched", "unchanged", "refused", "failed", "not_ready"

Look = Callable[[Json], tuple[Json, str]]
"""Answers the request of an AdmissionReview: what to add to the response, and the result for the metrics."""


class Webhooks:
    """The two webhooks over one *context*. *is_ready*: whether that shows what is there."""

    def __init__(self, context: Context, metrics: Metrics, is_ready: Callable[[], bool]) -> None:
        self.ending = False
        self._context, self._metrics, self._is_ready = context, metrics, is_ready
        self._room = Room()

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(client_max_size=MOST_BYTES)
        for path, look in ((MUTATE_DEPLOYMENTS, self.mutate_deployment), (VALIDATE_POLICIES, self.validate_policy)):
            application.router.add_post(path, self._answering(path, look))
        return application

    def mutate_deployment(self, request: Json) -> tuple[Json, str]:
        """Review a Deployment."""
        found = review(proposal_from(request), self._context, self._room)
        response: Json = {"warnings": list(found.warnings)} if found.warnings else {}
        if not found.operations:
            return response, UNCHANGED
        patch = base64.b64encode(orjson.dumps(found.operations)).decode()
        return response | {"patchType": "JSONPatch", "patch": patch}, PATCHED

    def validate_policy(self, request: Json) -> tuple[Json, str]:
        """Review a policy."""
        found = decide(request, self._context)
        response: Json = {"warnings": list(found.warnings)} if found.warnings else {}
        if not found.problems:
            return response, UNCHANGED
        status = {"code": 422, "reason": "Invalid", "message": found.problems}
        return response | {"allowed": False, "status": status}, REFUSED

    def _answering(self, path: str, look: Look) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.Response:
            body = await request.read()
            began = time.perf_counter()
            try:
                asked = orjson.loads(body)["request"]
                uid = asked["uid"]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise web.HTTPBadRequest(
                    text=f"must be an AdmissionReview of admission.k8s.io/v1: {error}\n"
                ) from error
            response, result = self._look(path, look, asked)
            self._metrics.reviewed(path, result, time.perf_counter() - began)
            answered = web.json_response(
                body=orjson.dumps(
                    {
                        "apiVersion": "admission.k8s.io/v1",
                        "kind": "AdmissionReview",
                        "response": {"uid": uid, "allowed": True} | response,
                    }
                )
            )
            if self.ending:
                answered.force_close()
            return answered

        return answer

    def _look(self, path: str, look: Look, asked: Json) -> tuple[Json, str]:
        if not self._is_ready():
            return {}, NOT_READY
        try:
            return look(asked)
        except Exception:  # a mistake of ours: told in full, and nobody's write is refused for it
            what = f"{asked.get('operation')} {asked.get('namespace')}/{asked.get('name')}"
            log.exception("%s: the review of %s failed; it is allowed as it is", path, what)
            return {}, FAILED


class WebhookServer:
    """Listens over TLS from `start` to `close`."""

    def __init__(self, webhooks: Webhooks, host: str | None, port: int, tls: ssl.SSLContext) -> None:
        self._webhooks, self._host, self._port, self._tls = webhooks, host, port, tls
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; raise OSError where that cannot be."""
        runner = web.AppRunner(
            self._webhooks.application(), access_log=None, handle_signals=False, shutdown_timeout=2.0
        )
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, self._host, self._port, ssl_context=self._tls).start()
        log.info("webhooks %s and %s at %s:%d", MUTATE_DEPLOYMENTS, VALIDATE_POLICIES, self._host or "", self._port)

    async def close(self) -> None:
        """Stop listening, once what is being answered is."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
