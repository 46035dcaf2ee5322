"""Rules about starting: waiting for a sidecar, and tricks that make it start first."""

from __future__ import annotations

from collections.abc import Iterator

from sidecarpolicy.lint.findings import Finding
from sidecarpolicy.lint.known import (
    DEFAULT_CONTAINER,
    HOLD_ANNOTATION,
    HOLD_SETTING,
    LINKERD_AWAIT,
    SKIP_PORTS,
    repository_of,
)
from sidecarpolicy.lint.pods import Container, Moment, Place, text
from sidecarpolicy.lint.roles import PodWait, Roles, is_sentinel
from sidecarpolicy.lint.shell import Kind
from sidecarpolicy.lint.waits import sleeps

_PREPARING = frozenset({"set", "echo", "printf", "export", "cd", "umask", "ulimit", "trap", "date", ":"})


def wait_loop(roles: Roles) -> Iterator[Finding]:
    """An entry point does not begin before a sidecar answers."""
    for found in _starting_waits(roles, Moment.ENTRY):
        waiter, owner = found.container, found.owner
        if owner is not None and (waits_for_application(roles, found) or _waits_backwards(roles, waiter, owner)):
            continue
        if owner is None and not found.mesh:
            others = [each for each in roles.pod.containers if each is not waiter and each.place is not Place.INIT]
            if not others:
                continue
        yield Finding(
            code="wait-loop",
            path=found.program.path,
            inner=found.wait.statement.line,
            sure=found.program.script.readable
            and (bool(found.mesh) or (owner is not None and roles.is_certain(owner))),
            message=_waits_message(roles, found),
            replacement=_gate(found),
        )


def poststart_wait(roles: Roles) -> Iterator[Finding]:
    """A postStart hook returns only when a sidecar answers: no later container starts before."""
    for found in _starting_waits(roles, Moment.POST_START):
        waiter, owner = found.container, found.owner
        own = owner is waiter
        if own and not (roles.is_sidecar(waiter) and waiter.place is Place.REGULAR):
            continue
        backwards = owner is not None and (
            waits_for_application(roles, found) or _waits_backwards(roles, waiter, owner)
        )
        if backwards and not own:
            continue
        first = own and waiter.index == 0
        others = [each for each in roles.pod.regular if each is not waiter]
        if owner is None and not found.mesh and not others:
            continue
        certain = roles.is_certain(owner) if owner else bool(found.mesh)
        yield Finding(
            code="first-container-hold" if first else "poststart-wait",
            path=found.program.path,
            inner=found.wait.statement.line,
            sure=found.program.script.readable and certain,
            message=f"{_who(waiter)} holds {'the containers after it' if own else 'itself'} back by a postStart hook "
            f"that waits for {'itself' if own else _what(found)}; the order of regular containers is not documented, "
            "and a hook that fails kills the container without a log",
            replacement=_gate(found) + (", in initContainers with restartPolicy: Always" if own else ""),
        )


def hold_setting(roles: Roles) -> Iterator[Finding]:
    """A setting of a mesh makes its proxy the first container."""
    pod = roles.pod
    if HOLD_SETTING in text(config := pod.annotations.get(HOLD_ANNOTATION)) and "true" in _after(config, HOLD_SETTING):
        yield Finding(
            code="first-container-hold",
            path=(*pod.path, "metadata", "annotations", HOLD_ANNOTATION),
            message=f"{HOLD_SETTING} makes Istio's proxy the first container, with a postStart hook that waits for it",
            replacement="drop the setting where Istio injects native sidecars (ENABLE_NATIVE_SIDECARS of istiod): "
            "it is ignored there",
        )
    if pod.annotations.get(LINKERD_AWAIT) == "enabled":
        yield Finding(
            code="first-container-hold",
            path=(*pod.path, "metadata", "annotations", LINKERD_AWAIT),
            sure=False,
            message="proxy-await makes Linkerd's proxy the first container, with a postStart hook that waits for it",
            replacement='config.beta.linkerd.io/proxy-enable-native-sidecar: "true", and drop this annotation',
        )


def wait_for_file(roles: Roles) -> Iterator[Finding]:
    """A container begins only when another one has made a file in a shared emptyDir."""
    for found in roles.waits:
        starting = found.program.moment in {Moment.ENTRY, Moment.POST_START} and found.wait.until
        if not found.file or not starting or is_sentinel(found):
            continue
        owner = found.owner
        if owner is not None and roles.is_sidecar(owner):
            gate = f"give {owner.name} startupProbe.exec.command: [test, -e, {found.file}] and make it a native sidecar"
        elif roles.is_sidecar(found.container):
            gate = "make it a native sidecar, which starts first, and use tail -F, which waits by itself"
        else:
            gate = "make the container that writes the file a native sidecar with a startup probe that tests for it"
        certain = (owner is not None and roles.is_certain(owner)) or roles.is_certain(found.container)
        maker = _name(owner) if owner else "a container that shares the volume"
        yield Finding(
            code="wait-for-file",
            path=found.program.path,
            inner=found.wait.statement.line,
            sure=found.program.script.readable and owner is not None and certain,
            message=f"{_who(found.container)} waits until {maker} has made {found.file}",
            replacement=gate,
        )


def start_sleep(roles: Roles) -> Iterator[Finding]:
    """An application sleeps first, in a Pod with sidecars: often to give them time."""
    sidecars = [*roles.old_sidecars, *roles.pod.native]
    if not sidecars:
        return
    for container in roles.applications:
        entry = container.program(Moment.ENTRY)
        if entry is None or entry.script_at is None:
            continue
        asleep = {id(step.statement): seconds for step, seconds in sleeps(entry.script)}
        steps = list(entry.script.steps())
        for place, step in enumerate(steps):
            statement = step.statement
            if id(statement) in asleep:
                if place + 1 < len(steps) and 0 < asleep[id(statement)] < 600 and not step.background:
                    yield Finding(
                        code="start-sleep",
                        path=entry.path,
                        inner=statement.line,
                        sure=False,
                        message=f"{_who(container)} sleeps {asleep[id(statement)]:g} s before it starts; if that is to "
                        f"give {_names(sidecars)} time, it is too short on a bad day and too long on all others",
                        replacement="a startup probe of the sidecar holds the application back exactly as long as "
                        "needed; drop the sleep then",
                    )
                break
            if statement.kind is not Kind.ASSIGNMENT and statement.name not in _PREPARING:
                break


def init_copy(roles: Roles) -> Iterator[Finding]:
    """An init container runs the sidecar's image, since the sidecar itself starts only after all of them."""
    for container in roles.pod.inits:
        copied = next(
            (
                each
                for each in (*roles.old_sidecars, *roles.pod.native)
                if repository_of(each.image) == repository_of(container.image) and roles.is_certain(each)
            ),
            None,
        )
        if copied is None:
            continue
        entry = container.program(Moment.ENTRY)
        background = entry is not None and any(step.background for step in entry.script.steps())
        yield Finding(
            code="init-copy",
            path=(*container.path, "image"),
            sure=background,
            message=f"init container {container.name} runs the image of sidecar {copied.name} a second time"
            + (", in the background of its own work" if background else ""),
            replacement=f"make {copied.name} a native sidecar before {container.name}: it then runs while init "
            "containers do; it counts towards their requests",
        )


def init_port_bypass(roles: Roles) -> Iterator[Finding]:
    """Traffic goes around a proxy; where there are init containers, often because theirs came before the proxy."""
    if not roles.pod.inits:
        return
    for name in SKIP_PORTS:
        if roles.pod.annotations.get(name):
            yield Finding(
                code="init-port-bypass",
                path=(*roles.pod.path, "metadata", "annotations", name),
                sure=False,
                message=f"traffic goes around the proxy ({name}); init containers "
                f"{_names(roles.pod.inits)} may be why, since an ordinary proxy starts after them",
                replacement="a native sidecar runs before and during init containers: where that was the reason, drop "
                "the annotation",
            )


def default_container(roles: Roles) -> Iterator[Finding]:
    """kubectl takes the first container, so a sidecar that comes first needs an annotation against it."""
    pod = roles.pod
    named = text(pod.annotations.get(DEFAULT_CONTAINER))
    first = pod.regular[0] if pod.regular else None
    application = next((each for each in pod.regular if each.name == named and each is not first), None)
    if first is None or application is None or not roles.is_sidecar(first) or roles.is_sidecar(application):
        return
    if len(roles.applications) > 1 and roles.applications[0] is not application:
        return  # it says which of several applications
    yield Finding(
        code="default-container",
        path=(*pod.path, "metadata", "annotations", DEFAULT_CONTAINER),
        sure=roles.is_certain(first),
        message=f"sidecar {first.name} is the first container, and the annotation leads kubectl to {named}",
        replacement=f"as a native sidecar {first.name} stands in initContainers, kubectl takes {named} by itself, and "
        "the annotation may go; it does no harm",
    )


def regular_restart_always(roles: Roles) -> Iterator[Finding]:
    """A field that makes a sidecar of an init container, and nothing of a regular one."""
    marked = [each for each in roles.pod.regular if each.body.get("restartPolicy") == "Always"]
    for each in marked:
        yield Finding(
            code="regular-restart-always",
            path=(*each.path, "restartPolicy"),
            sure=len(marked) < len(roles.pod.regular),
            message=f"container {each.name} has restartPolicy: Always under containers, where it is no sidecar: it "
            "starts with the application, stops with it, and keeps a Job from completing",
            replacement="move the container to initContainers, before those that need it",
        )


def sidecar_waits_for_application(roles: Roles) -> Iterator[Finding]:
    """As a native sidecar with a gate it would wait for ever: the application starts only after it."""
    for found in roles.waits:
        starting = found.program.moment in {Moment.ENTRY, Moment.POST_START, Moment.STARTUP} and found.wait.until
        if not starting or found.file or found.owner is None or not waits_for_application(roles, found):
            continue
        native = found.container.place is Place.NATIVE
        yield Finding(
            code="sidecar-waits-for-application",
            path=found.program.path,
            inner=found.wait.statement.line,
            sure=found.program.script.readable and (native or roles.is_certain(found.container)),
            message=f"{_who(found.container)} waits for container {found.owner.name}, which "
            + ("starts only after it" if native else "would start only after it, were it a native sidecar"),
            replacement="let the sidecar start without the application and retry by itself; its startup probe must not "
            "depend on the application",
        )


def waits_for_application(roles: Roles, found: PodWait) -> bool:
    """Whether it is a sidecar that waits, and no sidecar that is waited for."""
    owner, waiter = found.owner, found.container
    if owner is None or owner is waiter or waiter.place is Place.INIT:
        return False
    if waiter.place is Place.NATIVE:
        return owner.place is Place.REGULAR
    return roles.is_certain(waiter) and owner.place is Place.REGULAR and not roles.is_certain(owner)


def _waits_backwards(roles: Roles, waiter: Container, owner: Container) -> bool:
    """Whether a likely sidecar waits for what is none: an exporter for its database."""
    return waiter is not owner and roles.is_sidecar(waiter) and not roles.is_sidecar(owner)


def _starting_waits(roles: Roles, moment: Moment) -> Iterator[PodWait]:
    """What a program of *moment* waits for until it is up, of other containers; for an entry not what it is itself."""
    seen: set[tuple[int, str]] = set()
    for found in roles.waits:
        own_entry = moment is Moment.ENTRY and found.owner is found.container
        key = (id(found.wait.statement), found.owner.name if found.owner else found.mesh)
        if found.program.moment is moment and found.wait.until and not found.file and not own_entry and key not in seen:
            seen.add(key)
            yield found


def _waits_message(roles: Roles, found: PodWait) -> str:
    waiter, owner = found.container, found.owner
    if waiter.place is Place.INIT and (owner is None or owner.place is Place.REGULAR):
        return f"{_who(waiter)} waits for {_what(found)}, which starts only after all init containers: for ever"
    if waiter.place is Place.INIT and owner is not None and owner.place is Place.NATIVE:
        later = roles.pod.containers.index(owner) > roles.pod.containers.index(waiter)
        if later:
            return f"{_who(waiter)} waits for {_what(found)}, which starts only after it: for ever"
    return f"{_who(waiter)} waits for {_what(found)} before it starts"


def _what(found: PodWait) -> str:
    asked = f" at {found.address}" if found.address else f" by {found.wait.tool}" if found.wait.tool else ""
    if found.owner is not None:
        return f"container {found.owner.name}{asked}"
    return (f"{found.mesh}'s proxy" if found.mesh else "something in its Pod") + asked


def _gate(found: PodWait) -> str:
    if found.mesh and found.owner is None:
        return (
            f"let {found.mesh} inject its proxy as a native sidecar, which is ready before any container starts, and "
            "drop the wait"
        )
    owner = found.owner.name if found.owner else "the sidecar"
    probe = probe_text(found)
    if found.owner is not None and found.owner.place is Place.NATIVE:
        if found.owner.probe("startupProbe") or found.owner.hook("postStart"):
            return f"drop the wait: {owner} is a native sidecar, whose gate holds back what comes after it"
        return f"give {owner}, which is a native sidecar already, {probe}, and drop the wait"
    reach = " (exec, if it listens on 127.0.0.1 only)" if found.address else ""
    return f"make {owner} a native sidecar with {probe}{reach}, and drop the wait"


def probe_text(found: PodWait) -> str:
    """Return the startup probe that asks what a script asks."""
    address = found.address
    if address is None:
        return "a startup probe"
    if address.scheme in {"http", "https"}:
        scheme = ", scheme: HTTPS" if address.scheme == "https" else ""
        return f"startupProbe.httpGet: {{path: {address.path or '/'}, port: {address.port}{scheme}}}"
    if address.scheme == "grpc":
        return f"startupProbe.grpc: {{port: {address.port}}}"
    return f"startupProbe.tcpSocket: {{port: {address.port}}}"


def _who(container: Container) -> str:
    return f"{'init container' if container.place is Place.INIT else 'container'} {container.name}"


def _name(container: Container) -> str:
    return f"container {container.name}"


def _names(containers: list[Container] | tuple[Container, ...]) -> str:
    return ", ".join(each.name for each in containers)


def _after(value: object, word: str) -> str:
    return text(value).partition(word)[2][:12].lower()


RULES = (
    wait_loop,
    poststart_wait,
    hold_setting,
    wait_for_file,
    start_sleep,
    init_copy,
    init_port_bypass,
    default_container,
    regular_restart_always,
    sidecar_waits_for_application,
)
