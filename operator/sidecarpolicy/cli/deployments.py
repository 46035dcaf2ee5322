"""A Deployment in a file, seen as the core sees one of a cluster.

The API server has checked what the operator reads; what stands in a file comes unchecked, so whatever the core takes
for granted of a Deployment is checked here, with the path in the author's YAML.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecarpolicy import names
from sidecarpolicy.cli.locating import located
from sidecarpolicy.cli.policies import in_namespace
from sidecarpolicy.core.claims import IDENTITY
from sidecarpolicy.core.kinds.deployment import ADDRESS, workload_from
from sidecarpolicy.core.reading import Cursor, Problem
from sidecarpolicy.core.record import ENV, INIT_CONTAINERS, PULL_SECRETS, VOLUME_MOUNTS, VOLUMES
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.manifests import BadInput, Object

INT32 = 2**31 - 1
DROPPED = ("extensions/v1beta1", "apps/v1beta1", "apps/v1beta2")
"""API versions of Deployment that Kubernetes 1.16 stopped serving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A Deployment as it was written, and what matters of it; *template* is its Pod template."""

    found: Object
    body: Json
    workload: Workload

    @property
    def template(self) -> Json:
        """The Pod template."""
        return at(self.body, *self.workload.template)


def is_deployment(found: Object) -> bool:
    """Whether *found* is a Deployment; the API versions that Kubernetes dropped in 1.16 pass as something else."""
    return (found.api_version, found.kind) == (ADDRESS.api_version, ADDRESS.kind)


def is_dropped(found: Object) -> bool:
    """Whether *found* is a Deployment of an API version that no cluster serves any more."""
    return found.kind == ADDRESS.kind and found.api_version in DROPPED


def is_patch(body: Json) -> bool:
    """Whether the Deployment *body* is no whole one but a patch for one, as Kustomize takes it."""
    spec = body.get("spec")
    if spec is None:
        return True
    template = spec.get("template", {}) if isinstance(spec, dict) else spec
    if template is None or template == {}:
        return True
    pod = template.get("spec", {}) if isinstance(template, dict) else template
    return pod is None or (isinstance(pod, dict) and pod.get("containers") is None)


def manifest_from(found: Object, default_namespace: str) -> Manifest:
    """Return the Deployment *found*, in *default_namespace* if it names none; raise BadInput with every problem."""
    body = found.value
    problems = _problems(body)
    if problems:
        raise BadInput([located(found, problem) for problem in problems])
    metadata = at(in_namespace(body, default_namespace), "metadata")
    seen = {key: value for key, value in metadata.items() if key not in ("managedFields", "uid", "generation")}
    return Manifest(
        found=found,
        body=body,
        workload=workload_from(
            {"metadata": {**seen, "uid": "", "resourceVersion": "0", "generation": 0}, "spec": body["spec"]}
        ),
    )


def with_change(body: Json, template: Json, record: str) -> Json:
    """Return the Deployment *body* with *template* and the record's text; keys keep their places.

    The core drops lists that are empty; those that the author wrote out stay as they are.
    """
    spec = body["spec"]
    old, new = at(spec, "template", "spec"), at(template, "spec")
    empty = {key: new.get(key, value) for key, value in old.items() if key in new or not value}
    after = {**body, "spec": {**spec, "template": {**template, "spec": {**empty, **new}}}}
    annotations = dict(at(body, "metadata", "annotations"))
    if record == annotations.get(names.RECORD, ""):
        return after
    if record:
        annotations[names.RECORD] = record
    else:
        del annotations[names.RECORD]
    metadata = {**body["metadata"], "annotations": annotations}
    if not annotations:
        del metadata["annotations"]
    return {**after, "metadata": metadata}


def _problems(body: Json) -> list[Problem]:
    root = Cursor(body, "")
    metadata, spec = root.field("metadata"), root.field("spec")
    metadata.mapping()
    spec.mapping()
    name = metadata.field("name")
    if not name.text():
        name.wrong("must be given")
    metadata.field("namespace").text()
    _texts(metadata.field("labels"))
    _texts(metadata.field("annotations"))
    for owner in metadata.field("ownerReferences").entries():
        _object(owner)
        for key in ("kind", "name"):
            owner.field(key).text()
            if owner.field(key).absent:
                owner.field(key).wrong("must be given")
    selector, strategy, template = spec.field("selector"), spec.field("strategy"), spec.field("template")
    for number in ("replicas", "minReadySeconds", "progressDeadlineSeconds"):
        spec.field(number).integer(0, least=0, most=INT32)
    selector.mapping()
    _named(selector.field("matchExpressions"), "key")
    strategy.mapping()
    strategy.field("rollingUpdate").mapping()
    template.mapping()
    if template.absent:
        template.wrong("must be given")
    of_pods, pod = template.field("metadata"), template.field("spec")
    of_pods.mapping()
    _texts(of_pods.field("labels"))
    _texts(of_pods.field("annotations"))
    pod.mapping()
    containers = pod.field("containers")
    if not list(containers.entries()):
        containers.wrong("must hold at least one container")
    _named(pod.field(VOLUMES), IDENTITY[VOLUMES])
    for entry in pod.field(PULL_SECRETS).entries():
        _object(entry)
        entry.field("name").text()
    for account in ("serviceAccountName", "serviceAccount"):
        pod.field(account).text()
    for listed in (pod.field(INIT_CONTAINERS), containers):
        _named(listed, "name")
        for container in listed.entries():
            _container(container)
    return root.problems


def _container(container: Cursor) -> None:
    container.field("image").text()
    for additions in (ENV, VOLUME_MOUNTS):
        _named(container.field(additions), IDENTITY[additions])
    for port in container.field("ports").entries():
        _object(port)


def _object(cursor: Cursor) -> None:
    """Note an entry of a list that is no object; null is none either, though a field may be null."""
    if cursor.absent:
        cursor.wrong("must be a mapping, not null")
    cursor.mapping()


def _texts(cursor: Cursor) -> None:
    values = cursor.value
    if type(values) is dict and all(type(each) is str for each in values.values()):
        return  # as nearly always: no cursor for each
    for key in cursor.mapping():
        cursor.field(str(key)).text()


def _named(cursor: Cursor, key: str) -> None:
    values = cursor.value
    if type(values) is list and all(type(each) is dict and each.get(key) and type(each[key]) is str for each in values):
        return  # as nearly always: no cursor for each
    for entry in cursor.entries():
        _object(entry)
        name = entry.field(key).text()
        if not name and isinstance(entry.value, dict):
            entry.field(key).wrong("must be given")
