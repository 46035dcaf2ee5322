"""Removing the real node's traces: mounts, files, interfaces, rules, groups.

It needs nothing but fixed names and paths, so it works the same after an orderly stop, after a crash,
and for a node whose owner is long gone. Processes have ended before (see node.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from localcluster import bridge, cgroups, firewall, packages
from localcluster.errors import ComponentError
from localcluster.node_configs import NETWORK, ROOT, RUN

_SHARED = (
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
)
"""Folders with a fixed name that hold something of ours; they go if that leaves them empty."""


def remove() -> None:
    """Remove everything that a real node leaves on the machine.

    :raises ComponentError: if a mount cannot be taken away; files under it are then left alone.
    """
    cgroups.kill_members()
    firewall.clean()
    bridge.remove()
    _unmount()
    for trace in _elsewhere():
        trace.unlink(missing_ok=True)
    for folder in map(Path, _SHARED):
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
    for folder in (ROOT, RUN):
        if folder.exists():
            shutil.rmtree(folder)
    cgroups.remove()


def _unmount() -> None:
    """Take away every mount below our folders: files under one that stays could be somebody else's."""
    if mounts := _mounts():
        command = [str(packages.program("umount")), "--lazy", "--no-mtab", *map(str, mounts)]
        subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if stuck := _mounts():
        raise ComponentError("node", f"left mounts that cannot be taken away: {', '.join(map(str, stuck))}", None)


def _mounts() -> list[Path]:
    """Return the mounts below our folders, the deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        place = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]))
        if place.is_relative_to(ROOT) or place.is_relative_to(RUN):
            found.append(place)
    return found[::-1]  # listed in the order of mounting, so a mount is undone before what it is on


def _elsewhere() -> list[Path]:
    """Return our files in the few places that containerd, CNI and kubelet do not let us choose."""
    tasks = list((RUN / "containerd/io.containerd.runtime.v2.task/k8s.io").glob("*"))
    shims = [task / "address" for task in tasks]
    cni = Path("/var/lib/cni/results")
    return [
        *(Path(shim.read_text().removeprefix("unix://")) for shim in shims if shim.exists()),
        *cni.glob(f"{NETWORK}-*"),
        *(cni / f"cni-loopback-{task.name}-lo" for task in tasks),
        *(
            link
            for link in Path("/var/log/containers").glob("*.log")
            if link.is_symlink() and link.readlink().is_relative_to(ROOT)
        ),
        Path("/var/lib/kubelet/device-plugins/kubelet.sock"),
    ]
