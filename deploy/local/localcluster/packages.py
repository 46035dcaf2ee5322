"""Debian packages that the real node is made of, and what else the machine must have.

A missing program is installed by the package's name, said aloud first, and only on Debian or Ubuntu
as root. Everywhere else the error names what is missing and the user decides.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from localcluster.errors import UnsupportedError
from localcluster.narration import say

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where system programs are; a user's PATH may lack the sbin folders."""

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
    "umount": "mount",
}
"""Program to the Debian package that holds it."""

_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


def program(name: str) -> Path:
    """Return where a system program is.

    :raises UnsupportedError: if it is missing.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if found is None:
        raise UnsupportedError(f"{name} is missing on this machine.")
    return Path(found)


def cni_plugins() -> Path | None:
    """Return the folder of the CNI plugins, if they are installed."""
    return next((folder for folder in _CNI_FOLDERS if (folder / "bridge").exists()), None)


def static_busybox() -> Path | None:
    """Return a busybox that needs no library, and so runs in an empty image."""
    found = shutil.which("busybox", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    return Path(found) if found and is_static(Path(found)) else None


def is_static(path: Path) -> bool:
    """Return whether *path* is an ELF program without an interpreter, that is, statically linked."""
    with path.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":  # 64 bit
            return False
        table, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
        file.seek(table)
        entries = file.read(size * count)
    interpreter = 3
    return all(struct.unpack_from("<I", entries, size * number)[0] != interpreter for number in range(count))


def missing() -> list[str]:
    """Return the Debian packages that a real node needs and this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    lacking = [package for name, package in PACKAGES.items() if shutil.which(name, path=path) is None]
    if cni_plugins() is None:
        lacking.append("containernetworking-plugins")
    if static_busybox() is None:
        lacking.append("busybox-static")
    return sorted(set(lacking))


def install(packages: list[str]) -> None:
    """Install Debian packages, after saying so.

    :raises UnsupportedError: if this is neither Debian nor Ubuntu, if the user is not root, or if apt fails.
    """
    if not packages:
        return
    names = " ".join(packages)
    if not _is_debian():
        raise UnsupportedError(f"These Debian packages or what is in them are missing: {names}.")
    if os.geteuid() != 0:
        raise UnsupportedError(f"As root, install: apt-get install {names}")
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]
    say(f"Installing Debian packages: {names}")
    if _apt([*command, *packages]).returncode:
        _apt(["apt-get", "update"])  # a fresh machine has no package lists
        done = _apt([*command, *packages])
        if done.returncode:
            raise UnsupportedError(f"apt-get install {names} failed:\n{done.stdout[-2000:]}")


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _is_debian() -> bool:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    kin = f"{facts.get('ID', '')} {facts.get('ID_LIKE', '')}".replace('"', "").split()
    return bool({"debian", "ubuntu"} & set(kin))
