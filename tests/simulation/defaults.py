"""What the API server fills in: the defaults of Pod templates and Deployments, and those of our own kinds' schema."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from sidecarpolicy import names
from sidecarpolicy.core.tree import Json, at, items

CRDS = Path(__file__).parent.parent.parent / "crds"

POD = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
CONTAINER = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
PROBE = {"failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1}
DEPLOYMENT = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}


def defaulted_deployment(body: Json) -> Json:
    """A Deployment as it is stored."""
    spec = {**DEPLOYMENT, "strategy": ROLLING, **at(body, "spec")}
    template = at(spec, "template")
    return {**body, "spec": {**spec, "template": defaulted_template(template)}}


def defaulted_template(template: Json) -> Json:
    """A Pod template as it is stored; the very same one where nothing is missing."""
    spec = at(template, "spec")
    containers = [_container(each) for each in items(spec, "containers")]
    inits = [_container(each) for each in items(spec, "initContainers")]
    volumes = [_volume(each) for each in items(spec, "volumes")]
    filled = {**POD, **spec}
    for listed, content in (("containers", containers), ("initContainers", inits), ("volumes", volumes)):
        if content:
            filled[listed] = content
        else:
            filled.pop(listed, None)
    if filled == spec:
        return template
    return {**template, "spec": filled}


def _container(container: Json) -> Json:
    if "terminationMessagePolicy" in container and "imagePullPolicy" in container and "resources" in container:
        return container  # it has been here before
    image = container.get("image", "")
    latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
    filled = {**CONTAINER, "imagePullPolicy": "Always" if latest else "IfNotPresent", **container}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if filled.get(probe):
            filled[probe] = {**PROBE, **filled[probe]}
            if "httpGet" in filled[probe]:
                filled[probe]["httpGet"] = {"scheme": "HTTP", "path": "/", **filled[probe]["httpGet"]}
    if filled.get("ports"):
        filled["ports"] = [{"protocol": "TCP", **each} for each in filled["ports"]]
    return {key: value for key, value in filled.items() if value != []}


def _volume(volume: Json) -> Json:
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if source in volume and "defaultMode" not in volume[source]:
            return {**volume, source: {**volume[source], "defaultMode": 420}}
    return volume


def defaulted_policy(kind: str, body: Json) -> Json:
    """A policy as it is stored, by the defaults in our own CRD."""
    filled: Json = _filled(body, _schema(kind))
    return filled


@functools.cache
def _schema(kind: str) -> Json:
    text = (CRDS / f"{names.PLURALS[kind]}.yaml").read_text(encoding="utf-8")
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = definition["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    return {"properties": {key: schema[key] for key in ("spec", "status")}}


def _filled(value: Any, schema: Json) -> Any:
    """Return *value* with the defaults of a structural *schema*."""
    if isinstance(value, dict):
        result = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if name not in result and "default" in inner:
                result[name] = inner["default"]
            if name in result:
                result[name] = _filled(result[name], inner)
        return result
    if isinstance(value, list) and "items" in schema:
        return [_filled(each, schema["items"]) for each in value]
    return value
