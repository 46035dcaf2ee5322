"""The synchronous way to a cluster, for the commands that ask one: the standard library's HTTP, behind this module.

A command should answer before its user has looked up, and `requests` or `aiohttp` alone take half a second to import.
Nothing here needs more than they have under them: connections that are kept, TLS contexts, a proxy, gzip.

Credentials are found as the operator finds them, so that every command and `run` take the same cluster for the same
flags. Errors are those of `engine.port`; `explanation` turns them into what a person reads. Writes carry the field
manager `sidecarpolicy-cli`, as a query parameter of the request.

Several requests may be under way: `soon` begins one and returns the way to its answer.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from sidecarpolicy import names
from sidecarpolicy.cli.patience import TIMEOUT, Notice
from sidecarpolicy.engine.port import ApiError, Conflict, Json, NotFound, Rejected, Resource, Transient
from sidecarpolicy.kube.credentials import USER_AGENT, Connection, find
from sidecarpolicy.kube.wire import PAGE, decoded, encoded, error_of, what_of

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Answer = TypeVar("Answer")

AT_A_TIME = 8
MERGE, JSON_PATCH, JSON = "application/merge-patch+json", "application/json-patch+json", "application/json"
GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """One answer of HTTP, read to its end."""

    status: int
    phrase: str
    date: str
    body: bytes


class Cluster:
    """Requests to one API server. Every method raises ApiError, as the port sorts them.

    *namespace* is the context's, *server* its address. *dry_run*: writes are checked by the server and not kept.
    *timeout*: seconds for one answer. *user* and *groups*: whom to impersonate, if anybody.
    """

    def __init__(
        self,
        kubeconfig: str = "",
        context: str = "",
        *,
        dry_run: bool = False,
        timeout: float = TIMEOUT,
        user: str = "",
        groups: Sequence[str] = (),
    ) -> None:
        """Find the credentials; no request is made. Raises ConnectionProblem."""
        self._login = (kubeconfig, context)
        self._skew = 0.0
        self._timeout = timeout
        self._acts_as = [("Impersonate-User", user)] if user else []
        self._acts_as += [("Impersonate-Group", each) for each in groups]
        self._threads: ThreadPoolExecutor | None = None
        self.dry_run = dry_run
        self._enter(find(*self._login))

    def _enter(self, connection: Connection) -> None:
        self.server, self.namespace = connection.server, connection.default_namespace
        self._connection = connection
        self._notice = Notice(f"waiting for {self.server} …")
        self._tls = connection.tls() if connection.server.startswith("https:") else None
        self._idle: list[HTTPConnection] = []

    def now(self) -> float:
        """The time by the server's clock, in seconds since the epoch: that of this machine may be wrong."""
        return time.time() + self._skew

    def soon(self, call: Callable[..., Answer], *arguments: Any, **options: Any) -> Callable[[], Answer]:
        """Begin *call* beside what else goes on; return what waits for its answer, or raises what it raised."""
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(AT_A_TIME, "request")
        return self._threads.submit(call, *arguments, **options).result

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return one object; *namespace* is empty for a cluster-scoped one."""
        return self._request("get", resource, namespace, name)

    def get_path(self, path: str, *, what: str) -> Json:
        """Return what the server has under *path*, such as `/version`; *what* is what an error calls it."""
        return self._send("get", what, "GET", path)

    def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        most: int = 0,
    ) -> Sequence[Json]:
        """Return the objects of *namespace*, or of all if that is empty, each with its apiVersion and kind.

        *most*: stop with that many; 0 for all.
        """
        found = self.each(
            resource, namespace, label_selector=label_selector, field_selector=field_selector, page=most or PAGE
        )
        return list(islice(found, most or None))

    def each(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        page: int = PAGE,
    ) -> Iterator[Json]:
        """Yield what `list` returns, one after the other, and hold no more than one *page* of it at a time.

        The next page is asked for when the last one has been taken. Where the server has meanwhile forgotten how the
        collection was at the beginning, it is read from the beginning, without what has been yielded.
        """
        wanted = {"limit": str(page), "labelSelector": label_selector, "fieldSelector": field_selector}
        query = {key: value for key, value in wanted.items() if value}
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        yielded: set[tuple[str, str]] = set()
        while True:
            try:
                answer = self._request("list", resource, namespace, "", query=query)
            except Transient as error:
                if error.status != HTTPStatus.GONE or not query.pop("continue", ""):
                    raise
                continue
            for body in answer["items"]:
                place = (body["metadata"].get("namespace", ""), body["metadata"]["name"])
                if place not in yielded:
                    yielded.add(place)
                    yield kind | body
            token = answer["metadata"].get("continue", "")
            if not token:
                return
            query["continue"] = token

    def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """POST an object; return it as the server has it."""
        return self._request("create", resource, namespace, "", body=body, content_type=JSON)

    def merge_patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """PATCH with an RFC 7386 document; a stale `metadata.resourceVersion` in it is a Conflict."""
        return self._request("patch", resource, namespace, name, body=body, content_type=MERGE)

    def json_patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Json]) -> Json:
        """PATCH with RFC 6902 operations; a `test` that fails is a Rejected with reason PATCH_DOES_NOT_FIT."""
        return self._request("patch", resource, namespace, name, body=[*operations], content_type=JSON_PATCH)

    def delete(self, resource: Resource, namespace: str, name: str) -> Json:
        """DELETE an object; the answer is it, or a Status."""
        return self._request("delete", resource, namespace, name)

    def _request(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "",
    ) -> Json:
        query = dict(query or {})
        if verb in ("create", "patch"):
            query |= {"fieldManager": names.CLI_FIELD_MANAGER, "fieldValidation": "Strict"}
        if self.dry_run and verb in ("create", "patch", "delete"):
            query["dryRun"] = "All"
        root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        path = f"{root}{inside}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")
        method = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}.get(verb, "GET")
        return self._send(
            verb,
            what_of(resource, namespace, name),
            method,
            f"{path}?{urlencode(query)}" if query else path,
            None if body is None else encoded(body),
            content_type,
        )

    def _send(
        self, verb: str, what: str, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> Json:
        try:
            with self._notice.while_waiting():
                reply = self._exchange(method, path, body, content_type)
            if reply.status == HTTPStatus.UNAUTHORIZED:  # a token may have run out, in a long watch above all
                self._enter(find(*self._login))
                reply = self._exchange(method, path, body, content_type)
        except (OSError, HTTPException, zlib.error) as error:
            raise Transient(verb=verb, what=what, message=_why(error, self._timeout)) from error
        if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(verb, what, reply.body, status=reply.status, phrase=reply.phrase)
        try:
            found: Json = decoded(reply.body)
        except (ValueError, RecursionError) as error:
            message = f"the answer is not JSON; is {self.server} an API server?"
            raise Transient(verb=verb, what=what, message=message, status=reply.status) from error
        with suppress(TypeError, ValueError):
            self._skew = parsedate_to_datetime(reply.date).timestamp() - time.time()
        return found

    def _exchange(self, method: str, path: str, body: bytes | None, content_type: str) -> _Reply:
        """Send one request and read its answer.

        A read goes over a kept connection, and again over a new one where that has been closed meanwhile. A write has a
        connection of its own: where it breaks nobody knows whether the write was done.
        """
        while self._idle and method == "GET":
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread took it
                break
            try:
                return self._over(kept, method, path, body, content_type)
            except (ConnectionError, HTTPException):
                kept.close()
        return self._over(self._open(), method, path, body, content_type)

    def _over(self, way: HTTPConnection, method: str, path: str, body: bytes | None, content_type: str) -> _Reply:
        way.putrequest(method, urlsplit(self.server).path.rstrip("/") + path, skip_accept_encoding=True)
        for header, value in self._headers(body, content_type):
            way.putheader(header, value)
        way.endheaders(body)
        answer = way.getresponse()
        data = answer.read()
        self._idle.append(way)
        return _Reply(
            status=answer.status,
            phrase=answer.reason,
            date=answer.headers.get("Date", ""),
            body=zlib.decompress(data, GZIP) if answer.headers.get("Content-Encoding") == "gzip" else data,
        )

    def _headers(self, body: bytes | None, content_type: str) -> Iterator[tuple[str, str]]:
        yield "User-Agent", USER_AGENT
        yield "Accept", JSON
        yield "Accept-Encoding", "gzip"
        if self._connection.authorization:
            yield "Authorization", self._connection.authorization
        yield from self._acts_as
        if body is not None:
            yield "Content-Type", content_type
            yield "Content-Length", str(len(body))

    def _open(self) -> HTTPConnection:
        where = urlsplit(self.server)
        host, port = where.hostname or "", where.port or (443 if self._tls else 80)
        if (proxy := _proxy(self._connection, where.scheme, host)) is None:
            return self._to(host, port)
        way = self._to(proxy.hostname or "", proxy.port or 80, tunnels_to=host)
        way.set_tunnel(host, port)
        return way

    def _to(self, host: str, port: int, *, tunnels_to: str = "") -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(host, port, timeout=self._timeout)
        name = self._connection.tls_server_name or tunnels_to or host
        return _Secure(host, port, timeout=self._timeout, tls=self._tls, name=name)


class _Secure(HTTPSConnection):
    """A connection that expects the certificate of *name*, whatever the address."""

    def __init__(self, host: str, port: int, *, timeout: float, tls: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=tls)
        self._with, self._name = tls, name

    def connect(self) -> None:
        """Connect, through the tunnel if there is one, and shake hands."""
        HTTPConnection.connect(self)
        self.sock = self._with.wrap_socket(self.sock, server_hostname=self._name)


def _proxy(connection: Connection, scheme: str, host: str) -> Any:
    """Return the address of the proxy on the way to *host*, taken apart; None for none. (client-go: proxy-url first)"""
    address = connection.proxy_url or ""
    if not address and any(os.environ.get(each) for each in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")):
        from urllib.request import getproxies, proxy_bypass  # a tenth of a second

        address = "" if proxy_bypass(host) else getproxies().get(scheme, "")
    if not address:
        return None
    parts = urlsplit(address if "//" in address else f"http://{address}")
    if parts.scheme != "http":
        raise OSError(f"a proxy must be http://HOST:PORT for this command, and is {address}")
    return parts


def _why(error: Exception, timeout: float) -> str:
    """What went wrong, without the names of Python objects."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout:g} s"
        case ssl.SSLError():
            return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
        case socket.gaierror():
            return f"{error.strerror}"
        case OSError():
            return error.strerror or str(error)
        case _:
            return f"the connection was closed ({error})" if str(error) else "the connection was closed"


def explanation(error: ApiError, server: str) -> str:
    """Return what *error*, of the API server at *server*, means to a person, and what to do about it."""
    kind = error.what.partition(" ")[0]
    match error:
        case NotFound() if not error.reason and kind.endswith(f".{names.GROUP}"):
            return f"the cluster at {server} does not know {kind}: install the kinds first (kubectl apply -f crds/)"
        case Rejected(reason="Forbidden") if " cannot " in error.message:  # RBAC, which says the same at length
            where = error.what.partition(" ")[2].partition("/")
            inside = f" -n {where[0]}" if where[1] else ""
            if error.what == kind and error.verb == "list" and " at the cluster scope" in error.message:
                inside = " -A"  # without it kubectl answers for the current namespace
            what = error.what if where[2] or not where[1] else f"{kind} in namespace {where[0]}"
            return (
                f"forbidden to {error.verb} {what}: ask for that right (kubectl auth can-i {error.verb} {kind}{inside})"
            )
        case Rejected(reason="Forbidden"):
            return f"forbidden to {error.verb} {error.what}: {error.message}"
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
