"""Makes the layers and packs them; what has not changed is not made again."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from localcluster import cache, packages
from localcluster.errors import BuildError, UnsupportedError
from localcluster.images import architecture
from localcluster.narration import say

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
USER: Final = 65532
_BASE: Final = "debian"
_APT: Final = Path("/etc/apt")
_LOCK: Final = "building.lock"
_UNUSED_SECONDS: Final = 86400.0
"""After which a layer or an archive is removed: other checkouts use the same cache, and may be loading one."""
_SCHEMA: Final = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: a compressed tar in the cache."""

    name: str
    path: Path
    diff_id: str
    """Digest of the tar before it was compressed."""
    size: int
    """Bytes before it was compressed."""

    @property
    def compressed(self) -> int:
        """Bytes that a registry stores and a node fetches."""
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A finished image: an archive that containerd, Docker and registries' tools read."""

    name: str
    archive: Path
    layers: tuple[Layer, ...]


def version() -> str:
    """The project's version, which is the image's tag."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def build(name: str = "") -> Image:
    """Return the image of this checkout under *name* (`docker.io/library/sidecarpolicy:<version>` if none).

    :raises UnsupportedError: where it cannot be made: it takes root, and Debian or Ubuntu with a Python 3.11.
    :raises BuildError: if a layer cannot be made.
    """
    name = name or f"docker.io/library/sidecarpolicy:{version()}"
    if os.geteuid() != 0:
        raise UnsupportedError("The image is assembled by root (mmdebstrap and a chroot).")
    packages.install([] if shutil.which("mmdebstrap") else ["mmdebstrap"])
    folder = cache.root() / "images" / "operator"
    folder.mkdir(parents=True, exist_ok=True)
    with cache.locked(folder / _LOCK, "Another process makes the operator's image; waiting for it."):
        layers = _layers(folder)
        archive = _pack(folder, name, layers)
        _forget_unused(folder, {archive, *(layer.path for layer in layers)})
        return Image(name=name, archive=archive, layers=layers)


def _forget_unused(folder: Path, used: Iterable[Path]) -> None:
    """Note what is *used*, and remove what no checkout has used for a day."""
    for path in used:
        os.utime(path)
    known = {
        _stem(path) for path in folder.iterdir() if path.suffix in {".tar", ".gz"} and _age(path) < _UNUSED_SECONDS
    }
    for path in folder.iterdir():
        if _stem(path) not in known and path.name != _LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _layers(folder: Path) -> tuple[Layer, ...]:
    script = (HERE / "assemble").read_bytes()
    system = [script, Path("/etc/os-release").read_bytes(), architecture().encode()]
    dependencies = [*system, (ROOT / "uv.lock").read_bytes()]
    sources = sorted((ROOT / "operator").rglob("*"))
    own = [each for each in sources if each.is_file() and "__pycache__" not in each.parts]
    application = [*system, (HERE / "sidecarpolicy").read_bytes(), *_contents(own)]
    base = folder / f"{_BASE}-{_digest(system)}"
    return (
        _layer(base, system_sources()),
        _layer(folder / f"python-{_digest(dependencies)}", [str(base)], base),
        _layer(folder / f"application-{_digest(application)}", [str(base)], base),
    )


def system_sources() -> list[str]:
    """Return apt's files that say where this machine's Debian packages come from, and no third party's."""
    listed = [_APT / f"sources.list.d/{name}.sources" for name in ("debian", "ubuntu")]
    found = [str(path) for path in [*listed, _APT / "sources.list"] if path.exists() and _says_something(path)]
    if not found:
        raise UnsupportedError(f"{_APT} names no sources of Debian packages.")
    return found


def _says_something(path: Path) -> bool:
    return any(line.strip() and not line.startswith("#") for line in path.read_text(encoding="utf-8").splitlines())


def _contents(files: Iterable[Path]) -> list[bytes]:
    return [part for file in files for part in (str(file.relative_to(ROOT)).encode(), file.read_bytes())]


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:12]


def _layer(target: Path, arguments: list[str], base: Path | None = None) -> Layer:
    """Return the layer at *target*; make it if the cache does not have it. The folder of the first one is kept."""
    name = target.name.rpartition("-")[0]
    packed, about = target.with_name(f"{target.name}.tar.gz"), target.with_name(f"{target.name}.json")
    if not about.exists() or (base is None and not target.exists()):
        say(f"Assembling the layer {name} of the operator's image")
        shutil.rmtree(f"{target}.new", ignore_errors=True)
        _run([str(HERE / "assemble"), name, f"{target}.new", *arguments])
        Path(f"{target}.new").rename(target)
        diff_id, size = _compress(target, packed)
        about.write_text(json.dumps({"diff_id": diff_id, "size": size}), encoding="utf-8")
        if base is not None:
            shutil.rmtree(target)
    said = json.loads(about.read_text(encoding="utf-8"))
    return Layer(name=name, path=packed, diff_id=said["diff_id"], size=said["size"])


def _uv() -> str:
    """The uv that make has found, or the one that it would."""
    if named := os.environ.get("UV"):
        return named
    find = [str(ROOT / "deploy/local/find-uv"), sys.executable]
    done = subprocess.run(find, stdout=subprocess.PIPE, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BuildError("The image's Python packages are installed by uv, and there is none.")
    return done.stdout.strip()


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "UV": _uv()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")


class _Counting:
    """Passes on what is written, and knows its digest and its size."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._out.write(data)


def _compress(folder: Path, packed: Path) -> tuple[str, int]:
    """Pack *folder* so that equal files give equal bytes; return the digest and the size of the plain tar."""
    with packed.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed:
        counting = _Counting(compressed)  # type: ignore[arg-type]  # a GzipFile writes bytes
        with tarfile.open(fileobj=counting, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
            for path in sorted(folder.rglob("*")):
                tar.add(path, str(path.relative_to(folder)), recursive=False, filter=_plain)
    return f"sha256:{counting.digest.hexdigest()}", counting.size


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def configuration(layers: Iterable[Layer]) -> Mapping[str, object]:
    """The image's configuration: what the Dockerfile's last stage says."""
    return {
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": ["/usr/bin/sidecarpolicy"],
            "Cmd": ["run"],
            "Env": ["PATH=/usr/bin", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "HOME=/tmp"],
            "Labels": {
                "org.opencontainers.image.title": "sidecarpolicy",
                "org.opencontainers.image.version": version(),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }


def _pack(folder: Path, name: str, layers: tuple[Layer, ...]) -> Path:
    """Return the archive; it is made if the cache does not have it."""
    config = json.dumps(configuration(layers)).encode()
    path = folder / f"image-{_digest([config, name.encode()])}.tar"
    if path.exists():
        return path
    blobs = {layer.path: _sha256(layer.path) for layer in layers}
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{_SCHEMA}.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [
                {"mediaType": f"{_SCHEMA}.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": path.stat().st_size}
                for path, digest in blobs.items()
            ],
        }
    ).encode()
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_SCHEMA}.index.v1+json",
        "manifests": [{**_descriptor("manifest.v1+json", manifest), "annotations": names}],
    }
    with (
        tempfile.NamedTemporaryFile(dir=folder, prefix="new-", delete=False) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index).encode())
        for blob in (manifest, config):
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        for blob_path, digest in blobs.items():
            tar.add(blob_path, f"blobs/sha256/{digest}", filter=_plain)
    Path(file.name).rename(path)
    return path


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"mediaType": f"{_SCHEMA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
