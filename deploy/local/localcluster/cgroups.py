"""The control group that all Pods of the real node live in, on cgroup v1 and v2.

It is the kubelet's ``cgroupRoot``. That keeps this node apart from any other kubelet of the machine,
and makes the end sure: whatever is still in it when everything else has stopped is killed by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from localcluster import processes
from localcluster.errors import ComponentError, UnsupportedError

NAME = "sidecarpolicy-node"


def is_v2() -> bool:
    """Return whether this machine has the one hierarchy of cgroup v2 (a hybrid counts as v1)."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def create() -> None:
    """Create our group in every hierarchy.

    :raises UnsupportedError: if this machine does not let us, as in a container without groups of its own.
    """
    try:
        for mount in _mounts():
            if is_v2():
                controllers = (mount / "cgroup.controllers").read_text().split()
                (mount / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))
            group = mount / NAME
            group.mkdir(exist_ok=True)
            for setting in (
                "cpuset.cpus",
                "cpuset.mems",
            ):  # v1: empty in a new group, which no process can join
                if not is_v2() and (group / setting).exists():
                    (group / setting).write_text((mount / setting).read_text())
    except OSError as error:
        raise UnsupportedError(f"Control groups cannot be set up here ({error}); a real node needs that.") from error


def kill_members() -> None:
    """Kill every process in our group; return when they are gone.

    :raises ComponentError: if some are still there after ten seconds.
    """

    def gone() -> bool:
        members = _members()
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not members

    _thaw()
    if not processes.until(gone, 10):
        raise ComponentError("containers", f"cannot be killed: processes {sorted(_members())}", None)


def remove() -> None:
    """Remove our group from every hierarchy, with all groups in it."""
    for group in _groups():
        processes.until(lambda group=group: _removed(group), 5)  # type: ignore[misc]


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()  # the kernel's own files in it do not count
        except FileNotFoundError:
            continue
        except OSError:  # a process in it has not been reaped yet
            return False
    return True


def _members() -> set[int]:
    return {
        int(pid)
        for group in _groups()
        for members in group.rglob("cgroup.procs")
        for pid in _lines(members)
        if processes.identify(int(pid))
    }


def _thaw() -> None:
    """A frozen process would not even die."""
    for group in _groups():
        for state, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for file in group.rglob(state):
                with contextlib.suppress(FileNotFoundError):  # the group went away meanwhile
                    file.write_text(thawed)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # the group went away meanwhile
        return []


def _groups() -> Iterator[Path]:
    return (mount / NAME for mount in _mounts() if (mount / NAME).exists())


def _mounts() -> list[Path]:
    """Return where the hierarchies are mounted."""
    found = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind in {"cgroup", "cgroup2"}:
            found.append(Path(place))
    return found
