"""Container images without a registry or Docker: a few files, packed as a Docker archive.

An image is one layer. Its archive is written into the cache under a digest of what is in it, so that
the same image is made once. ``Cluster.load_image`` brings it onto the real node; Pods then need
``imagePullPolicy: IfNotPresent`` (the default for every tag but ``latest``).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster import binaries, cache, packages
from localcluster.errors import UnsupportedError

PAUSE = "sidecarpolicy.local/pause:1"
BUSYBOX = ("sidecarpolicy.local/busybox:1", "sidecarpolicy.local/busybox:2")
"""The same content under two tags, to show the update of an image."""
CADDY = ("sidecarpolicy.local/caddy:1", "sidecarpolicy.local/caddy:2")
WITNESS = ("sidecarpolicy.local/witness:1", "sidecarpolicy.local/witness:2")

_PAUSE_SCRIPT = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"
_FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def image_archive(
    name: str,
    files: Mapping[str, bytes | Path],
    entrypoint: Sequence[str],
    *,
    with_busybox: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Return a Docker archive of an image; it is made if the cache does not have it.

    :param name: with a host and a tag other than latest, such as ``sidecarpolicy.local/probe:1``.
    :param files: path in the image to content; all of them executable. Programs must be static.
    :param entrypoint: the command and its first arguments.
    :param with_busybox: with a shell and small tools in ``/bin``.
    :param environment: variables beside ``PATH=/bin:/usr/bin``.
    :raises UnsupportedError: if a busybox is wanted and the machine has no static one.
    """
    rootfs = _layer(files, busybox=_busybox() if with_busybox else None)
    digest = hashlib.sha256(rootfs).hexdigest()
    variables = {"PATH": "/bin:/usr/bin", **(environment or {})}
    config = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Env": [f"{key}={value}" for key, value in variables.items()],
                "Entrypoint": list(entrypoint),
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    identity = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{identity}.json", "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    parts = {
        f"{identity}.json": config,
        f"{digest}/layer.tar": rootfs,
        "manifest.json": json.dumps(manifest).encode(),
    }
    key = hashlib.sha256(identity.encode() + name.encode()).hexdigest()[:16]
    path = cache.root() / "images" / f"{name.rpartition('/')[2].replace(':', '-')}-{key}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(dir=path.parent, prefix="new-", delete=False) as file,
            tarfile.open(fileobj=file, mode="w") as tar,
        ):
            for part, data in parts.items():
                _add(tar, part, data, mode=0o644)
        Path(file.name).rename(path)
    return path


def pause() -> Path:
    """Return the archive of the image that holds a Pod's namespaces open."""
    return image_archive(PAUSE, {}, ["/bin/sh", "-c", _PAUSE_SCRIPT], with_busybox=True)


def busybox(tag: int = 1) -> Path:
    """Return the archive of ``sidecarpolicy.local/busybox:<tag>`` (1 or 2): a shell and small tools."""
    return image_archive(BUSYBOX[tag - 1], {}, ["/bin/sh"], with_busybox=True)


def caddy(tag: int = 1) -> Path:
    """Return the archive of ``sidecarpolicy.local/caddy:<tag>`` (1 or 2): a real proxy, and a shell.

    Caddy is built at first use (two minutes).
    """
    program = binaries.require(["caddy"])["caddy"]
    writable = {"XDG_CONFIG_HOME": "/tmp", "XDG_DATA_HOME": "/tmp", "HOME": "/tmp"}
    return image_archive(
        CADDY[tag - 1],
        {"/usr/bin/caddy": program},
        ["/usr/bin/caddy"],
        with_busybox=True,
        environment=writable,
    )


def witness(tag: int = 1) -> Path:
    """Return the archive of ``sidecarpolicy.local/witness:<tag>`` (1 or 2): see ``deploy/witness``, and a shell."""
    program = binaries.require(["witness"])["witness"]
    return image_archive(
        WITNESS[tag - 1],
        {"/usr/bin/witness": program},
        ["/usr/bin/witness"],
        with_busybox=True,
        environment={"WITNESS_TAG": str(tag)},  # two images, not two names of one: the kubelet tells which one runs
    )


def architecture() -> str:
    """Return this machine's architecture in the words of images and Kubernetes."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _busybox() -> Path:
    found = packages.static_busybox()
    if found is None:
        raise UnsupportedError("A static busybox is missing (Debian: busybox-static).")
    return found


def _layer(files: Mapping[str, bytes | Path], *, busybox: Path | None) -> bytes:
    """Return the tar of a root file system; equal content gives equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in _FOLDERS:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        if busybox is not None:
            _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
            listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
            for applet in sorted(set(listed.split()) - {"busybox"}):
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "/bin/busybox"
                tar.addfile(info)
        for name, content in sorted(files.items()):
            data = content if isinstance(content, bytes) else content.read_bytes()
            _add(tar, name.lstrip("/"), data, mode=0o755)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, *, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
