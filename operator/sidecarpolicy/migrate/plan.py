"""The plan of a migration: who moves, what each thing that falls away is replaced by, and what is left to a person."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sidecarpolicy.core.arithmetic.budgets import LAST_SECONDS
from sidecarpolicy.core.arithmetic.requests import costs, describe
from sidecarpolicy.core.reading import InvalidInput
from sidecarpolicy.core.tree import Json
from sidecarpolicy.lint import findings
from sidecarpolicy.lint.asking import made_files, mesh_wait, sleeping
from sidecarpolicy.lint.known import DRAIN_SETTING, KILLER_ENV
from sidecarpolicy.lint.pods import Container, Moment, Path, Place, Pod, Program, mapping, mappings, pods, text
from sidecarpolicy.lint.roles import Roles, is_sentinel, shared_file
from sidecarpolicy.lint.rules.stopping import STOP_ARGUMENTS, longest_sidecar_sleep, prestop_sleep
from sidecarpolicy.lint.shell import Kind, Script, Statement, parse
from sidecarpolicy.lint.waits import wraps_application
from sidecarpolicy.migrate import scripts
from sidecarpolicy.migrate.gates import Gate, gate, gated
from sidecarpolicy.migrate.model import Done, Migration, Move, Note
from sidecarpolicy.migrate.movers import Obstacle, moves, obstacles
from sidecarpolicy.migrate.moving import get, moved

LEAST_STOP = 10
"""Seconds that must be left for stopping, after the longest preStop hook."""


def migrate(body: Json) -> Migration | None:
    """Return what migrating the object *body* means, or None where it is no workload with containers."""
    pod = pods(body)
    return _Work(pod).migration() if pod is not None else None


class _Work:
    """One migration in the making: the object as it becomes, and what is said about it."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.roles = Roles(pod)
        self.body = deepcopy(pod.body)
        self.done: list[Done] = []
        self.left: list[tuple[str, Path, int, str, str]] = []
        """Notes: the container's name (empty for the Pod), the path in it, the line there, the sentence, the code."""
        self.gates: dict[str, Gate | None] = {}
        self.moves: tuple[Move, ...] = ()

    def migration(self) -> Migration:
        moving = self._choose()
        if moving:
            self.moves = moves(self.roles, moving)
            for container in moving:
                self._make_native(container)
        native = frozenset(each.name for each in moving) | frozenset(each.name for each in self.pod.native)
        if native:
            self._drop_waits(gated(self.roles, self.gates))
            self._drop_endings(native)
            self._drop_sentinels(native)
            for container in (*moving, *self.pod.native):
                self._drop_stop_hook(container)
            self._recompute_grace()
        if moving:
            self._tell_requests()
        after = moved(self.body, self.pod.spec_path, self.moves)
        return Migration(
            title=self.pod.title,
            spec_path=self.pod.spec_path,
            before=self.pod.body,
            in_place=self.body,
            after=after,
            moves=self.moves,
            done=tuple(dict.fromkeys(self.done)),
            notes=self._notes(after),
        )

    # --- who moves ---------------------------------------------------------------------------------

    def _choose(self) -> list[Container]:
        moving: list[Container] = []
        for container in self.roles.old_sidecars:
            found = list(obstacles(self.roles, container))
            if not found:
                wrapper = self._unwrapped(container)
                if isinstance(wrapper, Obstacle):
                    found = [wrapper]
            for each in found:
                self._note(container, each.path, each.inner, each.message, each.code)
            if not found:
                moving.append(container)
        return moving

    def _unwrapped(self, container: Container) -> Obstacle | None:
        """Take away what ends the container's program by itself; an Obstacle where that is not certain."""
        entry = container.program(Moment.ENTRY)
        if entry is None:
            return None
        ends = any(each.container is container and is_sentinel(each) for each in self.roles.waits)
        background = any(step.background for step in entry.script.steps())
        if entry.script_at is None or not (ends or background):
            return None
        new = scripts.foreground(
            entry.script, lambda each: each.kind is Kind.LOOP or sleeping(each) is not None or each.name == "kill"
        )
        if new is None:
            return Obstacle(
                container=container,
                path=entry.path[len(container.path) :],
                message=f"{container.name} starts its program in the background: run it in the foreground, with exec, "
                "then move the container to initContainers",
            )
        self._set(entry.path, new)
        code = "sentinel-file" if ends else "sidecar-self-timeout"
        self._did(f"{container.name} runs its program in the foreground", code)
        return None

    def _make_native(self, container: Container) -> None:
        body = self._at(container.path)
        was = "" if "restartPolicy" not in body else "regular-restart-always"
        body["restartPolicy"] = "Always"
        move = next(each for each in self.moves if each.name == container.name)
        listed = [each for each in self.pod.containers if each.place is not Place.REGULAR]
        where = f"before {listed[move.to].name}" if move.to < len(listed) else "before the application"
        self._did(f"{container.name} is a native sidecar, {where}", was)
        found = self.gates[container.name] = gate(self.roles, container)
        if found is not None and found.probe is not None:
            body["startupProbe"] = found.probe
            self._did(f"{container.name} has a startup probe, from {found.source}")
        if found is None:
            self._tell_missing_gate(container)
        self._drop_start_hook(container, body)
        self._drop_own_settings(container, body)

    def _drop_start_hook(self, container: Container, body: Json) -> None:
        lifecycle = mapping(body.get("lifecycle"))
        start = container.program(Moment.POST_START)
        own = [each for each in self.roles.waits if each.program is start and each.owner is container]
        gate_of = self.gates[container.name]
        probed = (gate_of is not None and gate_of.probe is not None) or bool(container.probe("startupProbe"))
        if start is not None and own and probed:
            keys = frozenset(_key(each.wait.statement) for each in own)
            left = scripts.without(start.script, lambda each: _key(each) in keys)
            only = start.script_at is None and mesh_wait(start.script.statements[0]) is not None
            if left == "" or only:
                lifecycle.pop("postStart")
                self._did(f"{container.name} waits for itself in no postStart hook", "first-container-hold")
        if not lifecycle:
            body.pop("lifecycle", None)

    def _drop_stop_hook(self, container: Container) -> None:
        body = self._at(container.path)
        lifecycle = mapping(body.get("lifecycle"))
        if prestop_sleep(container) is not None:
            lifecycle.pop("preStop")
            self._did(f"{container.name} does not sleep in preStop", "sidecar-prestop-sleep")
        stop = container.program(Moment.PRE_STOP)
        if stop is not None and any(each.kind is Kind.LOOP for each in stop.script.reached()):
            left = (
                scripts.without(stop.script, lambda each: each.kind is Kind.LOOP)
                if stop.script_at is not None
                else None
            )
            if left == "":
                lifecycle.pop("preStop", None)
            elif left is not None:
                self._set(stop.path, left)
            if left is not None:
                self._did(f"{container.name} does not loop in preStop", "sidecar-prestop-loop")
        if not lifecycle:
            body.pop("lifecycle", None)

    def _drop_own_settings(self, container: Container, body: Json) -> None:
        for variable in mappings(container.body.get("env")):
            name = text(variable.get("name"))
            drains = name == DRAIN_SETTING and text(variable.get("value")).lower() == "true"
            if drains or (KILLER_ENV.fullmatch(name) and name.startswith("KRUISE_")):
                body["env"] = [each for each in body["env"] if each != variable]
                self._did(f"{container.name} has no {name}", "sidecar-prestop-loop" if drains else "external-killer")
        if body.get("env") == []:
            body.pop("env")
        entry = container.program(Moment.ENTRY)
        if entry is not None and entry.script_at is None:
            for field in ("command", "args"):
                kept = [each for each in body.get(field) or [] if not str(each).startswith(STOP_ARGUMENTS)]
                if field in body and kept != body[field]:
                    body[field] = kept
                    self._did(f"{container.name} does not stay for a fixed time after SIGTERM", "sidecar-self-timeout")

    def _tell_missing_gate(self, container: Container) -> None:
        waited = any(each.owner is container and each.wait.until for each in self.roles.waits)
        readiness = container.probe("readinessProbe")
        advice = (
            "if its readiness probe does not need the application, copy it as startupProbe"
            if readiness
            else "give it a startupProbe that the kubelet can reach: a port on all addresses, or exec"
        )
        tail = "; the loops that wait for it may go then" if waited else ", if the application needs it from the start"
        self._note(
            container, (), 0, f"{container.name} has no startup probe, so it holds nothing back: {advice}{tail}", ""
        )

    # --- what falls away ---------------------------------------------------------------------------

    def _drop_waits(self, gated_names: frozenset[str]) -> None:
        for program, container in self._programs():
            if program.moment not in {Moment.ENTRY, Moment.POST_START}:
                continue
            mine = [each for each in self.roles.waits if each.program is program and each.container is container]
            keys = set()
            for each in mine:
                same = [one for one in mine if one.wait.statement is each.wait.statement]
                all_local = all(address.is_local for address in each.wait.addresses)
                ready = all(
                    one.owner is not None
                    and one.owner.name in gated_names
                    and one.owner is not container
                    and self._starts_before(one.owner, container)
                    and not one.file
                    for one in same
                )
                if ready and all_local and each.wait.until and not each.wait.files:
                    keys.add(_key(each.wait.statement))
            if keys:
                code = "poststart-wait" if program.moment is Moment.POST_START else "wait-loop"
                self._drop(container, program, frozenset(keys), "does not wait for", code)

    def _starts_before(self, owner: Container, container: Container) -> bool:
        if container.place is Place.REGULAR and container.name not in self.gates:
            return True
        order = [
            text(each.get("name"))
            for each in mappings(
                mapping(get(moved(self.body, self.pod.spec_path, self.moves), self.pod.spec_path)).get("initContainers")
            )
        ]
        return owner.name in order and container.name in order and order.index(owner.name) < order.index(container.name)

    def _drop_endings(self, native: frozenset[str]) -> None:
        kills = 0
        dropped = 0
        for program, container in self._programs():
            mine = [each for each in self.roles.endings if each.program is program and each.container is container]
            for is_kill in (False, True):
                keys = frozenset(
                    _key(each.statement)
                    for each in mine
                    if each.victim is not None
                    and each.victim.name in native
                    and each.victim is not container
                    and (each.address is None) == is_kill
                )
                if keys:
                    gone = self._drop(
                        container,
                        program,
                        keys,
                        "does not kill" if is_kill else "does not call the quit endpoint of",
                        "process-kill" if is_kill else "quit-call",
                    )
                    kills += is_kill
                    dropped += gone and is_kill
        for container in self.pod.containers:
            hook = mapping(container.hook("preStop").get("httpGet"))
            victim = self.pod.owner(container.port_of(hook.get("port")), container) if hook else None
            quits = text(hook.get("path")).rstrip("/").endswith(("/quitquitquit", "/shutdown", "/-/quit"))
            if victim is not None and victim.name in native and quits and not hook.get("host"):
                self._drop_hook(container, "preStop")
                self._did(f"{container.name} does not ask {victim.name} to quit", "quit-call")
        if kills and kills == dropped and not self._needs_shared_processes():
            mapping(get(self.body, self.pod.spec_path)).pop("shareProcessNamespace")
            self._did("processes are not shared any more: only the kill needed that", "process-kill")

    def _needs_shared_processes(self) -> bool:
        """Whether anything left looks at processes, or may do so."""
        left = Roles(pods(self.body) or self.pod)
        lookers = {"pgrep", "pidof", "pkill", "killall", "ps", "top", "nsenter", "gdb", "strace", "gcore"}
        for container in left.pod.containers:
            added = mapping(mapping(container.body.get("securityContext")).get("capabilities")).get("add") or []
            if "SYS_PTRACE" in added or mapping(container.body.get("securityContext")).get("privileged"):
                return True
            for program in container.programs:
                if any(each.name in lookers or "/proc/" in " ".join(each.words) for each in program.script.walk()):
                    return True
        return False

    def _drop_sentinels(self, native: frozenset[str]) -> None:
        for found in self.roles.waits:
            if not is_sentinel(found) or found.container.name not in native:
                continue
            place = shared_file(self.pod, found.container, found.file)
            for program, container in self._programs():
                if container is found.container or place is None:
                    continue
                keys = frozenset(
                    _key(each)
                    for each in program.script.walk()
                    if each.kind is Kind.COMMAND
                    and any(shared_file(self.pod, container, file) == place for file in made_files(each))
                )
                if keys:
                    self._drop(container, program, keys, "does not tell its end to", "sentinel-file")
            if place is not None:
                self._note(
                    None,
                    ("volumes",),
                    0,
                    f"volume {place[0]} carried {found.file}: drop it, with its mounts, if it carries nothing else",
                    "",
                )

    def _drop(self, container: Container, program: Program, keys: frozenset[Any], verb: str, code: str) -> bool:
        """Take statements out of a program; say so, or leave it to a person."""
        text_now = get(self.body, program.path)
        if program.script_at is None:
            return self._drop_exec(container, program, verb, code)
        if not isinstance(text_now, str):
            return False
        script = parse(text_now, container.env)
        wrapping = any(_key(each) in keys and wraps_application(each) for each in script.walk())
        new = None if wrapping else scripts.without(script, lambda each: _key(each) in keys)
        if new is None or (new == "" and program.moment is Moment.ENTRY):
            return False
        if new == "":
            self._drop_hook(container, "postStart" if program.moment is Moment.POST_START else "preStop")
        else:
            self._set(program.path, new)
            self._tell_exit_status(container, program, script, new, keys)
        self._did(f"{container.name} {verb} a sidecar any more", code)
        return True

    def _drop_exec(self, container: Container, program: Program, verb: str, code: str) -> bool:
        """`[wait-for-it.sh, localhost:1, --, app]` becomes `[app]`; a hook that is nothing but the call falls away."""
        if program.moment in {Moment.POST_START, Moment.PRE_STOP}:
            self._drop_hook(container, "postStart" if program.moment is Moment.POST_START else "preStop")
            self._did(f"{container.name} {verb} a sidecar any more", code)
            return True
        body = self._at(container.path)
        command = body.get("command")
        statement = program.script.statements[0]
        if not statement.name.startswith("wait-for") or not isinstance(command, list) or "--" not in command:
            return False
        body["command"] = command[command.index("--") + 1 :]
        if not body["command"]:
            return False
        self._did(f"{container.name} {verb} a sidecar any more", code)
        return True

    def _tell_exit_status(
        self, container: Container, program: Program, script: Script, new: str, keys: frozenset[Any]
    ) -> None:
        """A script's exit status is that of its last command: where that fell away, it is another one's."""
        last = next((step.statement for step in reversed(list(script.steps()))), None)
        if program.moment is Moment.ENTRY and last is not None and any(_key(each) in keys for each in last.walk()):
            relative = program.path[len(container.path) :]
            self._note(
                container,
                relative,
                max(0, len(new.rstrip().split("\n")) - 1),
                f"the exit status of {container.name} was that of the call that is gone, and is that of what came "
                "before it now: see that it is the one that you want",
                "",
            )

    # --- the Pod as a whole ------------------------------------------------------------------------

    def _recompute_grace(self) -> None:
        spec = mapping(get(self.body, self.pod.spec_path))
        hooks = [prestop_sleep(each) for each in self.roles.applications]
        longest = max((each[0] for each in hooks if each is not None), default=0.0)
        if longest and longest + LEAST_STOP > self.pod.grace:
            seconds = round(longest) + 30
            spec["terminationGracePeriodSeconds"] = seconds
            self._did(
                f"the grace period is {seconds} s: {longest:g} s of preStop, and 30 for the application and then its "
                "sidecars to stop",
                "native-short-grace",
            )
        slept = longest_sidecar_sleep(self.roles)
        if slept and "terminationGracePeriodSeconds" in self.pod.spec and self.pod.grace > max(30.0, slept):
            needed = max(30, round(longest + LAST_SECONDS))
            self._note(
                None,
                ("terminationGracePeriodSeconds",),
                0,
                f"the grace period of {self.pod.grace} s had room for a sidecar's sleep of {slept:g} s: it needs "
                f"{longest:g} s of preStop, what the application and then each sidecar take to stop, and "
                f"{LAST_SECONDS} (not below {needed} s)",
                "inflated-grace-period",
            )

    def _tell_requests(self) -> None:
        after = moved(self.body, self.pod.spec_path, self.moves)
        try:
            changing = [each for each in costs(self.pod.spec, get(after, self.pod.spec_path)) if each.changes]
        except (InvalidInput, KeyError, TypeError, AttributeError):
            return
        if changing:
            self._note(
                None,
                ("initContainers",),
                0,
                f"each Pod requests {describe(changing)}, since the sidecar runs beside init containers: see that "
                "nodes and quota have room",
                "",
            )

    # --- small things ------------------------------------------------------------------------------

    def _programs(self) -> list[tuple[Program, Container]]:
        return [(program, container) for container in self.pod.containers for program in container.programs]

    def _at(self, path: Path) -> Json:
        return mapping(get(self.body, path))

    def _set(self, path: Path, value: Any) -> None:
        get(self.body, path[:-1])[path[-1]] = value

    def _drop_hook(self, container: Container, name: str) -> None:
        body = self._at(container.path)
        mapping(body.get("lifecycle")).pop(name, None)
        if body.get("lifecycle") == {}:
            body.pop("lifecycle")

    def _did(self, message: str, code: str = "") -> None:
        self.done.append(Done(message=message, code=code))

    def _note(self, container: Container | None, path: Path, inner: int, message: str, code: str) -> None:
        self.left.append((container.name if container else "", path, inner, message, code))

    def _notes(self, after: Json) -> tuple[Note, ...]:
        """What is left: what was said on the way, and what lint still finds."""
        pod = pods(after)
        if pod is None:
            return ()
        paths = {each.name: each.path for each in pod.containers}
        found = [
            Note(
                path=(*(paths.get(name, pod.spec_path) if name else pod.spec_path), *path),
                inner=inner,
                message=message,
                code=code,
            )
            for name, path, inner, message, code in self.left
        ]
        said = {(each.code, each.path[: len(pod.spec_path) + 2]) for each in found if each.code}
        found += [
            Note(
                path=each.path, inner=each.inner, message=f"{each.message}. Instead: {each.replacement}", code=each.code
            )
            for each in findings(Roles(pod))
            if (each.code, each.path[: len(pod.spec_path) + 2]) not in said
        ]
        return tuple(dict.fromkeys(found))


def _key(statement: Statement) -> tuple[Any, ...]:
    """What a statement is, wherever it stands."""
    return (
        statement.kind,
        statement.words,
        statement.targets,
        tuple(_key(each) for each in statement.condition),
        tuple(_key(each) for each in statement.body),
    )
