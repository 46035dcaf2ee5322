"""What can be seen of the operator itself: who leads, since when nothing was heard, and the emergency switch.

A status is what the operator saw last. Where it is down, or was stopped, every answer about policies begins with that.
Who may not read the operator's namespace (most authors may not) is told nothing, and no error either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, say_next
from sidecarpolicy.cli.text import age
from sidecarpolicy.core.emergency_switch import bearer, reason_of
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import ApiError, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import NAMESPACES

LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")
SLACK = 2.0  # seconds: the server tells its time in whole ones, and a renewal takes a moment
DEFAULT_DURATION = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The operator's Lease: *holder* is empty where nobody leads, *silent* seconds since its last renewal.

    *watches*: the namespaces that the operator serves; empty for the whole cluster.
    """

    holder: str
    silent: float
    duration: float
    watches: tuple[str, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether somebody leads now."""
        return bool(self.holder) and self.silent <= self.duration + SLACK


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSeen:
    """*lease*: None where there is none or it may not be read (*lease_unknown*). *stop*: why everything is stopped.

    *stop* is empty where nothing is stopped, None where that may not be seen.
    """

    namespace: str
    lease: Lease | None
    lease_unknown: bool
    stop: str | None

    @property
    def banners(self) -> list[str]:
        """What stands above every answer, the more urgent first; nothing where all is well or unknown."""
        found = []
        if self.stop:
            why = "" if self.stop == "true" else f" ({self.stop})"
            place = bearer(self.namespace, namespaced=bool(self.watches))
            found.append(
                f"STOPPED{why}: no workload is changed, because {place} has the annotation {names.STOP}. To lift it: "
                f"sidecarpolicy start{self._where}"
            )
        if problem := self.problem:
            last = " What follows is what it saw last." if self.lease is not None else ""
            found.append(f"{problem}.{last} To find out more: sidecarpolicy check")
        return found

    @property
    def watches(self) -> tuple[str, ...]:
        """The namespaces that the operator serves; empty for the whole cluster, or where that may not be seen."""
        return self.lease.watches if self.lease is not None else ()

    @property
    def problem(self) -> str:
        """Why nobody leads; empty where somebody does, or it may not be seen."""
        if self.lease_unknown:
            return ""
        if self.lease is None:
            return (
                f"no operator has run in namespace {self.namespace}: it has no Lease {names.CONTROLLER} "
                "(--operator-namespace names another)"
            )
        if self.lease.is_kept:
            return ""
        last = f"the Lease {self.namespace}/{names.CONTROLLER} was last renewed {age(self.lease.silent)} ago"
        by = f" by {self.lease.holder}" if self.lease.holder else ", and then given up"
        return f"no operator is running: {last}{by}"

    @property
    def _where(self) -> str:
        from sidecarpolicy.cli.asking import OPERATOR_NAMESPACE

        return "" if self.namespace == OPERATOR_NAMESPACE else f" --operator-namespace {self.namespace}"

    def json(self) -> Json:
        """Return what `-o json` says of it."""
        lease = self.lease
        return {
            "namespace": self.namespace,
            "leading": None if self.lease_unknown else lease is not None and lease.is_kept,
            "holder": lease.holder if lease else "",
            "secondsSinceRenewal": round(lease.silent, 1) if lease else None,
            "stopped": None if self.stop is None else bool(self.stop),
            "stopReason": self.stop or "",
            "watchNamespaces": list(self.watches),
        }


def say_what_follows(asked: Asked, *commands: str) -> None:
    """Say on standard error that nobody carries out what was written, where that is so, and which command is next."""
    for banner in look_at_operator(asked)().banners:
        click.echo(banner, err=True)
    for each in commands:
        say_next(each)


def look_at_operator(asked: Asked) -> Callable[[], OperatorSeen]:
    """Begin to look; return what waits for the answer, and raises nothing but for a cluster that cannot be reached."""
    cluster, namespace = asked.cluster, asked.operator_namespace
    lease = cluster.soon(cluster.get, LEASES, namespace, names.CONTROLLER)
    place = cluster.soon(cluster.get, NAMESPACES, "", namespace)

    def seen() -> OperatorSeen:
        found, unknown = None, False
        stop: str | None = ""
        try:
            body = lease()
            found, stop = lease_of(body, cluster.now()), reason_of(at(body, "metadata"))
        except NotFound:
            pass
        except ApiError:
            unknown = True
        if found is not None and found.watches:  # it looks at no Namespace
            return OperatorSeen(namespace=namespace, lease=found, lease_unknown=unknown, stop=stop)
        try:
            stop = reason_of(at(place(), "metadata"))
        except NotFound:
            stop = ""  # there is nothing on which it could be switched on
        except ApiError:
            stop = None
        return OperatorSeen(namespace=namespace, lease=found, lease_unknown=unknown, stop=stop)

    return seen


def lease_of(body: Json, now: float) -> Lease:
    """Return what matters of the Lease *body* at *now* (seconds since the epoch)."""
    spec = at(body, "spec")
    renewed = seconds_of(spec.get("renewTime"))
    return Lease(
        holder=spec.get("holderIdentity") or "",
        silent=max(0.0, now - renewed),
        duration=float(spec.get("leaseDurationSeconds") or DEFAULT_DURATION),
        watches=watched_by(body),
    )


def watched_by(lease: Json) -> tuple[str, ...]:
    """Return the namespaces that the operator of that Lease serves; empty for the whole cluster."""
    text = str(at(lease, "metadata", "annotations").get(names.WATCH_NAMESPACES, ""))
    return tuple(sorted({each.strip() for each in text.split(",")} - {""}))


def namespaces_served(asked: Asked) -> tuple[str, ...]:
    """Return the namespaces that the operator serves; empty for the whole cluster, or where that may not be seen."""
    try:
        return watched_by(asked.cluster.get(LEASES, asked.operator_namespace, names.CONTROLLER))
    except (NotFound, Rejected):
        return ()
