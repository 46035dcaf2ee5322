"""Whether Pod Security admits a policy's sidecars in a namespace: what is asked, and what the answer says.

Pod Security judges Pods, never templates: a Deployment that it will not have is stored, and its ReplicaSet fails. So a
Pod is asked about, by dry run, before the first Deployment of a namespace is changed. It has the sidecars of one
revision, with their volumes and what the Pod template says for all containers; in place of the application it has a
container that every standard allows. So a refusal is about the sidecars, and one answer serves every Deployment of the
namespace whose template says the same. What the application itself does is its owner's affair.

Where the Pod is refused without the sidecars too, the owner's template or an injecting webhook is the reason: then
nothing is said about the sidecars.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.nodes import WINDOWS
from sidecarpolicy.core.tree import Json, at, compact

if TYPE_CHECKING:
    from sidecarpolicy.core.revision import Revision

# Labels of a namespace by which it enforces a standard (k8s.io/pod-security-admission/api).
ENFORCE, ENFORCE_VERSION = "pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version"

# What of a Pod's spec decides about all of its containers. Pod Security exempts whole runtime classes.
FOR_ALL = ("securityContext", "hostUsers", "os", "runtimeClassName")

NO_SETTINGS = ""
"""The settings of a template that says nothing for all containers."""

# How Pod Security begins to say no (k8s.io/pod-security-admission/admission, EvaluatePod).
VIOLATES = "violates PodSecurity"

PLACEHOLDER = "application"
NAME = "sidecarpolicy-dry-run-"

# What every standard allows, on Linux and on Windows.
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_ON_WINDOWS: Json = {"runAsNonRoot": True}


class Question(NamedTuple):
    """What one answer is about: *revision* of *policy* in *namespace*, on templates with the same *settings*.

    *sidecars*: those that are left of the revision where an owner leaves some out; empty for all.
    """

    policy: PolicyId
    revision: str
    namespace: str
    settings: str
    sidecars: tuple[str, ...] = ()


def settings_of(spec: Json) -> str:
    """Return what a Pod's *spec* says for all of its containers, as a text: equal settings are equal texts."""
    said = {key: spec[key] for key in FOR_ALL if spec.get(key) not in (None, {})}
    return sys.intern(compact(said)) if said else NO_SETTINGS


def enforced(labels: Mapping[str, str]) -> tuple[str, str]:
    """What a namespace with these *labels* enforces: the answer holds as long as that is the same."""
    return labels.get(ENFORCE, ""), labels.get(ENFORCE_VERSION, "")


def question(revision: Revision, namespace: str, settings: str) -> Question:
    """Return what is to be asked about *revision*, as it is for one workload."""
    left = tuple(each.name for each in revision.sidecars) if revision.adjustment.skipped else ()
    return Question(revision.policy, revision.name, namespace, settings, left)


def a_pod(asked: Question, revision: Revision | None) -> Json:
    """Return the Pod that is asked about; None for one without sidecars, which tells whose a refusal is."""
    said: dict[str, Any] = json.loads(asked.settings) if asked.settings else {}
    sidecars = [
        each for each in (revision.sidecars if revision else ()) if not asked.sidecars or each.name in asked.sidecars
    ]
    taken = {each.name for each in sidecars}
    name = next(name for name in (PLACEHOLDER, *(f"{PLACEHOLDER}-{n}" for n in range(17))) if name not in taken)
    windows = at(said, "os").get("name") == WINDOWS
    application = {
        "name": name,
        "image": "placeholder",
        "securityContext": RESTRICTED_ON_WINDOWS if windows else RESTRICTED,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": NAME, "namespace": asked.namespace},
        "spec": {
            **said,
            "initContainers": [each.container for each in sidecars],
            "containers": [application],
            "volumes": list(revision.volumes) if revision else [],
            "automountServiceAccountToken": False,
        },
    }


def words_of(message: str) -> str:
    """Return what Pod Security says in the API server's *message*; empty where somebody else refuses, or nobody.

    The name of the Pod that was made up stays out: it is another one each time.
    """
    _, found, rest = message.partition(VIOLATES)
    return found + rest
