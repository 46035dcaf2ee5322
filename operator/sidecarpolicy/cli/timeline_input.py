"""What a timeline is drawn from: a Pod and its Events, out of files or a cluster, and the record of a witness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.hints import did_you_mean, listing
from sidecarpolicy.cli.manifests import BadInput, objects, read
from sidecarpolicy.cli.namespace_name import DEPLOYMENT_WORDS
from sidecarpolicy.core.timeline import BadWitness, Witness, read_witness
from sidecarpolicy.core.timeline.moments import epoch
from sidecarpolicy.core.timeline.seen import events_of, is_event
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.port import ApiError, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import PODS

CORE_EVENTS = Resource(group="", version="v1", plural="events", kind="Event")
OF_PODS = ("", "pod", "pods", "po")
GONE = "one that is gone says nothing any more: record it while it lives (sidecarpolicy timeline --help)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One Pod: its states, oldest first, its Events, and when they were read (seconds since the epoch), if known."""

    states: tuple[Json, ...]
    events: tuple[Json, ...]
    now: float | None = None


def from_files(paths: Sequence[Path], pod: str, namespace: str) -> Subject:
    """Return the Pod *pod* (empty: the only one) in manifests, as `kubectl get -o yaml` prints them.

    Several states of it, as `kubectl get --watch` prints them, all count. Raises BadInput.
    """
    bodies = [body for _, body in objects(read(paths))]
    source = ", ".join(str(path) for path in paths)
    pods = [body for body in bodies if body.get("kind") == "Pod"]
    if not pods:
        raise BadInput([f"{source}: must hold a Pod (kubectl get pod,events -o yaml); it holds {_kinds(bodies)}"])
    chosen = [body for body in pods if (not pod or _name(body) == pod) and namespace in ("", _namespace(body))]
    found = list(dict.fromkeys((_namespace(body), _name(body)) for body in chosen))
    if not found:
        raise BadInput([f"{source}: must hold the Pod {pod!r}; {did_you_mean([_name(body) for body in pods], pod)}"])
    if len(found) > 1:
        raise BadInput([f"{source}: holds {len(found)} Pods; name one: {listing([name for _, name in found])}"])
    states = sorted((body for body in chosen if _uid(body) == _uid(chosen[-1])), key=_version)
    _check(states[-1], source)
    return Subject(states=tuple(states), events=tuple(events_of(states[-1], filter(is_event, bodies))))


def from_cluster(asked: Asked, pod: str) -> Subject:
    """Return the Pod *pod* as it is now, with its Events; raise click errors and ApiError where that cannot be had.

    `deployment/NAME` is the newest Pod of that Deployment.
    """
    kind, _, name = pod.rpartition("/")
    kind = kind.lower()
    if kind not in (*DEPLOYMENT_WORDS, *OF_PODS) or not name:
        raise click.UsageError(f"{pod!r} names no Pod: it must be NAME, pod/NAME or deployment/NAME")
    cluster, namespace = asked.cluster, asked.namespace
    pod = _newest_pod(asked, namespace, name) if kind in DEPLOYMENT_WORDS else name
    try:
        state = cluster.get(PODS, namespace, pod)
    except NotFound as error:
        hint = _hint(asked, namespace, pod)
        raise click.ClickException(f"there is no Pod {pod!r} in namespace {namespace}{hint}\n{GONE}") from error
    try:
        selector = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        listed = cluster.list(CORE_EVENTS, namespace, field_selector=selector)
    except Rejected as error:
        if error.reason != "Forbidden":
            raise
        listed = []  # without them ranges are wider, and a note says so
    return Subject(states=(state,), events=tuple(events_of(state, listed)), now=cluster.now())


def _newest_pod(asked: Asked, namespace: str, name: str) -> str:
    """Return the Pod of the Deployment *name* that was created last; raise click.ClickException where there is none."""
    labels = at(asked.deployment(namespace, name), "spec", "selector", "matchLabels")
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = asked.cluster.list(PODS, namespace, label_selector=selector)
    if not pods:
        raise click.ClickException(f"Deployment {namespace}/{name} has no Pod")
    newest = max(pods, key=lambda each: (str(at(each, "metadata").get("creationTimestamp")), _name(each)))
    return _name(newest)


def _hint(asked: Asked, namespace: str, pod: str) -> str:
    try:
        names = [_name(each) for each in asked.cluster.list(PODS, namespace)]
    except ApiError:
        return ""
    if not names:
        asked.refuse_absent(namespace)
    return f"; {did_you_mean(names, pod)}"


def witness_from(paths: Sequence[Path]) -> Witness:
    """Return the record in *paths*, all of one node's clock; raise BadInput."""
    lines: list[str] = []
    problems: list[str] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            read_witness(text)
            lines.append(text)
        except (BadWitness, UnicodeDecodeError, OSError) as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise BadInput(problems)
    found = read_witness("\n".join(lines))
    if not found.lines:
        raise BadInput([f"{', '.join(str(path) for path in paths)}: must have a line at least"])
    return found


def _check(pod: Json, source: str) -> None:
    if not items(at(pod, "spec"), "containers"):
        raise BadInput([f"{source}: Pod {_name(pod)}: spec.containers: must be there; give the whole object"])
    if epoch(at(pod, "metadata").get("creationTimestamp")) is None:
        lifeless = "must be that of a Pod in a cluster: this one was never created, so it has no life to draw"
        raise BadInput([f"{source}: Pod {_name(pod)}: metadata.creationTimestamp: {lifeless}"])


def _kinds(bodies: Sequence[Json]) -> str:
    kinds = list(dict.fromkeys(str(body.get("kind", "something without a kind")) for body in bodies))
    return ", ".join(kinds) or "nothing"


def _name(body: Json) -> str:
    return str(at(body, "metadata").get("name", ""))


def _namespace(body: Json) -> str:
    return str(at(body, "metadata").get("namespace", "default"))


def _uid(body: Json) -> str:
    return str(at(body, "metadata").get("uid", ""))


def _version(body: Json) -> int:
    version = str(at(body, "metadata").get("resourceVersion", ""))
    return int(version) if version.isdigit() else 0
