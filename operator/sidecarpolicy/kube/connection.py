"""Where the API server is, and credentials for it that stay fresh.

Looked for in the order of controller-runtime: the file that was asked for, `KUBECONFIG`, the service account
of the Pod, `~/.kube/config`. Kubeconfig files are merged and read and their exec plugins run by the parts of
`kubernetes.aio.config`. Its one-call loader is not used: it leaves private keys in temporary files for as
long as the process lives, and it logs the failure of an exec plugin and goes on without credentials. The
package is imported only where there is a kubeconfig: it costs 50 MB and most of a second.

Both this operator's own requests and Kopf's go through `open_session`, so both see a rotated token within a
minute, and after a 401 at once. TLS material is renewed inside the one SSLContext; a connection that was
answered with 401 is closed, so that none stays with an old certificate.

Not in it: `auth-provider` entries (gone from kubectl for gcp and azure; oidc has exec plugins) and
impersonation (`as`). Both are refused, not passed over: going on would mean other rights than the author
wrote.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import logging
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

import sidecarpolicy
from sidecarpolicy import names

log = logging.getLogger(__name__)

USER_AGENT: Final = f"{names.CONTROLLER}/{sidecarpolicy.__version__}"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_REREAD = 60.0  # seconds between looks at files that somebody rotates
_REJECTED_PAUSE = 5.0  # seconds between re-reads because of a 401: a plugin is a process to start
_EXPIRY_MARGIN = 60.0  # seconds before a plugin's token runs out
_PLUGIN_TIMEOUT = 60.0  # seconds that a plugin has; it may ask a person something
_COMPARE = "compare with `kubectl config view`"


class ConnectionProblem(Exception):
    """No way to the API server: says where that was read, what was found, and what to do."""

    def __init__(self, *, where: str, what: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}; {remedy}")
        self.where, self.what, self.remedy = where, what, remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An API server and credentials for it, as plain data. Fields are named as in `kopf.ConnectionInfo`.

    *where* says for people what it was read from. *good_for*: seconds until it should be read again, None
    when only a 401 tells. The data are PEM, not base64 of it.
    """

    where: str
    server: str
    default_namespace: str
    ca_data: bytes | None = field(default=None, repr=False)
    certificate_data: bytes | None = field(default=None, repr=False)
    private_key_data: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    insecure: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None
    good_for: float | None = None

    @property
    def authorization(self) -> str:
        """The Authorization header, empty if the client certificate has to do."""
        if self.token:
            return f"Bearer {self.token}"
        if self.username is not None and self.password is not None:
            return aiohttp.encode_basic_auth(self.username, self.password)
        return ""

    def renew(self, tls: ssl.SSLContext) -> None:
        """Make *tls* trust this CA and show this certificate; its connections of before keep theirs."""
        try:
            if self.ca_data:
                tls.load_verify_locations(cadata=self.ca_data.decode("ascii", "ignore"))
            if self.certificate_data and self.private_key_data:
                with _as_file(self.certificate_data + b"\n" + self.private_key_data) as path:
                    tls.load_cert_chain(path)
        except (ssl.SSLError, ValueError) as error:
            raise ConnectionProblem(
                where=self.where,
                what=f"the CA, client certificate or key is not usable ({error})",
                remedy="check that they are PEM and that the key belongs to the certificate",
            ) from error

    def tls(self) -> ssl.SSLContext:
        """Return a new context that trusts this CA, or the system's if there is none."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_data is None:
            tls.load_default_certs()
        # As Go does: an intermediate CA may be trusted alone. And not VERIFY_X509_STRICT, which Python 3.13
        # added to create_default_context: it demands extensions that the CAs of many clusters lack.
        tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.insecure:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self.renew(tls)
        return tls


class Login:
    """Credentials that are read again when that is due. One per process; all of it belongs to one event loop.

    *kubeconfig* and *context* are what the user asked for, empty if nothing.
    """

    def __init__(
        self,
        kubeconfig: str = "",
        context: str = "",
        *,
        environ: Mapping[str, str] = os.environ,
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._environ, self._service_account = environ, service_account
        self._current: Connection | None = None
        self._tls: ssl.SSLContext | None = None
        self._read_at = 0.0
        self._rejected_at: float | None = None
        self._reading = asyncio.Lock()

    async def connection(self) -> Connection:
        """Return what is to be used now. ConnectionProblem if there is nothing yet; later ones are logged."""
        if self._is_due():
            async with self._reading:
                if self._is_due():
                    await self._read()
        assert self._current is not None
        return self._current

    async def after_rejection(self, rejected: Connection) -> Connection:
        """Return what is to be used now that *rejected* was answered with 401; it may be the same again."""
        async with self._reading:
            now = time.monotonic()
            paused = self._rejected_at is not None and now < self._rejected_at + _REJECTED_PAUSE
            if self._current is rejected and not paused:
                await self._read()
                self._rejected_at = now
        assert self._current is not None
        return self._current

    async def tls(self) -> ssl.SSLContext:
        """Return the context that all sessions share."""
        connection = await self.connection()
        if self._tls is None:
            self._tls = connection.tls()
        return self._tls

    def _is_due(self) -> bool:
        if self._current is None:
            return True
        good_for = self._current.good_for
        return good_for is not None and time.monotonic() >= self._read_at + good_for

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        try:
            found = await self._find()
            if self._tls is not None:
                found.renew(self._tls)
        except ConnectionProblem as problem:
            if self._current is None:
                raise
            log.warning("going on with the credentials of before: %s", problem)
            return
        if found != self._current:
            self._current = found

    async def _find(self) -> Connection:
        if self._kubeconfig:
            return await read_kubeconfig(self._kubeconfig, self._context)
        if files := self._environ.get("KUBECONFIG", ""):
            return await read_kubeconfig(files, self._context)
        host = self._environ.get("KUBERNETES_SERVICE_HOST", "")
        if host and not self._context and self._service_account.is_dir():
            port = self._environ.get("KUBERNETES_SERVICE_PORT", "443")
            return read_service_account(self._service_account, host, port)
        return await read_kubeconfig(str(Path.home() / ".kube" / "config"), self._context)


def read_service_account(folder: Path, host: str, port: str) -> Connection:
    """Return the connection of a Pod whose token, ca.crt and namespace are in *folder*."""
    where = f"service account in {folder}"
    try:
        token, ca = (folder / "token").read_text().strip(), (folder / "ca.crt").read_bytes()
        namespace = (folder / "namespace").read_text().strip()
    except OSError as error:
        raise ConnectionProblem(
            where=where,
            what=f"cannot read {error.filename}: {error.strerror}",
            remedy="the Pod needs automountServiceAccountToken and a user who may read the files",
        ) from error
    if not token:
        raise ConnectionProblem(where=where, what="the token is empty", remedy="restart the Pod")
    return Connection(
        where=where,
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        default_namespace=namespace or "default",
        ca_data=ca,
        token=token,
        good_for=_REREAD,
    )


async def read_kubeconfig(files: str, context: str = "") -> Connection:
    """Return the connection of *context* (empty: the current one) in *files* (spelt as in KUBECONFIG)."""
    where = f"kubeconfig {files}" + (f", context {context}" if context else "")
    if not any(Path(path).expanduser().exists() for path in files.split(os.pathsep)):  # noqa: ASYNC240
        raise ConnectionProblem(
            where=where,
            what="there is no such file",
            remedy="name one with --kubeconfig or KUBECONFIG, or run in a Pod with a service account",
        )
    library = await asyncio.to_thread(importlib.import_module, "kubernetes.aio.config.kube_config")
    try:
        return await _Kubeconfig(library, files, context, where).connection()
    except OSError as error:
        raise ConnectionProblem(
            where=where,
            what=f"cannot read {error.filename}: {error.strerror}",
            remedy="check the path and its permissions",
        ) from error
    except (library.ConfigException, yaml.YAMLError) as error:
        raise ConnectionProblem(where=where, what=str(error), remedy="compare with `kubectl config view`") from error
    except (
        TypeError,
        AttributeError,
        KeyError,
        ValueError,
    ) as error:  # what the library makes of a wrong shape
        raise ConnectionProblem(
            where=where,
            what=f"is not a kubeconfig ({error})",
            remedy="compare with `kubectl config view`",
        ) from error


class _Kubeconfig:
    """One context of merged kubeconfig files, read through the library's nodes, which know their file."""

    def __init__(self, library: Any, files: str, context: str, where: str) -> None:
        self._library, self._where = library, where
        config = library.KubeConfigMerger(files).config
        chosen = context or config.safe_get("current-context")
        if not chosen:
            raise ConnectionProblem(
                where=where,
                what="has no current-context",
                remedy="name one with --context or `kubectl config use-context`",
            )
        self._context = config["contexts"].get_with_name(chosen)["context"]
        self._cluster = config["clusters"].get_with_name(self._context["cluster"])["cluster"]
        user = self._context.safe_get("user")
        self._user = config["users"].get_with_name(user)["user"] if user else library.ConfigNode("user", {})

    async def connection(self) -> Connection:
        self._refuse("auth-provider", "has no support here", "use an exec plugin instead")
        self._refuse("as", "asks for impersonation", "use the credentials of that user instead")
        certificate, key = self._pem(self._user, "client-certificate"), self._pem(self._user, "client-key")
        token, good_for = self._token()
        if not token and self._user.safe_get("exec"):
            status, good_for = await self._plugin()
            token = status.get("token")
            if status.get("clientCertificateData"):
                certificate = status["clientCertificateData"].encode()
                key = status["clientKeyData"].encode()
        return Connection(
            where=self._where,
            server=self._cluster["server"].rstrip("/"),
            default_namespace=self._context.safe_get("namespace") or "default",
            ca_data=self._pem(self._cluster, "certificate-authority"),
            certificate_data=certificate,
            private_key_data=key,
            token=token,
            username=self._user.safe_get("username"),
            password=self._user.safe_get("password"),
            insecure=bool(self._cluster.safe_get("insecure-skip-tls-verify")),
            tls_server_name=self._cluster.safe_get("tls-server-name"),
            proxy_url=self._cluster.safe_get("proxy-url"),
            good_for=_REREAD if good_for is None and self._names_files() else good_for,
        )

    def _refuse(self, entry: str, what: str, remedy: str) -> None:
        if self._user.safe_get(entry):
            raise ConnectionProblem(where=self._where, what=f"the user's {entry!r} {what}", remedy=remedy)

    def _names_files(self) -> bool:
        return bool(self._cluster.safe_get("certificate-authority")) or any(
            self._user.safe_get(entry) for entry in ("client-certificate", "client-key", "tokenFile")
        )

    def _pem(self, node: Any, entry: str) -> bytes | None:
        data = self._library.FileOrData(node, entry, file_base_path=_folder(node)).as_data()
        return base64.b64decode("".join(data.split()), validate=True) if data else None

    def _token(self) -> tuple[str | None, float | None]:
        if file := self._user.safe_get("tokenFile"):  # it goes before `token`, as in client-go
            return Path(_folder(self._user), file).read_text().strip(), _REREAD
        return self._user.safe_get("token"), None

    async def _plugin(self) -> tuple[dict[str, Any], float | None]:
        """Run the exec plugin; return its status, and for how many seconds that is good."""
        entry = self._user["exec"]
        provider = importlib.import_module("kubernetes.aio.config.exec_provider")
        name = entry.safe_get("command")
        try:
            async with asyncio.timeout(_PLUGIN_TIMEOUT):
                status: dict[str, Any] = await provider.ExecProvider(entry).run()
        except (OSError, TimeoutError, self._library.ConfigException) as error:
            raise ConnectionProblem(
                where=self._where,
                what=f"exec plugin {name!r} gave no credentials ({str(error) or 'it takes too long'})",
                remedy=entry.safe_get("installHint") or "run the plugin by hand to see why",
            ) from error
        if not (expiry := status.get("expirationTimestamp")):
            return status, None
        left = datetime.fromisoformat(expiry) - datetime.now(UTC)
        return status, max(_REJECTED_PAUSE, left.total_seconds() - _EXPIRY_MARGIN)


def _folder(node: Any) -> str:
    """Return the folder that relative paths in *node* start from: that of its own file."""
    return str(Path(node.path).absolute().parent) if node.path else ""


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give *data* a path while OpenSSL reads it; in memory where the system has that, never left behind."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pem"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as named:
            named.write(data)
            named.flush()
            yield named.name


async def open_session(login: Login, *, connections: int = 0, timeout: float | None = None) -> aiohttp.ClientSession:
    """Return a session that logs in on its own; the caller closes it.

    *connections* bounds those open at a time (0: no bound). *timeout* (seconds) is for a whole request and
    includes waiting for a free connection; connecting has 5 s of it. URLs start with `Connection.server`.
    """
    connection = await login.connection()

    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        used = await login.connection()
        response = await handler(_signed(request, used))
        if response.status != 401:
            return response
        renewed = await login.after_rejection(used)
        if renewed is used:
            return response
        response.close()
        return await handler(_signed(request, renewed))

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=await login.tls()),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=5.0),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        middlewares=[authenticate],
        proxy=connection.proxy_url,
    )


def _signed(request: aiohttp.ClientRequest, connection: Connection) -> aiohttp.ClientRequest:
    if connection.authorization:
        request.headers["Authorization"] = connection.authorization
    if connection.tls_server_name:
        request.server_hostname = connection.tls_server_name
    return request
