"""What a timeline is drawn from: a Pod and its Events, out of files or a cluster, and the record of a witness.

What asks the cluster is imported only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sidecarpolicy.cli.hints import did_you_mean, listing
from sidecarpolicy.cli.manifests import BadInput, objects, read
from sidecarpolicy.core.timeline import BadWitness, Witness, read_witness
from sidecarpolicy.core.timeline.moments import epoch
from sidecarpolicy.core.timeline.seen import events_of, is_event
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.port import ApiError, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, PODS

if TYPE_CHECKING:
    from sidecarpolicy.cli.cluster import Cluster

CORE_EVENTS = Resource(group="", version="v1", plural="events", kind="Event")
OF_PODS = ("", "pod", "pods", "po")
OF_DEPLOYMENTS = ("deployment", "deployments", "deploy", "deployment.apps", "deployments.apps")
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


def from_cluster(pod: str, namespace: str, *, kubeconfig: str, context: str) -> Subject:
    """Return the Pod *pod* as it is now, with its Events; raise BadInput where that cannot be had.

    `deployment/NAME` is the newest Pod of that Deployment.
    """
    from sidecarpolicy.cli.cluster import Cluster, explanation  # not needed for files
    from sidecarpolicy.kube.credentials import ConnectionProblem

    try:
        cluster = Cluster(kubeconfig, context)
    except ConnectionProblem as problem:
        raise BadInput([str(problem)]) from problem
    try:
        return _live(cluster, namespace or cluster.namespace, pod)
    except ApiError as error:
        raise BadInput([explanation(error, cluster.server)]) from error


def _live(cluster: Cluster, namespace: str, pod: str) -> Subject:
    kind, _, name = pod.rpartition("/")
    if kind in OF_DEPLOYMENTS:
        pod = _newest_pod(cluster, namespace, name)
    elif kind in OF_PODS:
        pod = name
    else:
        raise BadInput([f"{pod!r} names no Pod: it must be NAME, pod/NAME or deployment/NAME"])
    try:
        state = cluster.get(PODS, namespace, pod)
    except NotFound as error:
        hint = _hint(cluster, namespace, pod)
        raise BadInput([f"there is no Pod {pod!r} in namespace {namespace}{hint}", GONE]) from error
    try:
        selector = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        listed = cluster.list(CORE_EVENTS, namespace, field_selector=selector)
    except Rejected as error:
        if error.reason != "Forbidden":
            raise
        listed = []  # without them ranges are wider, and a note says so
    return Subject(states=(state,), events=tuple(events_of(state, listed)), now=cluster.now())


def _newest_pod(cluster: Cluster, namespace: str, name: str) -> str:
    """Return the Pod of the Deployment *name* that was created last; raise BadInput where there is none."""
    try:
        labels = at(cluster.get(DEPLOYMENTS, namespace, name), "spec", "selector", "matchLabels")
    except NotFound as error:
        raise BadInput([f"there is no Deployment {name!r} in namespace {namespace}"]) from error
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = cluster.list(PODS, namespace, label_selector=selector)
    if not pods:
        raise BadInput([f"Deployment {namespace}/{name} has no Pod"])
    newest = max(pods, key=lambda each: (str(at(each, "metadata").get("creationTimestamp")), _name(each)))
    return _name(newest)


def _hint(cluster: Cluster, namespace: str, pod: str) -> str:
    try:
        names = [_name(each) for each in cluster.list(PODS, namespace)]
    except ApiError:
        return ""
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
