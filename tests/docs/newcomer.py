"""A machine on which nothing of this project has ever been: Debian with Python and make, in a root of its own.

What it takes to reach registries is this machine's: names, certificates, proxies, apt's settings. So are, read-only,
the programs that are built from Go, where they have been built here from the same pins: to build them takes ten minutes
or more, which everybody's first cluster does. Nothing else is: no cache, no environment, no other program.

It has its own processes and mounts, which go with it. The network is this machine's, and so is the one real node:
`with_the_node` has it taken here for as long as it is used there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.image.build import system_sources
from localcluster import binaries, bridge, node, node_lock, packages
from localcluster.errors import NodeTakenError
from tests.docs.blocks import ROOT

PACKAGES: Final = "python3,make,ca-certificates"
"""What README.md asks for."""
HOME: Final = "/root"
CLONE: Final = f"{HOME}/sidecarpolicy"
BUILT: Final = f"{HOME}/.cache/sidecarpolicy/bin"
_SETTINGS: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs", "/etc/apt")
_REACHING: Final = re.compile(
    r"(https?|no|all)_proxy|\w*_ca_(bundle|certs)|ssl_cert_\w+|pip_cert|(pip|uv)_\w*index\w*|goproxy|gosumdb", re.I
)
_ENTER: Final = f"""
root=$1 built=$2; shift 2
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"; mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"; mount -t tmpfs tmpfs "$root/tmp"; mount -t tmpfs tmpfs "$root/run"
for folder in $built; do
  there=$root{BUILT}/${{folder##*/}}
  mkdir -p "$there"; mount --bind "$folder" "$there"; mount -o remount,bind,ro "$there"
done
mkdir -p "$root/mnt/before"; cd "$root"
pivot_root . mnt/before; umount --lazy /mnt/before
exec "$@"
"""
"""Makes the folder the root: runc cannot start a container where that is only a chroot."""
_ENDED: Final = re.compile(r"newcomer: ended with (\d+)\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command went."""

    command: str
    code: int
    output: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.command}\nended with {self.code} after {self.seconds:.0f} s:\n{self.output[-6000:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A root file system to work in."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Machine:
        """Assemble it in the new folder *root*, with a clone of this checkout in the home folder.

        :raises UnsupportedError: where this machine is neither Debian nor Ubuntu.
        """
        packages.install([] if shutil.which("mmdebstrap") else ["mmdebstrap"])
        suite = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
        assert suite is not None
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}"]
        subprocess.run([*command, suite[1], str(root), *system_sources()], check=True, stdin=subprocess.DEVNULL)
        for path in _SETTINGS:
            if Path(path).is_dir():
                shutil.rmtree(root / path[1:], ignore_errors=True)
                shutil.copytree(path, root / path[1:], ignore_dangling_symlinks=True)
            elif Path(path).exists():
                shutil.copy(path, root / path[1:])
        machine = cls(root=root)
        machine._clone()
        return machine

    def _clone(self) -> None:
        """Copy what git has of this checkout, and what it will have."""
        list_files = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(list_files, check=True, capture_output=True, text=True).stdout.split("\0")
        for path in filter(None, listed):
            if (ROOT / path).exists():
                target = self.root / CLONE[1:] / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, target, follow_symlinks=False)

    def write(self, path: str, text: str) -> None:
        """Write a file into the clone."""
        target = self.root / CLONE[1:] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a bare login, without a language, and how registries are reached."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        here = {key: value for key, value in os.environ.items() if _REACHING.fullmatch(key)}
        return here | {"HOME": HOME, "PATH": path, "TERM": "dumb"}


def _is_whole(source: binaries.Source) -> bool:
    """Tell whether all of *source* has been built here: what is read-only there cannot be added to."""
    return all((source.built / name).exists() for name in (*source.packages, *source.data))


class Terminal:
    """A shell on *machine*, in the clone. When it is closed, everything that runs there ends."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        built = " ".join(str(each.built) for each in binaries.SOURCES if _is_whole(each))
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", _ENTER, "bash"]
        self._shell = subprocess.Popen(
            [*apart, str(machine.root), built, "/bin/bash", "-o", "pipefail"],
            env=machine.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.run(f"cd {CLONE}", timeout=60).code == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shell.kill()
        self._shell.communicate()

    def run(self, command: str, timeout: float) -> Ran:
        """Type *command*, show what it prints, and return how it went.

        :raises AssertionError: if it does not end in *timeout* seconds, or ends the shell.
        """
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        print(f"$ {command}", flush=True)
        began = time.monotonic()
        late = threading.Timer(timeout, self._shell.kill)
        late.start()
        printed: list[str] = []
        try:
            self._shell.stdin.write(f'{{ {command}\n}} </dev/null; echo "newcomer: ended with $?"\n')
            self._shell.stdin.flush()
            for line in self._shell.stdout:
                if ended := _ENDED.search(line):  # what it printed last may have no end of line
                    printed.append(line[: ended.start()])
                    took = time.monotonic() - began
                    return Ran(command=command, code=int(ended[1]), output="".join(printed), seconds=took)
                printed.append(line)
                sys.stdout.write(line)
        finally:
            late.cancel()
        raise AssertionError(f"{command}\nended the shell, or did not end in {timeout:g} s:\n{''.join(printed[-60:])}")


@contextmanager
def with_the_node(folder: Path, patience: float) -> Iterator[None]:
    """Hold this machine's one real node for what runs in *folder*; leave nothing of it behind.

    :raises NodeTakenError: if another cluster has it for more than *patience* seconds.
    """
    deadline = time.monotonic() + patience
    while not _taken(folder):
        if time.monotonic() > deadline:
            raise NodeTakenError(f"The one real node of this machine belongs to {node_lock.owner()}.")
        time.sleep(1)
    try:
        yield
    finally:
        node.dismantle(folder, None)


def _taken(folder: Path) -> bool:
    """Take the node for *folder* if nobody has it; what a dead owner left is cleared away."""
    owner = node_lock.owner()
    if owner is not None and not owner.alive:
        node.dismantle(owner.folder, None)
    with node_lock.guarded():
        if node_lock.owner() is not None:
            return False
        node_lock.take("newcomer", folder, forwarding=bridge.forwards())
        return True
