"""The cluster's programs: taken where they fit, otherwise built once from the committed go.mod files.

Each folder of ``deploy/local/go`` is one Go module whose go.mod and go.sum pin one program and all
it is made of (one module per program, because their dependencies clash). A build goes into
``bin/<source>-<version>-<key>`` of the cache, where the key is a digest of the pins and of how they
are compiled: another pin is another folder, and nothing is ever rebuilt in place. Go's own caches
are left alone.

kwok is always built, never taken from PATH: it needs the stages of its own module beside it. The witness
is this repository's own program (``deploy/witness``): its key is a digest of its source.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import cache, toolchain
from localcluster.errors import BuildError, last_lines
from localcluster.narration import say

MODULES = Path(__file__).resolve().parent.parent / "go"
WITNESS_SOURCE = MODULES.parent.parent / "witness"
_STILL_BUILDING_EVERY = 60.0
"""Seconds between two signs of life during a build."""

VersionFits = Callable[[tuple[int, int]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Go module folder and the programs that are built from it."""

    name: str
    module: str
    """The module whose version in go.mod is the version of the programs."""
    packages: Mapping[str, str]
    """Program name to the Go package of its main function."""
    variables: Callable[[str], Mapping[str, str]] = lambda _: {}
    """Given the version, the Go variables that the linker sets."""
    minutes: int = 1
    """How long a first build takes, for the message."""
    tags: Sequence[str] = ()
    """Build tags: they leave out what is large and not needed."""
    taken_if: VersionFits | None = None
    """Which major and minor versions of a program found on the machine will do; None: always build."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Files to copy beside the programs: name to path inside *module*."""
    place: Path | None = None
    """Where the module folder is, if not among those of a cluster's programs."""

    @property
    def folder(self) -> Path:
        """Where the committed go.mod and go.sum are."""
        return self.place or MODULES / self.name

    @property
    def version(self) -> str:
        """The pinned version, such as ``v1.37.2``, read from go.mod."""
        text = (self.folder / "go.mod").read_text(encoding="utf-8")
        match = re.search(rf"^\s*{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if not match:
            raise BuildError(f"{self.folder / 'go.mod'} does not name a version of {self.module}.")
        return match[1]

    @property
    def linker_flags(self) -> str:
        """The one -ldflags argument; equal flags let Go's build cache hit."""
        settings = [f"-X {name}={value}" for name, value in self.variables(self.version).items()]
        return " ".join(["-s -w", *settings])

    @property
    def built(self) -> Path:
        """The folder in the cache where the programs of exactly this pin are or will be."""
        pins = hashlib.sha256()
        for part in ("go.mod", "go.sum"):
            pins.update((self.folder / part).read_bytes())
        pins.update(f"{self.linker_flags} {sorted(self.data.items())} {platform.machine()}".encode())
        pins.update(" ".join(self.tags).encode())
        return cache.root() / "bin" / f"{self.name}-{self.version}-{pins.hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSource(Source):
    """A Go module of this repository, with nothing outside the standard library."""

    @property
    def version(self) -> str:
        """It has none: the key says which one it is."""
        return "v0"

    @property
    def built(self) -> Path:
        """The folder in the cache where the programs of exactly this source are or will be."""
        content = hashlib.sha256(f"{self.linker_flags} {platform.machine()}".encode())
        for file in sorted([self.folder / "go.mod", *self.folder.glob("*.go")]):
            content.update(file.name.encode() + file.read_bytes())
        return cache.root() / "bin" / f"{self.name}-{content.hexdigest()[:12]}"


def _kubernetes_version(version: str) -> dict[str, str]:
    major, minor, _ = version.removeprefix("v").split(".")
    prefix = "k8s.io/component-base/version"
    return {f"{prefix}.gitVersion": version, f"{prefix}.gitMajor": major, f"{prefix}.gitMinor": minor}


STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)

KUBERNETES = Source(
    name="kubernetes",
    module="k8s.io/kubernetes",
    packages={
        program: f"k8s.io/kubernetes/cmd/{program}"
        for program in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        )
    },
    variables=_kubernetes_version,
    minutes=7,
    taken_if=lambda version: version == (1, 37),
)
ETCD = Source(
    name="etcd",
    module="go.etcd.io/etcd/server/v3",
    packages={"etcd": "go.etcd.io/etcd/server/v3"},
    taken_if=lambda version: version in {(3, 6), (3, 7)},
)
KWOK = Source(
    name="kwok",
    module="sigs.k8s.io/kwok",
    packages={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    minutes=2,
    data={Path(stage).name: f"kustomize/stage/{stage}" for stage in STAGES},
)
CADDY = Source(
    name="caddy",
    module="github.com/caddyserver/caddy/v2",
    packages={"caddy": "github.com/caddyserver/caddy/v2/cmd/caddy"},
    minutes=2,
)
HELM = Source(
    name="helm",
    module="helm.sh/helm/v4",
    packages={"helm": "helm.sh/helm/v4/cmd/helm"},
    variables=lambda version: {"helm.sh/helm/v4/internal/version.version": version},
    minutes=2,
)
WITNESS = OwnSource(
    name="witness",
    module="sidecarpolicy.local/witness",
    packages={"witness": "sidecarpolicy.local/witness"},
    place=WITNESS_SOURCE,
)
SOURCES = (KUBERNETES, ETCD, KWOK, CADDY, HELM, WITNESS)


def require(programs: Iterable[str], sources: Sequence[Source] | None = None) -> dict[str, Path]:
    """Return where each of *programs* is, after building what this machine does not have.

    :param sources: what they are built from, if not the cluster's SOURCES.
    :raises BuildError: if a program is missing and cannot be built.
    """
    sources = SOURCES if sources is None else sources
    found: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    for program in dict.fromkeys(programs):
        source = next((each for each in sources if program in each.packages), None)
        if source is None:
            raise BuildError(f"nothing here builds a program named {program!r}")
        if there := _on_this_machine(program, source):
            found[program] = there
        else:
            found[program] = source.built / program
            if not found[program].exists():
                missing.setdefault(source.name, []).append(program)
    for source in sources:
        if wanted := missing.get(source.name):
            _build(source, wanted)
    return found


def _on_this_machine(program: str, source: Source) -> Path | None:
    """Return *program* from KUBEBUILDER_ASSETS or PATH, if there is one of a fitting version."""
    if source.taken_if is None:
        return None
    for path in (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH")):
        if path and (place := shutil.which(program, path=path)):
            version = _version_of(place)
            if version and source.taken_if(version):
                return Path(place)
    return None


def _version_of(program: str) -> tuple[int, int] | None:
    """Return the major and minor version that a Kubernetes program or etcd says it has."""
    kubectl = Path(program).name == "kubectl"
    try:
        said = subprocess.run(
            [program, "version", "--client", "-o", "json"] if kubectl else [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            stdin=subprocess.DEVNULL,
        ).stdout
        text = json.loads(said)["clientVersion"]["gitVersion"] if kubectl else said
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    match = re.search(r"(\d+)\.(\d+)\.\d+", text)
    return (int(match[1]), int(match[2])) if match else None


def _build(source: Source, programs: list[str]) -> None:
    """Build *programs* into the cache; another process that builds the same is waited for."""
    with cache.locked(source.built.with_suffix(".lock"), f"Another process is building {source.name}; waiting for it."):
        programs = [program for program in programs if not (source.built / program).exists()]
        if not programs:
            return
        go = toolchain.go()
        say(
            f"Building {', '.join(programs)} {source.version} from source, once, into {source.built}\n"
            f"  (about {source.minutes} min here; the first time for everything takes about ten minutes)"
        )
        began = time.monotonic()
        source.built.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=source.built.parent, prefix="building-") as scratch:
            packages = [source.packages[program] for program in programs]
            _compile(go, source, packages, Path(scratch))
            for name, path in source.data.items():
                shutil.copyfile(_module_folder(go, source) / path, source.built / name)
            for program in programs:
                made = Path(scratch) / Path(source.packages[program]).name
                if re.fullmatch(r"v\d+", made.name):  # Go names the program after the folder above a /v3
                    made = Path(scratch) / Path(source.packages[program]).parent.name
                made.rename(source.built / program)
        say(f"  built in {time.monotonic() - began:.0f} s")


def _compile(go: Path, source: Source, packages: list[str], target: Path) -> None:
    """Run ``go build``, with a sign of life every minute.

    :raises BuildError: with the end of the compiler's output.
    """
    command = [
        str(go),
        "build",
        "-buildvcs=false",
        "-ldflags",
        source.linker_flags,
        f"-tags={','.join(source.tags)}",
        "-o",
        f"{target}/",
        *packages,
    ]
    log = source.built / "build.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=source.folder,
            env=_go_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        began = time.monotonic()
        try:
            while True:
                try:
                    process.wait(timeout=_STILL_BUILDING_EVERY)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  still building {source.name} ({(time.monotonic() - began) / 60:.0f} min)")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        end = "\n".join(f"  | {line}" for line in last_lines(log))
        raise BuildError(
            f"{source.name} {source.version} could not be built (exit code {process.returncode}):\n{end}\n"
            f"  The whole output: {log}\n"
            f"  A build needs a Go module proxy (GOPROXY is {_goproxy(go)}), 8 GB of disk and 4 GB of memory."
        )


def _go_environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly",
    }


def _goproxy(go: Path) -> str:
    return _ask(go, ["env", "GOPROXY"], MODULES) or "GOPROXY"


def _module_folder(go: Path, source: Source) -> Path:
    return Path(_ask(go, ["list", "-m", "-f", "{{.Dir}}", source.module], source.folder))


def _ask(go: Path, arguments: list[str], folder: Path) -> str:
    """Return what a go command prints.

    :raises BuildError: if it fails.
    """
    done = subprocess.run(
        [go, *arguments],
        cwd=folder,
        env=_go_environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise BuildError(f"go {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()
