"""Rules about stopping: tricks that make a sidecar outlive the application, or end with it."""

from __future__ import annotations

from collections.abc import Iterator

from sidecarpolicy.lint.asking import AWAITS, made_files, sleeping, watched_ports
from sidecarpolicy.lint.findings import Finding
from sidecarpolicy.lint.known import (
    DRAIN_SETTING,
    KILLER_ANNOTATIONS,
    KILLER_COMMANDS,
    KILLER_ENV,
    KILLER_IMAGES,
    LINKERD_WAIT_BEFORE_EXIT,
    QUIT_PORTS,
    repository_of,
)
from sidecarpolicy.lint.pods import Container, Moment, Place, Program, mapping, mappings, text
from sidecarpolicy.lint.roles import Ending, Roles, is_sentinel, shared_file
from sidecarpolicy.lint.shell import Kind, base_name, unwrapped
from sidecarpolicy.lint.waits import waits

STOP_ARGUMENTS = ("-term_timeout", "--term_timeout", "--max-sigterm-delay", "--term-timeout")
_ENDS = frozenset({"kill", "pkill", "killall", "exit", "echo", "printf", "true", ":", "wait"})
_JOB_FIELDS = {"Job": ("spec",), "CronJob": ("spec", "jobTemplate", "spec")}


def sidecar_prestop_sleep(roles: Roles) -> Iterator[Finding]:
    """A sidecar sleeps so that it is still there when the application ends."""
    for container in (*roles.old_sidecars, *roles.pod.native):
        found = prestop_sleep(container)
        if found is None:
            continue
        seconds, path, inner = found
        after = (
            "it is stopped after the application anyway"
            if container.place is Place.NATIVE
            else ("as a native sidecar it is stopped after the application")
        )
        yield Finding(
            code="sidecar-prestop-sleep",
            path=path,
            inner=inner,
            sure=roles.is_certain(container),
            message=f"sidecar {container.name} sleeps {_seconds(seconds)} in preStop, to outlive the application; that "
            "uses up the grace period of the whole Pod",
            replacement=f"drop the hook: {after}",
        )
    if LINKERD_WAIT_BEFORE_EXIT in roles.pod.annotations:
        yield Finding(
            code="sidecar-prestop-sleep",
            path=(*roles.pod.path, "metadata", "annotations", LINKERD_WAIT_BEFORE_EXIT),
            message="Linkerd's proxy sleeps in preStop, to outlive the application",
            replacement="drop the annotation where the proxy is a native sidecar "
            "(config.beta.linkerd.io/proxy-enable-native-sidecar): it is ignored there",
        )


def prestop_sleep(container: Container) -> tuple[float, tuple[str | int, ...], int] | None:
    """Return the seconds that a preStop hook sleeps and does nothing else, where that stands, and the line in it."""
    hook = container.hook("preStop")
    if (seconds := mapping(hook.get("sleep")).get("seconds")) is not None:
        known = isinstance(seconds, int)
        return (float(seconds) if known else 0.0), (*container.path, "lifecycle", "preStop", "sleep"), 0
    program = container.program(Moment.PRE_STOP)
    if program is None:
        return None
    statements = [each for each in program.script.reached() if each.kind is Kind.COMMAND]
    asleep = [each for each in statements if sleeping(each) is not None]
    if not asleep or any(each.name not in _ENDS | {"sleep", "sh", "bash", "busybox", "date"} for each in statements):
        return None
    if any(each.kind is Kind.LOOP for each in program.script.reached()):
        return None
    if any(each.name in {"kill", "pkill", "killall"} for each in statements):
        return None
    total = sum(sleeping(each) or 0.0 for each in asleep)
    return total, program.path, asleep[0].line


def sidecar_prestop_loop(roles: Roles) -> Iterator[Finding]:
    """A sidecar looks in its preStop hook whether the application is gone yet."""
    for container in (*roles.old_sidecars, *roles.pod.native):
        program = container.program(Moment.PRE_STOP)
        for statement in program.script.reached() if program else ():
            if statement.kind is Kind.LOOP and program is not None:
                ports = sorted({*watched_ports((*statement.condition, *statement.body))})
                yield Finding(
                    code="sidecar-prestop-loop",
                    path=program.path,
                    inner=statement.line,
                    sure=program.script.readable and roles.is_certain(container),
                    message=f"sidecar {container.name} loops in preStop until the application is gone"
                    + (f" (looks at port {', '.join(map(str, ports))})" if ports else ""),
                    replacement="drop the loop, it runs beside the application's own hooks and not after them; a "
                    "native sidecar is stopped after the application. Keep a command that only begins to drain",
                )
        for index, each in enumerate(mappings(container.body.get("env"))):
            if each.get("name") == DRAIN_SETTING and text(each.get("value")).lower() == "true":
                yield Finding(
                    code="sidecar-prestop-loop",
                    path=(*container.path, "env", index),
                    sure=roles.is_certain(container),
                    message=f"sidecar {container.name} waits at its end until no connection is open ({DRAIN_SETTING})",
                    replacement="drop the variable: a native sidecar is stopped after the application",
                )
    if DRAIN_SETTING in (config := text(roles.pod.annotations.get("proxy.istio.io/config"))) and "true" in config:
        yield Finding(
            code="sidecar-prestop-loop",
            path=(*roles.pod.path, "metadata", "annotations", "proxy.istio.io/config"),
            message=f"Istio's proxy waits at its end until no connection is open ({DRAIN_SETTING})",
            replacement="drop the setting where Istio injects native sidecars",
        )


def quit_call(roles: Roles) -> Iterator[Finding]:
    """A container asks a sidecar to quit when it is done."""
    for each in roles.endings:
        address = each.address
        if address is None or each.victim is each.container or each.program.moment is Moment.POST_START:
            continue
        if roles.is_sidecar(each.container) and each.victim is None and address.port not in QUIT_PORTS:
            continue
        named = address.path.rstrip("/").endswith("/quitquitquit")
        certain = each.victim is not None or address.port in QUIT_PORTS
        if not certain and not named:
            continue
        victim = f"sidecar {each.victim.name}" if each.victim else "a proxy"
        yield _quit(each.container, each.program, each.statement.line, f"{victim} at {address}", sure=certain)
    for container in roles.pod.containers:
        for program in container.programs:
            for statement in program.script.reached():
                if statement.name in AWAITS and {"--shutdown", "-S"} & set(_before_dashes(statement.arguments)):
                    yield _quit(
                        container, program, statement.line, "Linkerd's proxy (linkerd-await --shutdown)", sure=True
                    )
        hook = mapping(container.hook("preStop").get("httpGet"))
        port = container.port_of(hook.get("port"))
        path = text(hook.get("path")).rstrip("/")
        victim_of_hook = roles.pod.owner(port, container) if hook and not hook.get("host") else None
        if victim_of_hook is not None and path.endswith(("/quitquitquit", "/shutdown", "/-/quit")):
            yield Finding(
                code="quit-call",
                path=(*container.path, "lifecycle", "preStop", "httpGet"),
                message=f"container {container.name} asks sidecar {victim_of_hook.name} to quit in preStop",
                replacement="drop the hook: a native sidecar is stopped after the application",
            )


def process_kill(roles: Roles) -> Iterator[Finding]:
    """A container ends a sidecar by a signal, across a shared process namespace."""
    if not roles.pod.spec.get("shareProcessNamespace"):
        return
    for each in roles.endings:
        if each.address is not None or each.victim is each.container:
            continue
        if each.victim is None and (not each.process or each.process.startswith("$") or each.process in {"1", "-1"}):
            continue
        if each.victim is None and _own_process(each):
            continue
        yield Finding(
            code="process-kill",
            path=each.program.path,
            inner=each.statement.line,
            sure=each.program.script.readable and each.victim is not None and roles.is_certain(each.victim),
            message=f"container {each.container.name} kills {each.process}"
            + (f", the process of sidecar {each.victim.name}" if each.victim else ", which may be a sidecar's process"),
            replacement="drop the kill: a native sidecar is stopped when the application has ended. Drop "
            "shareProcessNamespace too, if nothing else needs it",
        )


def sentinel_file(roles: Roles) -> Iterator[Finding]:
    """One container leaves a file when it ends, and another one, which waits for that, ends too."""
    for found in roles.waits:
        if not is_sentinel(found):
            continue
        place = shared_file(roles.pod, found.container, found.file)
        owner = found.owner
        yield Finding(
            code="sentinel-file",
            path=found.program.path,
            inner=found.wait.statement.line,
            sure=found.program.script.readable and owner is not None and roles.is_certain(found.container),
            message=f"container {found.container.name} waits for {found.file}"
            + (f", by which container {owner.name} says that it has ended" if owner else "")
            + ", to end too",
            replacement="make it a native sidecar, run its program in the foreground, and drop the loop; drop the "
            "volume too, if it carries nothing else",
        )
        for maker, program, line in _makers(roles, place, found.container):
            yield Finding(
                code="sentinel-file",
                path=program.path,
                inner=line,
                sure=program.script.readable and owner is maker and roles.is_certain(found.container),
                message=f"container {maker.name} makes a file to tell container {found.container.name} that it "
                "has ended",
                replacement="drop it, with its wrapper: a native sidecar is stopped when the application has ended",
            )


def sidecar_self_timeout(roles: Roles) -> Iterator[Finding]:
    """A sidecar ends by itself after some time, since nobody else would end it."""
    for container in (*roles.old_sidecars, *roles.pod.native):
        entry = container.program(Moment.ENTRY)
        if entry is None:
            continue
        for index, word in enumerate(entry.argv if entry.script_at is None else ()):
            if word.startswith(STOP_ARGUMENTS):
                yield Finding(
                    code="sidecar-self-timeout",
                    path=_argument_path(container, index),
                    sure=roles.is_certain(container),
                    message=f"sidecar {container.name} stays for a fixed time after SIGTERM ({word})",
                    replacement="drop the argument: a native sidecar gets SIGTERM after the application has stopped",
                )
        line = _ends_by_itself(entry)
        if line is not None:
            yield Finding(
                code="sidecar-self-timeout",
                path=entry.path,
                inner=line,
                sure=entry.script.readable and roles.is_certain(container),
                message=f"sidecar {container.name} ends itself after a fixed time",
                replacement="run its program in the foreground, with exec: a native sidecar is stopped when the "
                "application has ended",
            )


def external_killer(roles: Roles) -> Iterator[Finding]:
    """Something else ends the sidecars: a wrapper, a controller that a variable or annotation calls, a deadline."""
    pod = roles.pod
    replacement = "make the sidecars native: a Pod then completes with its application, and nothing has to end them"
    for container in pod.containers:
        for index, variable in enumerate(mappings(container.body.get("env"))):
            if KILLER_ENV.fullmatch(name := text(variable.get("name"))):
                yield Finding(
                    code="external-killer",
                    path=(*container.path, "env", index),
                    message=f"container {container.name} has {name}, by which a tool ends sidecars when the "
                    "application has ended",
                    replacement=replacement,
                )
        if repository_of(container.image).rpartition("/")[2] in KILLER_IMAGES:
            yield Finding(
                code="external-killer",
                path=(*container.path, "image"),
                message=f"container {container.name} is a tool that ends sidecars ({repository_of(container.image)})",
                replacement=replacement,
            )
        entry = container.program(Moment.ENTRY)
        for statement in entry.script.reached() if entry else ():
            if entry and statement.kind is Kind.COMMAND and _killer(statement.words):
                yield Finding(
                    code="external-killer",
                    path=entry.path,
                    inner=statement.line,
                    message=f"container {container.name} runs under {_killer(statement.words)}, which ends sidecars",
                    replacement=replacement,
                )
    for name in pod.annotations:
        if KILLER_ANNOTATIONS.fullmatch(str(name)):
            yield Finding(
                code="external-killer",
                path=(*pod.path, "metadata", "annotations", str(name)),
                message=f"{name} asks a controller to end the sidecars of the Pod",
                replacement=replacement,
            )
    yield from _deadline(roles)


def inflated_grace_period(roles: Roles) -> Iterator[Finding]:
    """A grace period that was raised for the sleeps of sidecars."""
    longest = longest_sidecar_sleep(roles)
    pod = roles.pod
    if longest <= 0 or "terminationGracePeriodSeconds" not in pod.spec or pod.grace <= max(30.0, longest):
        return
    yield Finding(
        code="inflated-grace-period",
        path=(*pod.spec_path, "terminationGracePeriodSeconds"),
        sure=False,
        message=f"the grace period of {pod.grace} s has room for a sidecar that sleeps {longest:g} s in preStop",
        replacement="it needs the application's longest preStop and stop, the stop of every sidecar one after the "
        "other, and 2 s: lower it if that sleep was the reason",
    )


def longest_sidecar_sleep(roles: Roles) -> float:
    """Return the longest sleep in preStop of a sidecar, in seconds; 0 for none."""
    found = (prestop_sleep(each) for each in (*roles.old_sidecars, *roles.pod.native))
    return max((each[0] for each in found if each is not None), default=0.0)


def _deadline(roles: Roles) -> Iterator[Finding]:
    pod = roles.pod
    path = _JOB_FIELDS.get(pod.kind)
    if path is None or not [each for each in roles.old_sidecars if roles.is_certain(each)]:
        return
    spec = pod.body
    for step in path:
        spec = mapping(spec.get(step))
    ended = any(each.victim is not None or (each.address and each.address.port in QUIT_PORTS) for each in roles.endings)
    if "activeDeadlineSeconds" in spec and not ended and not any(is_sentinel(each) for each in roles.waits):
        yield Finding(
            code="external-killer",
            path=(*pod.base, *path, "activeDeadlineSeconds"),
            sure=False,
            message="nothing but the deadline ends the sidecars of this Job, and a Job that meets it has failed",
            replacement="make the sidecars native: the Job then completes with its application. Keep the deadline as a "
            "limit for the work",
        )


def _makers(
    roles: Roles, place: tuple[str, str] | None, besides: Container
) -> Iterator[tuple[Container, Program, int]]:
    for container in roles.pod.containers:
        for program in container.programs if container is not besides else ():
            for statement in program.script.walk():
                if place and any(shared_file(roles.pod, container, file) == place for file in made_files(statement)):
                    yield container, program, statement.line
                    break


def _ends_by_itself(entry: Program) -> int | None:
    """The line of `timeout 600 proxy`, or of the sleep in `proxy & sleep 600; kill $!`; None where there is none."""
    steps = list(entry.script.steps())
    for each in entry.script.reached():
        words = each.words
        while words and base_name(words[0]) in {"exec", "nohup", "setsid", "env"}:
            words = words[1:]
        if (
            each.kind is Kind.COMMAND
            and words
            and base_name(words[0]) == "timeout"
            and not any(True for wait in waits(entry.script) if wait.step.statement is each)
            and len(unwrapped(words)) > 0
            and unwrapped(words) != words
            and each in [one.statement for one in steps]
        ):
            return each.line
    started = False
    for place, step in enumerate(steps):
        started = started or step.background
        seconds = sleeping(step.statement)
        rest = [one.statement.name for one in steps[place + 1 :]]
        last = "wait" not in rest and all(name in _ENDS for name in rest)
        if started and not step.background and seconds and seconds != float("inf") and last:
            return step.statement.line
    return None


def _killer(words: tuple[str, ...]) -> str:
    return next((base_name(each) for each in unwrapped(words)[:1] if base_name(each) in KILLER_COMMANDS), "")


def _own_process(each: Ending) -> bool:
    """Whether the container itself starts a process of that name, or is one."""
    container = each.container
    own = {container.executable, container.name, repository_of(container.image).rpartition("/")[2]}
    for program in container.programs:
        own |= {one.name for one in program.script.walk() if one is not each.statement and one.kind is Kind.COMMAND}
    return each.process in own


def _quit(container: Container, program: Program, line: int, whom: str, *, sure: bool) -> Finding:
    return Finding(
        code="quit-call",
        path=program.path,
        inner=line,
        sure=sure and program.script.readable,
        message=f"container {container.name} asks {whom} to quit; a native sidecar would be restarted until the "
        "application has ended",
        replacement="drop the call, with its wrapper: a native sidecar is stopped when the application has ended",
    )


def _before_dashes(words: tuple[str, ...]) -> tuple[str, ...]:
    return words[: words.index("--")] if "--" in words else words


def _argument_path(container: Container, index: int) -> tuple[str | int, ...]:
    command = container.body.get("command")
    count = len(command) if isinstance(command, list) else 0
    return (*container.path, "command", index) if index < count else (*container.path, "args", index - count)


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "for a time"


RULES = (
    sidecar_prestop_sleep,
    sidecar_prestop_loop,
    quit_call,
    process_kill,
    sentinel_file,
    sidecar_self_timeout,
    external_killer,
    inflated_grace_period,
)
