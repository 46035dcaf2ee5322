"""Rules about native sidecars: what breaks them from outside, and what they do to their Pod."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from sidecarpolicy.core.arithmetic.budgets import LAST_SECONDS
from sidecarpolicy.core.arithmetic.change import Change
from sidecarpolicy.core.arithmetic.findings import gate_probes_application
from sidecarpolicy.core.arithmetic.qos import QosClass, container_classes, qos_class
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.tree import with_items
from sidecarpolicy.lint.asking import killed, quit_call
from sidecarpolicy.lint.findings import Finding
from sidecarpolicy.lint.known import ARGO_HOOK, STRIPPING_MARKS
from sidecarpolicy.lint.pods import Container, Moment, Path, mapping, mappings, text
from sidecarpolicy.lint.roles import Roles
from sidecarpolicy.lint.rules.stopping import prestop_sleep
from sidecarpolicy.lint.shell import unwrapped

INIT_CONTAINERS = "initContainers"
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle")


def native_in_hook(roles: Roles) -> Iterator[Finding]:
    """Argo CD's hooks go through types that do not know the field (argoproj/argo-cd#27407)."""
    pod = roles.pod
    hook = mapping(mapping(pod.body.get("metadata")).get("annotations")).get(ARGO_HOOK)
    if not hook or hook == "Skip":
        return
    for container in pod.native:
        yield Finding(
            code="native-in-hook",
            path=(*container.path, "restartPolicy"),
            message=f"{pod.title} is a hook of Argo CD ({hook}), which has stripped restartPolicy from init containers "
            f"of hooks (argoproj/argo-cd#27407): sidecar {container.name} is a plain init container then, and never "
            "ends",
            replacement="run it as a Job that is no hook (a sync wave orders it too), or without the sidecar, until "
            "your release of Argo CD keeps the field",
        )


def native_stripped_by_webhook(roles: Roles) -> Iterator[Finding]:
    """Webhooks that are built on old API types answer with a Pod without the field."""
    pod = roles.pod
    for container in pod.native:
        sealed = any(container.body.get(each) for each in _PROBES)
        for where in ("labels", "annotations"):
            marks = mapping(pod.metadata.get(where))
            for mark in marks:
                if str(mark) not in STRIPPING_MARKS or str(marks[mark]).lower() == "false":
                    continue
                then = (
                    "the API server refuses the Pod then"
                    if sealed
                    else "it then is a plain init container that never ends, and the Pod does not start"
                )
                yield Finding(
                    code="native-stripped-by-webhook",
                    path=(*pod.path, "metadata", where, str(mark)),
                    sure=False,
                    message=f"{mark} calls {STRIPPING_MARKS[str(mark)]}, of which releases have stripped restartPolicy "
                    f"from sidecar {container.name}; {then}",
                    replacement="use a release that keeps the field; a startup probe on the sidecar turns the silent "
                    "failure into a refusal",
                )
                break


def native_prestop_ends(roles: Roles) -> Iterator[Finding]:
    """A sidecar's preStop hook runs when the Pod begins to stop, not at the sidecar's turn; and it is not restarted."""
    for container in roles.pod.native:
        found = _ending_hook(container)
        if found is None:
            continue
        path, inner, how = found
        yield Finding(
            code="native-prestop-ends",
            path=path,
            inner=inner,
            message=f"the preStop hook of sidecar {container.name} ends it ({how}): hooks of all containers run when "
            "the Pod begins to stop, and a sidecar that ends then is not started again: the application is without it",
            replacement="drop the hook, SIGTERM comes at the sidecar's turn; or let it only begin to drain",
        )


def native_gate_foreign_port(roles: Roles) -> Iterator[Finding]:
    """The application starts only behind the gate, so the gate never opens."""
    pod = roles.pod
    if pod.spec.get("hostNetwork"):
        return
    for container in pod.native:
        change = Change(now=pod.spec, after=pod.spec, ours=frozenset({container.name}))
        for finding in gate_probes_application(change):
            yield Finding(
                code="native-gate-foreign-port",
                path=(*container.path, "startupProbe"),
                message=finding.message.partition("; probe")[0],
                replacement="probe a port of the sidecar's own",
            )


def native_short_grace(roles: Roles) -> Iterator[Finding]:
    """Hooks, the application and then each sidecar share one grace period."""
    pod = roles.pod
    if not pod.native:
        return
    hooks = {each.name: prestop_sleep(each) for each in pod.containers}
    longest = max((found[0] for each in pod.regular if (found := hooks[each.name])), default=0.0)
    sleeper = next((each for each in pod.regular if (found := hooks[each.name]) and found[0] == longest), None)
    declared = "terminationGracePeriodSeconds" in pod.spec
    if sleeper is not None and longest + LAST_SECONDS > pod.grace:
        yield Finding(
            code="native-short-grace",
            path=_grace_path(roles) if declared else (*sleeper.path, "lifecycle", "preStop"),
            message=f"container {sleeper.name} sleeps {longest:g} s in preStop, and the grace period is {pod.grace} s: "
            "no time is left in which the application and then "
            f"{', '.join(each.name for each in reversed(pod.native))} could stop in order",
            replacement=f"terminationGracePeriodSeconds: {round(longest) + 30} or more: the longest preStop, what the "
            "application and each sidecar need to stop, and 2",
        )
    for each in pod.native:
        found = hooks[each.name]
        if found is not None and found[0] > pod.grace:
            yield Finding(
                code="native-short-grace",
                path=found[1],
                inner=found[2],
                message=f"sidecar {each.name} sleeps {found[0]:g} s in preStop, longer than the grace period of "
                f"{pod.grace} s: it is killed, and nothing is stopped in order",
                replacement="drop the sleep: a native sidecar is stopped after the application",
            )


def native_qos_burstable(roles: Roles) -> Iterator[Finding]:
    """One sidecar without limits that equal its requests is enough."""
    pod = roles.pod
    if not pod.native:
        return
    names = {each.name for each in pod.native}
    kept = [each for each in mappings(pod.spec.get(INIT_CONTAINERS)) if text(each.get("name")) not in names]
    try:
        before, after = qos_class(with_items(pod.spec, INIT_CONTAINERS, kept)), qos_class(pod.spec)
        worse = {name for name, each in container_classes(pod.spec) if name in names and each is not before}
    except (InvalidInput, KeyError, AttributeError, TypeError):
        return  # what is no quantity the API server refuses, in its own words
    if before is not QosClass.GUARANTEED or after is before:
        return
    for container in pod.native:
        if container.name in worse:
            yield Finding(
                code="native-qos-burstable",
                path=(*container.path, "resources") if container.body.get("resources") else container.path,
                message=f"the Pod would be Guaranteed, and is {after} because of sidecar {container.name}: it is "
                "evicted earlier, and gets no exclusive CPUs",
                replacement="give the sidecar cpu and memory limits equal to its requests",
            )


def _ending_hook(container: Container) -> tuple[Path, int, str] | None:
    hook = mapping(container.hook("preStop").get("httpGet"))
    path = text(hook.get("path")).rstrip("/")
    if hook and not hook.get("host") and path.endswith(("/quitquitquit", "/shutdown", "/-/quit")):
        return (*container.path, "lifecycle", "preStop", "httpGet"), 0, path
    program = container.program(Moment.PRE_STOP)
    for statement in program.script.reached() if program else ():
        if program is None:
            break
        if address := quit_call(statement):
            return program.path, statement.line, str(address)
        if (process := killed(statement)) is not None and not _only_reloads(statement.words):
            return program.path, statement.line, f"kills {process}"
        words = unwrapped(statement.words)
        if statement.name in {"nginx", "openresty"} and any(each in {"quit", "stop"} for each in words[1:]):
            return program.path, statement.line, " ".join(words)
    return None


def _only_reloads(words: tuple[str, ...]) -> bool:
    """Whether a signal is one by which programs reload, reopen logs or dump, and do not end."""
    soft = ("HUP", "USR1", "USR2", "WINCH", "1", "10", "12")
    return any(each.lstrip("-").removeprefix("SIG") in soft for each in words[1:] if each.startswith("-")) or any(
        each.removeprefix("SIG") in soft for before, each in pairwise(words) if before == "-s"
    )


def _grace_path(roles: Roles) -> Path:
    return (*roles.pod.spec_path, "terminationGracePeriodSeconds")


RULES = (
    native_in_hook,
    native_stripped_by_webhook,
    native_prestop_ends,
    native_gate_foreign_port,
    native_short_grace,
    native_qos_burstable,
)
