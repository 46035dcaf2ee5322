"""The synchronous way to a cluster, for the commands that ask one: pykube, behind this module alone.

Credentials are found by the operator's own reader, so that every command and `run` take the same cluster for the same
flags: lists of files in KUBECONFIG, exec plugins of every version, problems that say what to do. pykube's reader can
do none of that, and leaves client keys under /tmp for everybody to read; it is given a ready TLS context instead.

Errors are those of `engine.port`; `explanation` turns them into what a person reads. Writes carry the field manager
`sidecarpolicy-cli`, as a query parameter of the request.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import pykube
from requests import Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, SSLError, Timeout

from sidecarpolicy import names
from sidecarpolicy.engine.port import ApiError, Conflict, Json, NotFound, Rejected, Resource, Transient
from sidecarpolicy.kube.client import PAGE, encoded, error_of, what_of
from sidecarpolicy.kube.connection import USER_AGENT, Connection, Login

TIMEOUT = 20.0
ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"


class Cluster:
    """Requests to one API server, one after the other. Every method raises ApiError, as the port sorts them.

    *namespace* is the context's, *server* its address. *dry_run*: writes are checked by the server and not kept.
    """

    def __init__(self, kubeconfig: str = "", context: str = "", *, dry_run: bool = False) -> None:
        """Find the credentials; no request is made. Raises ConnectionProblem."""
        self._login = (kubeconfig, context)
        self._skew = 0.0
        self.dry_run = dry_run
        self._enter(asyncio.run(Login(*self._login).connection()))

    def _enter(self, connection: Connection) -> None:
        self.server, self.namespace = connection.server, connection.default_namespace
        self._api = pykube.HTTPClient(
            pykube.KubeConfig.from_url(connection.server),
            timeout=TIMEOUT,
            verify=not connection.insecure,
            http_adapter=_Adapter(connection),
        )
        session = self._api.session
        session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
        if connection.authorization:
            session.headers["Authorization"] = connection.authorization
        session.auth = _unchanged  # or requests would take credentials out of ~/.netrc
        if connection.proxy_url:
            session.proxies = {"https": connection.proxy_url, "http": connection.proxy_url}

    def now(self) -> float:
        """The time by the server's clock, in seconds since the epoch: that of this machine may be wrong."""
        return time.time() + self._skew

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return one object; *namespace* is empty for a cluster-scoped one."""
        return self._request("get", resource, namespace, name)

    def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Sequence[Json]:
        """Return the objects of *namespace*, or of all if that is empty, each with its apiVersion and kind."""
        wanted = {"limit": str(PAGE), "labelSelector": label_selector, "fieldSelector": field_selector}
        query = {key: value for key, value in wanted.items() if value}
        found: list[Json] = []
        while True:
            page = self._request("list", resource, namespace, "", query=query)
            found += [{"apiVersion": resource.api_version, "kind": resource.kind, **each} for each in page["items"]]
            if not (token := page["metadata"].get("continue", "")):
                return found
            query["continue"] = token

    def merge_patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """PATCH with an RFC 7386 document; a stale `metadata.resourceVersion` in it is a Conflict."""
        return self._request("patch", resource, namespace, name, body=body, content_type=MERGE)

    def json_patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Json]) -> Json:
        """PATCH with RFC 6902 operations; a `test` that fails is a Rejected with reason PATCH_DOES_NOT_FIT."""
        return self._request("patch", resource, namespace, name, body=[*operations], content_type=JSON_PATCH)

    def _request(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "",
    ) -> Json:
        what = what_of(resource, namespace, name)
        answer = self._answer(verb, what, resource, namespace, name, query or {}, body, content_type)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:  # a token may have run out, in a long watch above all
            self._enter(asyncio.run(Login(*self._login).connection()))
            answer = self._answer(verb, what, resource, namespace, name, query or {}, body, content_type)
        if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(verb, what, answer.content, status=answer.status_code, phrase=answer.reason)
        try:
            decoded: Json = answer.json()
        except ValueError as error:
            message = f"the answer is not JSON; is {self.server} an API server?"
            raise Transient(verb=verb, what=what, message=message, status=answer.status_code) from error
        if date := answer.headers.get("Date", ""):
            self._skew = parsedate_to_datetime(date).timestamp() - time.time()
        return decoded

    def _answer(
        self,
        verb: str,
        what: str,
        resource: Resource,
        namespace: str,
        name: str,
        query: dict[str, str],
        body: Any,
        content_type: str,
    ) -> Response:
        if body is not None:
            query = query | {"fieldManager": names.CLI_FIELD_MANAGER, "fieldValidation": "Strict"}
            query |= {"dryRun": "All"} if self.dry_run else {}
        try:
            answer: Response = self._api.request(
                "GET" if body is None else "PATCH",
                version=resource.api_version,
                namespace=namespace or None,
                url=f"{resource.plural}/{name}" if name else resource.plural,
                params=query,
                data=None if body is None else encoded(body),
                headers={} if body is None else {"Content-Type": content_type},
                allow_redirects=False,
            )
        except RequestException as error:
            raise Transient(verb=verb, what=what, message=_why(error)) from error
        return answer


class _Adapter(HTTPAdapter):
    """Connections with the TLS context that our own reader of kubeconfigs makes; no file, no other CA."""

    def __init__(self, connection: Connection) -> None:
        self._pool: dict[str, Any] = {"ssl_context": connection.tls()}
        if connection.tls_server_name:
            self._pool |= {"server_hostname": connection.tls_server_name, "assert_hostname": connection.tls_server_name}
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Have every connection use that context."""
        super().init_poolmanager(connections, maxsize, block, **options, **self._pool)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Have every connection through a proxy use that context."""
        return super().proxy_manager_for(proxy, **options, **self._pool)

    def cert_verify(self, *arguments: Any, **options: Any) -> None:
        """Add nothing: the context knows whom to trust."""


def _unchanged(request: Any) -> Any:
    return request


def _why(error: RequestException) -> str:
    """What went wrong, without the names of Python objects."""
    if isinstance(error, Timeout):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, SSLError):
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__context__ or getattr(cause.args[0] if cause.args else None, "reason", None)
        return f"TLS: {getattr(cause, 'verify_message', '') or getattr(cause, 'reason', '') or error}"
    found = ERRNO.findall(str(error))
    return found[-1] if found else str(error)


def explanation(error: ApiError, server: str) -> str:
    """Return what *error*, of the API server at *server*, means to a person, and what to do about it."""
    kind = error.what.partition(" ")[0]
    match error:
        case NotFound() if not error.reason and kind.endswith(f".{names.GROUP}"):
            return f"the cluster at {server} does not know {kind}: install the kinds first (kubectl apply -f crds/)"
        case Rejected(reason="Forbidden"):
            asks = (
                f"; ask for that right (kubectl auth can-i {error.verb} {kind})" if " cannot " in error.message else ""
            )
            return f"forbidden to {error.verb} {error.what}: {error.message}{asks}"
        case Transient(status=HTTPStatus.UNAUTHORIZED):
            return f"the API server at {server} does not take these credentials ({error.message}): log in again"
        case Transient(status=None):
            return (
                f"no answer from the API server at {server}: {error.message}; is it up, and is this the cluster that "
                "was meant (kubectl config current-context)?"
            )
        case Transient():
            return f"the API server at {server} is in trouble, try again: {error}"
        case Conflict():
            return f"{error}; somebody else writes it too, try again"
        case _:
            return str(error)
