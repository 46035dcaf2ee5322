"""From an author's sidecar to a native sidecar: the gate, the Pod's readiness, the seal; and the canonical form.

**The gate.** The kubelet starts the next container when a sidecar has *started*: its process runs, `postStart` has
returned and its `startupProbe` has succeeded; it never waits for a readinessProbe (KEP-753). `WaitUntilReady`
therefore needs a startup probe and derives one from the readinessProbe where the author wrote none.

**The seal.** A container without `lifecycle` gets `lifecycle: {}`, which does nothing, is stored, and makes the API
server refuse the object (422) where anything strips `restartPolicy: Always` instead of creating Pods that hang in
`Init:0/1` for ever.

**Canonical form.** What is rendered goes once through the API server as a PodTemplate, by dry run, with a placeholder
container that carries the application's additions. The server validates it in full and fills in every default; the
result is what a revision stores and what gets written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil
from typing import Any

from sidecarpolicy.core.policy import Application, Policy, Sidecar
from sidecarpolicy.core.record import METADATA, PULL_SECRETS
from sidecarpolicy.core.restarts import WORD
from sidecarpolicy.core.revision import InjectedSidecar, Revision, revision_name
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.names import PodReadiness, Startup

# A derived gate gives a sidecar this long to become ready, refusing or hanging, before the kubelet restarts it.
GATE_SECONDS = 120

# Values that the API server does not store.
ZEROS: tuple[Any, ...] = (None, "", 0, False, [], {})

# How long a Pod has to terminate where nothing is said.
DEFAULT_GRACE_SECONDS = 30

HOOKS = ("postStart", "preStop")
HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
PLACEHOLDER = "application"


class NativeSidecarsUnsupported(Exception):
    """The API server dropped `restartPolicy: Always` of an init container: it is older than Kubernetes 1.29."""


def render(sidecar: Sidecar) -> Json:
    """Return the complete init container that *sidecar* stands for, before the API server's defaults.

    An empty list is none, as the API server has it (`omitempty`).
    """
    container = {key: value for key, value in sidecar.container.items() if value != []}
    container |= {"name": sidecar.name, "restartPolicy": "Always"}
    probe = at(container, "readinessProbe")
    if sidecar.startup is Startup.WAIT_UNTIL_READY and probe and not container.get("startupProbe"):
        container["startupProbe"] = startup_gate(probe)
    if sidecar.pod_readiness is PodReadiness.EXCLUDE:
        container.pop("readinessProbe", None)
    if not container.get("lifecycle"):
        container["lifecycle"] = {}
    return container


def startup_gate(readiness: Json) -> Json:
    """Return the startup probe that holds the next container back until *readiness* would first succeed.

    Period and time-out are both the readiness probe's time-out: with a period shorter than the time-out, a probe that
    hangs would hold for longer than GATE_SECONDS. There is no initial delay.
    """
    seconds = max(1, readiness.get("timeoutSeconds") or 1)
    return {
        **{handler: readiness[handler] for handler in HANDLERS if handler in readiness},
        "periodSeconds": seconds,
        "timeoutSeconds": seconds,
        "failureThreshold": ceil(GATE_SECONDS / seconds),
    }


def lacks_gate(sidecar: Sidecar) -> bool:
    """Whether `WaitUntilReady` has nothing to wait for: neither a startup nor a readiness probe."""
    container = sidecar.container
    return sidecar.startup is Startup.WAIT_UNTIL_READY and not (
        container.get("startupProbe") or container.get("readinessProbe")
    )


def offline(policy: Policy) -> Revision:
    """Return the revision of *policy* without the API server's defaults, for use without a cluster."""
    return _revision(
        policy,
        containers=[render(sidecar) for sidecar in policy.sidecars],
        volumes=list(policy.volumes),
        env=list(policy.application.env),
        mounts=list(policy.application.volume_mounts),
    )


def canonical_request(policy: Policy, namespace: str) -> Json:
    """Return the PodTemplate whose dry run validates *policy* and brings back its canonical form."""
    placeholder: Json = {"name": _placeholder(policy), "image": "placeholder"}
    if policy.application.env:
        placeholder["env"] = list(policy.application.env)
    if policy.application.volume_mounts:
        placeholder["volumeMounts"] = list(policy.application.volume_mounts)
    spec: Json = {
        "initContainers": [render(sidecar) for sidecar in policy.sidecars],
        "containers": [placeholder],
        "volumes": list(policy.volumes),
        **({PULL_SECRETS: [{"name": name} for name in policy.pull_secrets]} if policy.pull_secrets else {}),
        **_rest_of_pod(policy),
    }
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"generateName": "sidecarpolicy-dry-run-", "namespace": namespace},
        "template": {"metadata": _metadata(policy), "spec": spec},
    }


def _metadata(policy: Policy) -> Json:
    return {listed: dict(found) for listed in METADATA if (found := policy.pod_metadata.of(listed))}


def _rest_of_pod(policy: Policy) -> Json:
    """What a sidecar may ask of the rest of its Pod: whether a workload has it is decided there, by the API server."""
    containers = [sidecar.container for sidecar in policy.sidecars]
    rest: Json = {}
    if any(at(each, "securityContext").get("procMount") == "Unmasked" for each in containers):
        rest["hostUsers"] = False
    claims = {str(claim.get("name")) for each in containers for claim in items(at(each, "resources"), "claims")}
    if claims:
        rest["resourceClaims"] = [{"name": name, "resourceClaimName": PLACEHOLDER} for name in sorted(claims)]
    if (longest := max(map(_longest_sleep, containers), default=0)) > DEFAULT_GRACE_SECONDS:
        rest["terminationGracePeriodSeconds"] = longest
    if any(at(each, "lifecycle").get("stopSignal") for each in containers):
        windows = any(at(each, "securityContext").get("windowsOptions") for each in containers)
        rest["os"] = {"name": "windows" if windows else "linux"}
    return rest


def _longest_sleep(container: Json) -> int:
    """For how many seconds one of its hooks sleeps: a Pod has to have as long to terminate."""
    found = (at(container, "lifecycle", hook, "sleep").get("seconds") for hook in HOOKS)
    return max((each for each in found if isinstance(each, int)), default=0)


def dropped_fields(policy: Policy, revision: Revision) -> tuple[str, ...]:
    """Return the paths in the author's spec of what the API server did not keep, *revision* being what it made of it.

    It drops without a word what belongs to a feature that is off or that it does not know.
    """
    found: list[str] = []
    for index, sidecar in enumerate(policy.sidecars):
        kept = revision.sidecar(sidecar.name)
        wanted = dict(sidecar.container)
        if sidecar.pod_readiness is PodReadiness.EXCLUDE:
            wanted.pop("readinessProbe", None)
        if kept is not None:
            found += _missing(wanted, kept.container, f"spec.sidecars[{index}].container")
    for index, volume in enumerate(policy.volumes):
        if (stored := revision.volume(volume["name"])) is not None:
            found += _missing(volume, stored, f"spec.volumes[{index}]")
    for listed, written, there in (
        ("env", policy.application.env, revision.application.env),
        ("volumeMounts", policy.application.volume_mounts, revision.application.volume_mounts),
    ):
        found += _missing({listed: list(written)}, {listed: list(there)}, "spec.application")
    return tuple(found)


def _missing(written: Any, kept: Any, path: str) -> Iterator[str]:
    """Yield the paths of fields of *written* that *kept* lacks; a zero or empty value means the same as its absence."""
    match written:
        case dict() if isinstance(kept, dict):
            for key, value in written.items():
                if key in kept:
                    yield from _missing(value, kept[key], f"{path}.{key}")
                elif value not in ZEROS:
                    yield f"{path}.{key}"
        case list() if isinstance(kept, list) and len(kept) == len(written):
            for index, (one, other) in enumerate(zip(written, kept, strict=True)):
                yield from _missing(one, other, f"{path}[{index}]")


def canonical_revision(policy: Policy, answer: Json) -> Revision:
    """Return the revision that the API server's *answer* to `canonical_request` makes.

    Raises NativeSidecarsUnsupported where it dropped `restartPolicy: Always`.
    """
    spec = at(answer, "template", "spec")
    containers = items(spec, "initContainers")
    if any(container.get("restartPolicy") != "Always" for container in containers):
        raise NativeSidecarsUnsupported
    # Only the placeholder is there, unless an admission webhook added containers of its own.
    placeholder = next(each for each in items(spec, "containers") if each["name"] == _placeholder(policy))

    def ours(listed: list[Json], given: Iterable[Json], key: str = "name") -> list[Json]:
        """Leave out what an admission webhook added."""
        written = {each[key] for each in given}
        return [each for each in listed if each.get(key) in written]

    return _revision(
        policy,
        # With the last field that a server dropped from `lifecycle` it drops the seal.
        containers=[
            {**each, "lifecycle": each.get("lifecycle") or {}}
            for each in ours(containers, [{"name": sidecar.name} for sidecar in policy.sidecars])
        ],
        volumes=ours(items(spec, "volumes"), policy.volumes),
        env=ours(items(placeholder, "env"), policy.application.env),
        mounts=ours(items(placeholder, "volumeMounts"), policy.application.volume_mounts, "mountPath"),
    )


def _revision(
    policy: Policy, *, containers: list[Json], volumes: list[Json], env: list[Json], mounts: list[Json]
) -> Revision:
    by_name = {container["name"]: container for container in containers}
    return Revision(
        policy=policy.id,
        name=revision_name(policy.id, policy.words),
        priority=policy.priority,
        created=policy.created,
        sidecars=tuple(
            InjectedSidecar(
                name=sidecar.name,
                role=sidecar.role,
                position=sidecar.position,
                start_after=sidecar.start_after,
                container=by_name[sidecar.name],
            )
            for sidecar in policy.sidecars
        ),
        volumes=tuple(volumes),
        application=Application(
            containers=policy.application.containers,
            init_containers=policy.application.init_containers,
            env=tuple(env),
            volume_mounts=tuple(mounts),
        ),
        pod_metadata=policy.pod_metadata,
        pull_secrets=policy.pull_secrets,
        restarted=policy.words.get(WORD, ""),
    )


def _placeholder(policy: Policy) -> str:
    """A container name that no sidecar of *policy* has."""
    taken = {sidecar.name for sidecar in policy.sidecars}
    return next(name for name in (PLACEHOLDER, *(f"{PLACEHOLDER}-{n}" for n in range(17))) if name not in taken)
