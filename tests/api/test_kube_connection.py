"""Ways to log in, each proven by whom the API server takes us for."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import localcluster
from sidecarpolicy.engine.port import Resource, Transient
from sidecarpolicy.kube.client import HttpApi
from sidecarpolicy.kube.connection import ConnectionProblem, Login, read_kubeconfig

WHO = Resource(group="authentication.k8s.io", version="v1", plural="selfsubjectreviews", kind="SelfSubjectReview")
NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace")


@pytest.fixture(scope="module")
def server() -> Iterator[localcluster.Cluster]:
    with localcluster.start(f"kube-login-{os.getpid()}", controllers=False) as running:
        running.kubectl("create", "serviceaccount", "robot")
        yield running


@pytest.fixture
def token(server: localcluster.Cluster) -> str:
    return server.kubectl("create", "token", "robot").stdout.strip()


ROBOT = "system:serviceaccount:default:robot"


async def whom(login: Login) -> str:
    """Return the name that the API server knows us by."""
    async with HttpApi(login) as api:
        body = {"apiVersion": WHO.api_version, "kind": WHO.kind, "metadata": {}}
        review = await api.create(WHO, "", body)
    name: str = review["status"]["userInfo"]["username"]
    return name


def a_kubeconfig(
    folder: Path, server: localcluster.Cluster, *, file: str = "config", cluster: Any = None, user: Any = None
) -> Path:
    """Write a kubeconfig with one context, `x`, and return its path."""
    where = {"server": server.server, "certificate-authority": str(server.ca_file)}
    path = folder / file
    config = {
        "clusters": [{"name": "c", "cluster": where if cluster is None else cluster}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path


def a_plugin(folder: Path, status: dict[str, Any]) -> dict[str, Any]:
    """Return an exec entry whose plugin prints *status* and counts its runs in the file `runs`."""
    version = "client.authentication.k8s.io/v1"
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    script = folder / "plugin"
    script.write_text(f"#!{sys.executable}\nopen({str(folder / 'runs')!r}, 'a').write('x')\nprint({answer!r})\n")
    script.chmod(stat.S_IRWXU)
    return {"command": str(script), "apiVersion": version, "interactiveMode": "Never"}


def embedded(server: localcluster.Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return cluster and user of the administrator's kubeconfig, everything embedded."""
    config = yaml.safe_load(server.user_kubeconfig("alice").read_text())

    def pem(entry: dict[str, Any], key: str) -> str:
        data = entry.get(f"{key}-data")
        return data or base64.b64encode(Path(entry[key]).read_bytes()).decode()

    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    keys = ("client-certificate", "client-key")
    return (
        {"server": cluster["server"], "certificate-authority-data": pem(cluster, "certificate-authority")},
        {f"{key}-data": pem(user, key) for key in keys},
    )


async def test_embedded_certificates_leave_no_file_behind(
    server: localcluster.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(empty))
    cluster, user = embedded(server)
    assert await whom(Login(str(a_kubeconfig(tmp_path, server, cluster=cluster, user=user)))) == "alice"
    assert list(empty.iterdir()) == []


async def test_certificate_files_are_found_from_the_kubeconfigs_folder(
    server: localcluster.Cluster, tmp_path: Path
) -> None:
    cluster, user = embedded(server)
    for key, data in (cluster | user).items():
        if key.endswith("-data"):
            (tmp_path / key).write_bytes(base64.b64decode(data))
    names = {key.removesuffix("-data"): key for key in user}
    where = {"server": server.server, "certificate-authority": "certificate-authority-data"}
    login = Login(str(a_kubeconfig(tmp_path, server, cluster=where, user=names)))
    assert await whom(login) == "alice"
    assert (await login.connection()).good_for == 60


async def test_a_token_and_its_file(server: localcluster.Cluster, tmp_path: Path, token: str) -> None:
    assert await whom(Login(str(a_kubeconfig(tmp_path, server, user={"token": token})))) == ROBOT
    (tmp_path / "t").write_text(token + "\n")
    user = {"tokenFile": "t", "token": "the file goes first"}
    assert await whom(Login(str(a_kubeconfig(tmp_path, server, user=user)))) == ROBOT


async def test_an_exec_plugin_is_run_once_while_its_token_is_good(
    server: localcluster.Cluster, tmp_path: Path, token: str
) -> None:
    expiry = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    user = {"exec": a_plugin(tmp_path, {"token": token, "expirationTimestamp": expiry})}
    login = Login(str(a_kubeconfig(tmp_path, server, user=user)))
    assert [await whom(login) for _ in range(3)] == [ROBOT] * 3
    assert (tmp_path / "runs").read_text() == "x"
    good_for = (await login.connection()).good_for
    assert good_for is not None
    assert 3400 < good_for < 3600


async def test_an_exec_plugin_whose_token_is_rejected_is_not_run_for_every_request(
    server: localcluster.Cluster, tmp_path: Path
) -> None:
    user = {"exec": a_plugin(tmp_path, {"token": "bad"})}
    async with HttpApi(Login(str(a_kubeconfig(tmp_path, server, user=user)))) as api:
        for _ in range(5):
            with pytest.raises(Transient):
                await api.get(NAMESPACES, "", "default")
    assert (tmp_path / "runs").read_text() == "xx"


async def test_an_exec_plugin_may_give_a_certificate(server: localcluster.Cluster, tmp_path: Path) -> None:
    _, user = embedded(server)
    pem = {key: base64.b64decode(data).decode() for key, data in user.items()}
    status = {
        "clientCertificateData": pem["client-certificate-data"],
        "clientKeyData": pem["client-key-data"],
    }
    login = Login(str(a_kubeconfig(tmp_path, server, user={"exec": a_plugin(tmp_path, status)})))
    assert await whom(login) == "alice"


async def test_the_server_is_verified_unless_told_otherwise(
    server: localcluster.Cluster, tmp_path: Path, token: str
) -> None:
    user = {"token": token}
    for cluster in (
        {"server": server.server},
        {"server": server.server, "certificate-authority": str(server.ca_file), "tls-server-name": "other"},
    ):
        with pytest.raises(Transient, match=r"(?i)certificate"):
            await whom(Login(str(a_kubeconfig(tmp_path, server, cluster=cluster, user=user))))
    skipping = {"server": server.server, "insecure-skip-tls-verify": True}
    assert await whom(Login(str(a_kubeconfig(tmp_path, server, cluster=skipping, user=user)))) == ROBOT
    named = {
        "server": server.server,
        "certificate-authority": str(server.ca_file),
        "tls-server-name": "kubernetes.default.svc",
    }
    assert await whom(Login(str(a_kubeconfig(tmp_path, server, cluster=named, user=user)))) == ROBOT


async def test_the_service_account_of_a_pod_and_its_rotation(
    server: localcluster.Cluster, tmp_path: Path, token: str
) -> None:
    assert server.ca_file is not None
    (tmp_path / "ca.crt").write_bytes(server.ca_file.read_bytes())
    (tmp_path / "namespace").write_text("sidecarpolicy-system")
    (tmp_path / "token").write_text("of yesterday")
    url = urlsplit(server.server)
    environ = {"KUBERNETES_SERVICE_HOST": str(url.hostname), "KUBERNETES_SERVICE_PORT": str(url.port)}
    login = Login(environ=environ, service_account=tmp_path)
    connection = await login.connection()
    assert (connection.default_namespace, connection.good_for) == ("sidecarpolicy-system", 60)
    (tmp_path / "token").write_text(token)
    assert await whom(login) == ROBOT
    (tmp_path / "token").unlink()  # a failing re-read keeps what worked
    assert (await login.after_rejection(await login.connection())).token == token


async def test_a_due_re_read_sees_the_new_token(
    server: localcluster.Cluster, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecarpolicy.kube.credentials._REREAD", 0.0)
    (tmp_path / "t").write_text("first")
    login = Login(str(a_kubeconfig(tmp_path, server, user={"tokenFile": "t"})))
    assert (await login.connection()).token == "first"
    (tmp_path / "t").write_text("second")
    assert (await login.connection()).token == "second"


async def test_an_argument_goes_before_kubeconfig_and_that_before_the_pod(
    server: localcluster.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = a_kubeconfig(tmp_path, server, file="asked", user={"token": "asked"})
    from_env = a_kubeconfig(tmp_path, server, file="env", user={"token": "env"})
    (tmp_path / ".kube").mkdir()
    a_kubeconfig(tmp_path / ".kube", server, user={"token": "home"})
    monkeypatch.setenv("HOME", str(tmp_path))
    for file, text in (("token", "pod"), ("ca.crt", ""), ("namespace", "n")):
        (tmp_path / file).write_text(text)
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    env = {"KUBECONFIG": f"{tmp_path}/absent:{from_env}"}

    async def token(environ: dict[str, str], kubeconfig: str = "") -> str | None:
        login = Login(kubeconfig, environ=environ, service_account=tmp_path)
        return (await login.connection()).token

    assert await token(env | pod, str(asked)) == "asked"
    assert await token(env | pod) == "env"
    assert await token(pod) == "pod"
    assert await token({}) == "home"


async def test_files_are_merged_and_a_context_is_chosen(server: localcluster.Cluster, tmp_path: Path) -> None:
    first = a_kubeconfig(tmp_path, server, file="first", user={"token": "first"})
    second = tmp_path / "second"
    second.write_text(
        json.dumps(
            {
                "users": [{"name": "v", "user": {"token": "hush"}}],
                "contexts": [{"name": "y", "context": {"cluster": "c", "user": "v"}}],
            }
        )
    )
    chosen = await read_kubeconfig(f"{first}:{second}", "y")
    assert (chosen.token, chosen.server, chosen.default_namespace) == ("hush", server.server, "default")
    assert (await read_kubeconfig(f"{first}:{second}")).token == "first"
    assert "hush" not in repr(chosen)  # what is logged by accident holds no secrets


PLUGIN = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"auth-provider": {"name": "gcp"}}, "'auth-provider' has no support here; use an exec plugin"),
        ({"as": "root", "token": "t"}, "'as' asks for impersonation"),
        ({"exec": PLUGIN | {"command": "/nowhere/plugin", "installHint": "install it"}}, "; install it"),
        ({"exec": PLUGIN | {"command": "sh", "args": ["-c", "echo no luck >&2; exit 3"]}}, "no luck"),
        ({"exec": PLUGIN | {"command": "echo", "args": ["hello"]}}, "exec plugin 'echo' gave no credentials"),
        ({"tokenFile": "absent"}, "absent: No such file or directory; check the path"),
        ({"client-certificate-data": "AAAA", "client-key-data": "AAAA"}, "is not usable"),
        ({"client-certificate-data": "?"}, "is not a kubeconfig"),
    ],
)
async def test_a_user_that_is_no_use_is_explained(
    server: localcluster.Cluster, tmp_path: Path, user: dict[str, Any], said: str
) -> None:
    path = a_kubeconfig(tmp_path, server, user=user)
    with pytest.raises(ConnectionProblem) as problem:
        await Login(str(path)).tls()
    assert str(problem.value).startswith(f"kubeconfig {path}: ")
    assert said in str(problem.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file; name one with --kubeconfig"),
        ("{", "compare with `kubectl config view`"),
        ("", "has no current-context"),
        ("[]", "is no kubeconfig: it must be a mapping"),
        ("{}", "has no current-context; name one with --context"),
        ("current-context: z", "has no context 'z'"),
    ],
)
async def test_a_file_that_is_no_use_is_explained(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConnectionProblem) as problem:
        await read_kubeconfig(str(path))
    assert str(problem.value).startswith(f"kubeconfig {path}: ")
    assert said in str(problem.value)


async def test_a_service_account_without_a_token_is_explained(tmp_path: Path) -> None:
    login = Login(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, service_account=tmp_path)
    with pytest.raises(ConnectionProblem, match="needs automountServiceAccountToken"):
        await login.connection()
