"""Waiting, as scripts do it: loops until something answers, tools that wait, sleeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sidecarpolicy.lint.asking import (
    AWAITS,
    Address,
    addresses,
    mesh_wait,
    quit_call,
    sleeping,
    waited_files,
    watched_ports,
)
from sidecarpolicy.lint.shell import Kind, Script, Statement, Step

_IDLE = frozenset(
    {"sleep", "echo", "printf", ":", "true", "break", "continue", "exit", "return", "date", "let", "expr", "log", "set"}
    | {"export", "local", "test", "[", "false", "cat", "kill", "wait", "usleep"}
)
"""What may stand in a loop that only waits."""
_ASKING = frozenset(
    {"curl", "wget", "nc", "ncat", "netcat", "telnet", "http", "pg_isready", "mysqladmin", "redis-cli", "grep", "awk"}
    | {
        "netstat",
        "ss",
        "lsof",
        "wc",
        "seq",
        "head",
        "tail",
        "cut",
        "tr",
        "sed",
        "ls",
        "stat",
        "grep",
        "egrep",
        "timeout",
    }
    | {"pidof", "pgrep", "ps", "busybox", "basename", "xargs"}
)
_RETRIES = frozenset({"--retry", "--retry-connrefused", "--retry-all-errors"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A *statement*, run in *step*, that waits.

    *until*: for something to come up; False: for it to go away. *tool*: the tool that knows itself what it waits for.
    *after_background*: something was started in the background before.
    """

    step: Step
    statement: Statement
    addresses: tuple[Address, ...] = ()
    files: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    tool: str = ""
    until: bool = True
    after_background: bool = False


def waits(script: Script) -> Iterator[Wait]:
    """Yield every statement of *script* that waits, in the order in which they run."""
    background = False
    for step in script.steps():
        for found in _waits_in(step, script):
            yield Wait(
                step=step,
                statement=found.statement,
                addresses=found.addresses,
                files=found.files,
                ports=found.ports,
                tool=found.tool,
                until=found.until,
                after_background=background,
            )
        background = background or step.background


def _waits_in(step: Step, script: Script) -> Iterator[Wait]:
    inside: set[int] = set()
    for each in script.expand(step.statement):
        if id(each) in inside:
            continue
        found = _loop(each, step, script) if each.kind is Kind.LOOP else _command(each, step)
        if found is not None:
            yield found
        if each.kind is Kind.LOOP:
            inside.update(id(one) for one in script.expand(each))


def _loop(loop: Statement, step: Step, script: Script) -> Wait | None:
    asked = [one for each in loop.condition for one in script.expand(each)]
    inside = [one for each in loop.body for one in script.expand(each)]
    endless = not asked or all(each.name in {"true", ":"} or each.kind is Kind.NOT for each in asked)
    counted = loop.bounded or not any(True for each in asked for _ in (*addresses(each), *waited_files(each)))
    breaks = any(each.name in {"break", "exit", "return"} for each in inside)
    fed_back = counted and _sets_what_is_asked(inside, asked)
    asking = inside if (endless or counted) and (breaks or fed_back) else asked
    if any(_works(each) for each in inside) or any(quit_call(each) is not None for each in asking):
        return None
    tool = next((found for each in asking if (found := mesh_wait(each))), "")
    found_addresses = tuple(dict.fromkeys(address for each in asking for address in addresses(each)))
    files = tuple(dict.fromkeys(file for each in asking for file in waited_files(each)))
    ports = tuple(dict.fromkeys(watched_ports(loop.condition or loop.body)))
    if not (found_addresses or files or ports or tool):
        return None
    return Wait(
        step=step,
        statement=loop,
        addresses=found_addresses,
        files=files,
        ports=ports,
        tool=tool,
        until=_until(loop, asked) if asking is asked else True,
    )


def _sets_what_is_asked(inside: list[Statement], asked: list[Statement]) -> bool:
    """Whether a loop asks in its body, and its condition only the result: `while [ $RC -gt 0 ]; do curl x; RC=$?; …`"""
    set_here = {
        each.words[0].partition("=")[0] for each in inside if each.kind is Kind.ASSIGNMENT and "$?" in each.words[0]
    }
    return any(word.strip('${}"') in set_here for each in asked for word in each.words if word.startswith("$"))


def _works(statement: Statement) -> bool:
    """Whether a statement in a loop is work, and not only waiting."""
    if statement.kind is not Kind.COMMAND:
        return False
    name = statement.name
    if statement.background:
        return True
    if not name or name in _IDLE or name in _ASKING or mesh_wait(statement):
        return False
    return not any(True for _ in addresses(statement)) and name not in {"sh", "bash"}


def _until(loop: Statement, asked: list[Statement]) -> bool:
    """Whether a loop ends when what it asks for is there: `until x`, `while ! x`, `while [ code != 200 ]`."""
    negated = any(
        each.kind is Kind.NOT
        or (each.kind is Kind.TEST and any(word in {"!", "!=", "-ne", "-z"} for word in each.words))
        or (each.name in {"test", "["} and any(word in {"!", "!=", "-ne", "-z"} for word in each.arguments))
        for each in asked
    )
    return loop.until != negated


def _command(command: Statement, step: Step) -> Wait | None:
    if command.kind is not Kind.COMMAND:
        return None
    if tool := mesh_wait(command):
        return Wait(step=step, statement=command, tool=tool)
    name = command.name
    waiting = name in {"dockerize", "wait4x", "waitforit"} or name.startswith("wait-for")
    retrying = name == "curl" and any(each in _RETRIES for each in command.arguments)
    if (waiting or retrying) and (found := tuple(addresses(command))):
        return Wait(step=step, statement=command, addresses=found)
    return None


def sleeps(script: Script) -> Iterator[tuple[Step, float]]:
    """Yield the steps of *script* that are nothing but a sleep, with the seconds."""
    for step in script.steps():
        seconds = sleeping(step.statement)
        if seconds is not None:
            yield step, seconds


def wraps_application(command: Statement) -> bool:
    """Whether a tool that waits starts the application itself (`linkerd-await -- app`, `wait-for-it.sh x:1 -- app`)."""
    return command.name in AWAITS or "--" in command.arguments
