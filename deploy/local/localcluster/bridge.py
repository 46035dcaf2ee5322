"""The bridge that the Pods of the real node hang on, and that the API server listens on for them."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

from localcluster import firewall, packages
from localcluster.errors import ClusterError, UnsupportedError

NAME = "sidecarpolicy0"
_CANDIDATES = ("10.244.0.0/24", "10.245.0.0/24", "172.29.244.0/24", "192.168.244.0/24")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def free_subnet() -> ipaddress.IPv4Network:
    """Return a subnet for Pods that no route of this machine overlaps.

    :raises UnsupportedError: if all candidates are in use.
    """
    routes = _routes()
    for candidate in map(ipaddress.IPv4Network, _CANDIDATES):
        if not any(candidate.overlaps(route) for route in routes):
            return candidate
    raise UnsupportedError(f"This machine has routes into all of {', '.join(_CANDIDATES)}: none is left for Pods.")


def address_of(subnet: ipaddress.IPv4Network) -> str:
    """Return the bridge's own address in the Pods' subnet."""
    return str(subnet[1])


def create(subnet: ipaddress.IPv4Network) -> None:
    """Create the bridge and let packets through.

    :raises ClusterError: if the machine refuses.
    """
    _ip("link", "add", NAME, "type", "bridge")
    _ip("address", "add", f"{address_of(subnet)}/{subnet.prefixlen}", "dev", NAME)
    _ip("link", "set", NAME, "up")
    if not forwards():
        set_forwarding(on=True)
    firewall.let_pods_out(NAME, str(subnet))


def remove() -> None:
    """Remove the bridge, if it is there."""
    if Path("/sys/class/net", NAME).exists():
        _ip("link", "delete", NAME)


def forwards() -> bool:
    """Return whether this machine forwards packets between its interfaces."""
    return _FORWARDING.read_text().strip() == "1"


def set_forwarding(*, on: bool) -> None:
    """Make this machine forward packets, or not.

    :raises UnsupportedError: if it may not be changed here.
    """
    try:
        _FORWARDING.write_text("1" if on else "0")
    except OSError as error:
        raise UnsupportedError(f"{_FORWARDING} cannot be set ({error}): Pods would reach nobody.") from error


def filters_bridged_packets() -> bool:
    """Return whether packets between two Pods of the bridge pass the packet filter.

    Only then are answers of a Service translated back; otherwise everything that goes to a Service
    has to be masqueraded.
    """
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    return setting.exists() and setting.read_text().strip() == "1"


def _routes() -> list[ipaddress.IPv4Network]:
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask, *_ = line.split()
        network = int.from_bytes(bytes.fromhex(destination), "little")
        bits = int.from_bytes(bytes.fromhex(mask), "little").bit_count()
        if bits and interface != NAME:
            found.append(ipaddress.IPv4Network((network, bits), strict=False))
    return found


def _ip(*arguments: str) -> None:
    done = subprocess.run(
        [packages.program("ip"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise ClusterError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")
