"""Where the API server is, and credentials for it: found, read and checked, once and synchronously.

Looked for in the order of controller-runtime: the file that was asked for, `KUBECONFIG`, the service account
of the Pod, `~/.kube/config`.

Kubeconfig files are merged and read here, and exec plugins run, without a Kubernetes client library: `kubernetes`
costs 50 MB and most of a second at each start, which is every command that a person types; it leaves private keys in
temporary files, and it logs the failure of an exec plugin and goes on without credentials. The rules are those of
client-go: the first file that names an entry wins, relative paths start from the folder of their own file, data go
before files, and a token file before a token.

Not in it: `auth-provider` entries (gone from kubectl for gcp and azure; oidc has exec plugins) and
impersonation (`as`). Both are refused, not passed over: going on would mean other rights than the author
wrote. Keeping credentials fresh is `connection.Login`.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sidecarpolicy
from sidecarpolicy import names

USER_AGENT: Final = f"{names.CONTROLLER}/{sidecarpolicy.__version__}"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LEAST_LIFE: Final = 5.0  # seconds for which a plugin's credentials are used, however soon they run out

_REREAD = 60.0  # seconds between looks at files that somebody rotates
_EXPIRY_MARGIN = 60.0  # seconds before a plugin's token runs out
_PLUGIN_TIMEOUT = 60.0  # seconds that a plugin has; it may ask a person something
_COMPARE = "compare with `kubectl config view`"
_LISTS = ("clusters", "contexts", "users")


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
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
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


def find(
    kubeconfig: str = "",
    context: str = "",
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Connection:
    """Return what is to be used now. *kubeconfig* and *context*: what the user asked for, empty if nothing.

    Raises ConnectionProblem. It reads files and may run a plugin: in a thread of its own where something else goes on.
    """
    if kubeconfig:
        return read_kubeconfig(kubeconfig, context)
    if files := environ.get("KUBECONFIG", ""):
        return read_kubeconfig(files, context)
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if host and not context and service_account.is_dir():
        return read_service_account(service_account, host, environ.get("KUBERNETES_SERVICE_PORT", "443"))
    return read_kubeconfig(str(Path.home() / ".kube" / "config"), context)


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


def read_kubeconfig(files: str, context: str = "") -> Connection:
    """Return the connection of *context* (empty: the current one) in *files* (spelt as in KUBECONFIG)."""
    where = f"kubeconfig {files}" + (f", context {context}" if context else "")
    try:
        return _read(_existing(files, where), context, where)
    except OSError as error:
        raise ConnectionProblem(
            where=where,
            what=f"cannot read {error.filename}: {error.strerror}",
            remedy="check the path and its permissions",
        ) from error
    except _Malformed as error:
        raise ConnectionProblem(where=where, what=str(error), remedy=_COMPARE) from error
    except (TypeError, AttributeError, KeyError, ValueError) as error:  # what comes of a wrong shape
        raise ConnectionProblem(where=where, what=f"is not a kubeconfig ({error})", remedy=_COMPARE) from error


class _Malformed(Exception):
    """A kubeconfig lacks what it must have; says what and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A cluster, context or user, and the folder that its relative paths start from."""

    what: str
    body: Mapping[str, Any]
    folder: Path

    def get(self, key: str) -> Any:
        return self.body.get(key)

    def required(self, key: str) -> Any:
        if not (value := self.body.get(key)):
            raise _Malformed(f"{self.what} must have {key}")
        return value

    def pem(self, key: str) -> bytes | None:
        """Return what is under `<key>-data`, or in the file that *key* names."""
        if data := self.body.get(f"{key}-data"):
            return base64.b64decode("".join(data.split()), validate=True)
        return (self.folder / file).read_bytes() if (file := self.body.get(key)) else None


def _existing(files: str, where: str) -> list[Path]:
    found = [path for each in files.split(os.pathsep) if each and (path := Path(each).expanduser()).exists()]
    if not found:
        raise ConnectionProblem(
            where=where,
            what="there is no such file",
            remedy="name one with --kubeconfig or KUBECONFIG, or run in a Pod with a service account",
        )
    return found


def _read(paths: list[Path], context: str, where: str) -> Connection:
    configs = [(path.absolute().parent, _parsed(path.read_text())) for path in paths]
    chosen = context or next((found for _, each in configs if (found := each.get("current-context"))), "")
    if not chosen:
        raise ConnectionProblem(
            where=where,
            what="has no current-context",
            remedy="name one with --context or `kubectl config use-context`",
        )
    found = _named(configs, "contexts", chosen)
    user = found.get("user")
    nobody = _Entry(what="the user", body={}, folder=found.folder)
    return _connection(
        found,
        _named(configs, "clusters", found.required("cluster")),
        _named(configs, "users", user) if user else nobody,
        where,
    )


def _parsed(text: str) -> Any:
    import yaml  # a tenth of what a command takes to start; neither --help nor a Pod reads a kubeconfig

    try:
        found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _Malformed(f"is no YAML: {place}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise _Malformed(f"is no YAML: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, dict):
        raise _Malformed("is no kubeconfig: it must be a mapping")
    return found or {}


def _named(configs: list[tuple[Path, Mapping[str, Any]]], listed: str, name: str) -> _Entry:
    """Return the entry *name* of a list of all files together: the first that there is."""
    assert listed in _LISTS
    kind = listed.removesuffix("s")
    for folder, config in configs:
        for each in config.get(listed) or ():
            if each["name"] == name:
                return _Entry(what=f"{kind} {name!r}", body=each[kind] or {}, folder=folder)
    raise _Malformed(f"has no {kind} {name!r}")


def _connection(context: _Entry, cluster: _Entry, user: _Entry, where: str) -> Connection:
    for entry, what, remedy in (
        ("auth-provider", "has no support here", "use an exec plugin instead"),
        ("as", "asks for impersonation", "use the credentials of that user instead, or --as"),
    ):
        if user.get(entry):
            raise ConnectionProblem(where=where, what=f"the user's {entry!r} {what}", remedy=remedy)
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    token, good_for = _token(user)
    if not token and user.get("exec"):
        status, good_for = _run_plugin(user.get("exec"), user.folder, where)
        token = status.get("token")
        if status.get("clientCertificateData"):
            certificate, key = status["clientCertificateData"].encode(), status["clientKeyData"].encode()
    files = (cluster.get("certificate-authority"), *(user.get(f"client-{each}") for each in ("certificate", "key")))
    return Connection(
        where=where,
        server=cluster.required("server").rstrip("/"),
        default_namespace=context.get("namespace") or "default",
        ca_data=cluster.pem("certificate-authority"),
        certificate_data=certificate,
        private_key_data=key,
        token=token,
        username=user.get("username"),
        password=user.get("password"),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name"),
        proxy_url=cluster.get("proxy-url"),
        good_for=_REREAD if good_for is None and any(files) else good_for,
    )


def _token(user: _Entry) -> tuple[str | None, float | None]:
    if file := user.get("tokenFile"):  # it goes before `token`, as in client-go
        return (user.folder / file).read_text().strip(), _REREAD
    return user.get("token"), None


def _run_plugin(entry: Mapping[str, Any], folder: Path, where: str) -> tuple[Mapping[str, Any], float | None]:
    """Run the exec plugin; return its status, and for how many seconds that is good."""
    import subprocess  # most users have a token or a certificate

    name = entry.get("command") or ""
    try:
        status = _credential(entry, name, folder)
    except (OSError, ValueError, _Malformed, subprocess.TimeoutExpired) as error:
        why = "it takes too long" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise ConnectionProblem(
            where=where,
            what=f"exec plugin {name!r} gave no credentials ({why})",
            remedy=entry.get("installHint") or "run the plugin by hand to see why",
        ) from error
    if not (expiry := status.get("expirationTimestamp")):
        return status, None
    left = datetime.fromisoformat(expiry) - datetime.now(UTC)
    return status, max(LEAST_LIFE, left.total_seconds() - _EXPIRY_MARGIN)


def _credential(entry: Mapping[str, Any], name: str, folder: Path) -> Mapping[str, Any]:
    """Return the status of the ExecCredential that the plugin prints. (client.authentication.k8s.io)"""
    import subprocess

    version = entry.get("apiVersion")
    if not name or not version:
        raise _Malformed("its entry must have command and apiVersion")
    command = str(folder / name) if os.sep in name else name  # without a slash it is looked for on PATH
    interactive = entry.get("interactiveMode") != "Never" and sys.stdin is not None and sys.stdin.isatty()
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": interactive}}
    set_there = {each["name"]: each["value"] for each in entry.get("env") or ()}
    done = subprocess.run(
        [command, *(entry.get("args") or ())],
        env=dict(os.environ) | set_there | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
        stdin=None if interactive else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if interactive else subprocess.PIPE,  # where somebody can answer they have to see the question
        timeout=_PLUGIN_TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or b"").decode(errors="replace").strip()
        raise _Malformed(f"exit code {done.returncode}" + (f": {said}" if said else ""))
    credential = json.loads(done.stdout)
    if not isinstance(credential, dict) or not isinstance(credential.get("status"), dict):
        raise _Malformed("what it printed must be an ExecCredential with a status")
    if credential.get("apiVersion") != version:
        raise _Malformed(f"what it printed must have apiVersion {version}, not {credential.get('apiVersion')}")
    status: Mapping[str, Any] = credential["status"]
    return status


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give *data* a path while OpenSSL reads it; in memory where the system has that, never left behind."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pem"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        import tempfile

        with tempfile.NamedTemporaryFile() as named:
            named.write(data)
            named.flush()
            yield named.name
