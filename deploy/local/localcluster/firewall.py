"""What the real node has in the machine's packet filter, and how it goes away again.

Ours carry a comment; kube-proxy's are in chains called KUBE-…; nothing else is touched.
"""

from __future__ import annotations

import shlex
import subprocess

from localcluster import packages
from localcluster.errors import ClusterError, UnsupportedError

COMMENT = "sidecarpolicy-node"
_TABLES = ("filter", "nat", "mangle")


def check() -> None:
    """Return if the packet filter can be used and no other Kubernetes has rules in it.

    :raises UnsupportedError: if not.
    """
    done = _run("iptables", "-t", "nat", "-S")
    if done.returncode:
        raise UnsupportedError(f"iptables does not work on this machine: {done.stderr.strip()}")
    if any(line.startswith("-N KUBE-SERVICES") for line in done.stdout.splitlines()):
        raise UnsupportedError(
            "Another Kubernetes runs on this machine (there are rules of a kube-proxy that is not ours): "
            "its node and ours would fight over Services."
        )


def let_pods_out(bridge: str, subnet: str) -> None:
    """Let Pods reach each other and the world, also where the machine forwards nothing by default.

    :raises ClusterError: if a rule is refused.
    """
    comment = ("-m", "comment", "--comment", COMMENT)
    for rule in (
        ("-I", "FORWARD", "-i", bridge, *comment, "-j", "ACCEPT"),
        ("-I", "FORWARD", "-o", bridge, *comment, "-j", "ACCEPT"),
        ("-t", "nat", "-A", "POSTROUTING", "-s", subnet, "!", "-d", subnet, *comment, "-j", "MASQUERADE"),
    ):
        done = _run("iptables", *rule)
        if done.returncode:
            raise ClusterError(f"iptables {' '.join(rule)} was refused: {done.stderr.strip()}")


def clean() -> None:
    """Remove our rules and whatever a kube-proxy of ours left."""
    for tool in ("iptables", "ip6tables"):
        for table in _TABLES:
            listed = _run(tool, "-t", table, "-S")
            if listed.returncode:  # no such table, so nothing in it
                continue
            for arguments in removals(listed.stdout):
                _run(tool, "-t", table, *arguments)


def removals(listed: str) -> list[list[str]]:
    """Return the arguments that undo what is ours in the output of ``iptables -S``, in a working order."""
    lines = [shlex.split(line) for line in listed.splitlines()]
    chains = [words[1] for words in lines if words[0] == "-N" and words[1].startswith("KUBE-")]
    rules = [
        ["-D", *words[1:]]
        for words in lines
        if words[0] == "-A" and not words[1].startswith("KUBE-") and _is_ours(words)
    ]
    return [*rules, *(["-F", chain] for chain in chains), *(["-X", chain] for chain in chains)]


def _is_ours(words: list[str]) -> bool:
    jump = words[words.index("-j") + 1] if "-j" in words else ""
    return COMMENT in words or jump.startswith("KUBE-")


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(packages.program(tool)), "-w", "10", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
