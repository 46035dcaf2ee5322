"""What a timeline is drawn from: a Pod and its Events, out of files or a cluster, and the record of a witness.

The cluster is asked through pykube, which is imported only then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sidecarpolicy.cli.manifests import BadInput, objects, read
from sidecarpolicy.core.timeline import BadWitness, Witness, read_witness
from sidecarpolicy.core.timeline.moments import epoch
from sidecarpolicy.core.timeline.seen import events_of, is_event
from sidecarpolicy.core.tree import Json, at, items

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 400, 401, 403, 404
TIMEOUT = 20.0
MOST_NAMES = 5
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
        raise BadInput([f"{source}: must hold the Pod {pod!r}; {_those([_name(body) for body in pods], pod)}"])
    if len(found) > 1:
        raise BadInput([f"{source}: holds {len(found)} Pods; name one: {_list([name for _, name in found])}"])
    states = sorted((body for body in chosen if _uid(body) == _uid(chosen[-1])), key=_version)
    _check(states[-1], source)
    return Subject(states=tuple(states), events=tuple(events_of(states[-1], filter(is_event, bodies))))


def from_cluster(pod: str, namespace: str, *, kubeconfig: str, context: str) -> Subject:
    """Return the Pod *pod* as it is now, with its Events; raise BadInput where that cannot be had."""
    import pykube  # a third of a second, and not needed for files
    from pykube.exceptions import KubernetesError, PyKubeError
    from requests import RequestException

    try:
        config = pykube.KubeConfig.from_file(kubeconfig) if kubeconfig else pykube.KubeConfig.from_env()
        if context:
            config.set_current_context(context)
        api = pykube.HTTPClient(config, timeout=TIMEOUT)
        where = namespace or config.namespace or "default"
        return _live(_Cluster(api, where), pod)
    except KeyError as error:
        raise BadInput([f"the kubeconfig has no {error}; compare with `kubectl config view`"]) from error
    except RequestException as error:
        raise BadInput([f"no answer from the API server: {error}"]) from error
    except (PyKubeError, KubernetesError, OSError) as error:
        raise BadInput([f"no way to the cluster: {error}; name a file with --kubeconfig or KUBECONFIG"]) from error


class _Cluster:
    """GETs below one namespace."""

    def __init__(self, api: Any, namespace: str) -> None:
        self._api, self.namespace = api, namespace

    def get(self, what: str, **params: str) -> tuple[int, Json]:
        """Return the status and the JSON of the answer."""
        answer = self._api.get(url=what, namespace=self.namespace, version="v1", params=params)
        body: Json = answer.json() if "json" in answer.headers.get("Content-Type", "") else {"message": answer.text}
        return answer.status_code, body


def _live(cluster: _Cluster, pod: str) -> Subject:
    status, state = cluster.get(f"pods/{pod}")
    if status == NOT_FOUND:
        raise BadInput([f"there is no Pod {pod!r} in namespace {cluster.namespace}{_hint(cluster, pod)}", GONE])
    _allowed(status, state, f"get the Pod {pod}")
    fields = f"involvedObject.kind=Pod,involvedObject.name={pod}"
    status, found = cluster.get("events", fieldSelector=fields)
    if status != FORBIDDEN:  # without them ranges are wider, and a note says so
        _allowed(status, found, "list Events")
    listed = [{"kind": "Event", **event} for event in items(found, "items")]
    state = {"apiVersion": "v1", "kind": "Pod", **state}
    return Subject(states=(state,), events=tuple(events_of(state, listed)), now=time.time())


def _allowed(status: int, body: Json, what: str) -> None:
    if status in (FORBIDDEN, UNAUTHORIZED):
        raise BadInput([f"the API server does not let you {what}: {body.get('message', status)}"])
    if status >= BAD_REQUEST:  # every HTTP error
        raise BadInput([f"could not {what}: {status}: {body.get('message', '')}"])


def _hint(cluster: _Cluster, pod: str) -> str:
    status, found = cluster.get("pods")
    names = [_name(each) for each in items(found, "items")] if status < BAD_REQUEST else []
    return f"; {_those(names, pod)}"


def _those(names: Iterable[str], wanted: str) -> str:
    known = list(dict.fromkeys(names))
    if not known:
        return "there is none at all"
    alike = [name for name in known if name.startswith(wanted)] or get_close_matches(wanted, known, MOST_NAMES)
    return f"did you mean {_list(alike)}?" if alike else f"there is {_list(known)}"


def _list(names: Sequence[str]) -> str:
    rest = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + rest


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
