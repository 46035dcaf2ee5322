"""What a command asks, and what it ends: network addresses, files, processes, other containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from sidecarpolicy.lint.shell import Kind, Statement

_URL_TOOLS = frozenset({"curl", "wget", "http", "https", "xh", "fetch"})
_SOCKET_TOOLS = frozenset({"nc", "ncat", "netcat", "telnet"})
_WAIT_SCRIPTS = frozenset(
    {"wait-for-it.sh", "wait-for-it", "wait-for.sh", "wait-for", "dockerize", "wait4x", "waitforit"}
)
_HOST_OPTIONS = {"pg_isready": ("-h", "-p", 5432), "mysqladmin": ("-h", "-P", 3306), "redis-cli": ("-h", "-p", 6379)}
_LOCAL = frozenset({"localhost", "localhost.localdomain", "::1", "0.0.0.0", "127.1"})
_CURL_VALUED = frozenset(
    {"-X", "-o", "-w", "-m", "-H", "-d", "-u", "-A", "-e", "-b", "-c", "-T", "-F", "-K", "-x", "--request", "--output"}
    | {"--write-out", "--max-time", "--header", "--data", "--retry", "--retry-delay", "--connect-timeout", "--user"}
    | {"--retry-max-time", "--unix-socket", "--cacert", "--cert", "--key", "--data-raw", "--resolve", "--interface"}
)
_WGET_VALUED = frozenset({"-O", "-o", "-t", "-T", "-U", "-P", "--timeout", "--tries"})
_NC_VALUED = frozenset({"-w", "-i", "-p", "-s", "-e", "-q"})
_FILE_TESTS = frozenset({"-f", "-e", "-s", "-S", "-p", "-r", "-d"})
MESH_WAITS = {
    "pilot-agent": frozenset({"wait"}),
    "cloud-sql-proxy": frozenset({"wait"}),
    "cloud_sql_proxy": frozenset({"wait"}),
    "alloydb-auth-proxy": frozenset({"wait"}),
}
"""Subcommands that wait until the sidecar of that name is ready."""
AWAITS = frozenset({"linkerd-await"})
_KILLERS = frozenset({"kill", "pkill", "killall", "killall5", "skill"})
_QUIT_PATHS = ("/quitquitquit", "/shutdown", "/-/quit", "/v1.0/shutdown", "/exit", "/quit")
_SEES_SOCKETS = frozenset({"netstat", "ss", "lsof"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One end of a connection. *port* is 0 where it is not known."""

    host: str
    port: int = 0
    scheme: str = "tcp"
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is in the same Pod."""
        return self.host.lower() in _LOCAL or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{self.path}" if self.port else f"{self.host}{self.path}"


def addresses(command: Statement) -> Iterator[Address]:
    """Yield what *command* itself connects to."""
    for target in (*command.targets, *command.words):
        if match := re.match(r"/dev/(?:tcp|udp)/([^/]+)/(\d+)", target):
            yield Address(host=match[1], port=int(match[2]))
    if command.kind is not Kind.COMMAND:
        return
    name, arguments = command.name, command.arguments
    if name in _URL_TOOLS:
        yield from _of_urls(_operands(arguments, _WGET_VALUED if name == "wget" else _CURL_VALUED))
    elif name in _SOCKET_TOOLS or (name == "busybox" and arguments[:1] and arguments[0] in _SOCKET_TOOLS):
        operands = [each for each in _operands(arguments, _NC_VALUED) if each not in _SOCKET_TOOLS]
        if len(operands) >= 2 and operands[1].isdigit():
            yield Address(host=operands[0], port=int(operands[1]))
    elif name in _WAIT_SCRIPTS:
        yield from _of_wait_script(arguments)
    elif name in _HOST_OPTIONS:
        host, port, default = _HOST_OPTIONS[name]
        found = _option(arguments, host) or "localhost"
        number = _option(arguments, port)
        if not (name == "redis-cli" and "ping" not in [each.lower() for each in arguments]):
            yield Address(host=found, port=int(number) if number.isdigit() else default)
    elif name.startswith("grpc_health_probe") or name == "grpc-health-probe":
        host, _, number = _long_option(arguments, "addr").rpartition(":")
        if number.isdigit():
            yield Address(host=host or "localhost", port=int(number), scheme="grpc")


def waited_files(statement: Statement) -> Iterator[str]:
    """Yield the files that a test, or `ls` and `stat` in a condition, looks for."""
    words = statement.words
    if statement.kind is Kind.COMMAND:
        if statement.name in {"ls", "stat", "cat"}:
            yield from (each for each in statement.arguments if "/" in each)
            return
        if statement.name not in {"test", "["}:
            return
        words = statement.arguments
    elif statement.kind is not Kind.TEST:
        return
    for operator, operand in pairwise(words):
        if operator in _FILE_TESTS and operand not in {"]", "-a", "-o"}:
            yield operand


def made_files(statement: Statement) -> Iterator[str]:
    """Yield the files that a statement makes: by touch, or by a redirection."""
    if statement.kind is Kind.COMMAND and statement.name in {"touch", "tee", "mkfifo"}:
        yield from (each for each in statement.arguments if not each.startswith("-"))
    for each in statement.targets:
        if each.startswith("/") and not each.startswith("/dev/"):
            yield each


def watched_ports(statements: tuple[Statement, ...]) -> Iterator[int]:
    """Yield the ports whose sockets are looked at: `netstat -tn | grep :8080`, `ss -Htn sport = :8080`."""
    seen = any(one.name in _SEES_SOCKETS for each in statements for one in each.walk())
    if not seen:
        return
    for each in statements:
        for one in each.walk():
            for word in one.words if one.name in {*_SEES_SOCKETS, "grep", "egrep", "awk"} else ():
                yield from (int(number) for number in re.findall(r":(\d{2,5})\b", word))


def quit_call(command: Statement) -> Address | None:
    """Return the address in this Pod that *command* asks to quit, or None."""
    if command.name not in _URL_TOOLS:
        return None
    for each in addresses(command):
        if each.is_local and any(each.path.rstrip("/").endswith(path) for path in _QUIT_PATHS):
            return each
    return None


def killed(command: Statement) -> str | None:
    """Return the process that *command* ends: a name, `$!`, `1` or what else stands there; None where it ends none."""
    name = command.name
    if name not in _KILLERS or any(each in {"-0", "-l", "-L"} for each in command.arguments):
        return None
    looked_up = next((each for one in command.body for each in one.walk() if each.name in {"pidof", "pgrep"}), None)
    source = looked_up if looked_up is not None else command
    operands = _operands(source.arguments, frozenset({"-s", "-n", "-u", "-g", "-G", "--signal"}))
    return _process(operands[-1]) if operands else None


def ended_by_pipe(pipeline: Statement) -> str | None:
    """Return the process of `pidof proxy | xargs kill` and `ps … | grep proxy | … | xargs kill`, or None."""
    if pipeline.kind is not Kind.PIPELINE or not any(
        each.name == "xargs" and any(base in each.arguments for base in _KILLERS) for each in pipeline.body
    ):
        return None
    for each in pipeline.body:
        if each.name in {"pidof", "pgrep", "grep"} and (operands := _operands(each.arguments, frozenset())):
            return _process(operands[-1])
    return ""


def mesh_wait(command: Statement) -> str | None:
    """Return the tool by which *command* waits for a proxy (`pilot-agent wait`, `linkerd-await`), or None."""
    name, arguments = command.name, command.arguments
    if name in AWAITS:
        return name
    if name in MESH_WAITS and arguments[:1] and arguments[0] in MESH_WAITS[name]:
        return f"{name} {arguments[0]}"
    return None


def sleeping(command: Statement) -> float | None:
    """Return for how many seconds *command* sleeps: infinity for `infinity`, 0 where it is not known, or None."""
    if command.kind is not Kind.COMMAND:
        return None
    words = command.arguments
    if command.name == "busybox" and words[:1] == ("sleep",):
        words = words[1:]
    elif command.name != "sleep":
        return None
    return sum(_duration(each) for each in words)


def _duration(word: str) -> float:
    if word in {"infinity", "inf"}:
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word)
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0


def _process(operand: str) -> str:
    return operand if operand.startswith("$") else operand.strip("^$[]").rpartition("/")[2]


def _operands(arguments: tuple[str, ...], valued: frozenset[str]) -> list[str]:
    found: list[str] = []
    skip = False
    for each in arguments:
        if skip:
            skip = False
        elif each.startswith("-") and len(each) > 1 and not each[1:].isdigit():
            skip = _takes_next(each, valued)
        elif not (each.startswith("-") and len(each) > 1):
            found.append(each)
    return found


def _takes_next(option: str, valued: frozenset[str]) -> bool:
    """Whether the value of *option* is the next word: that of `-sX`, not that of `-XPOST`."""
    if option.startswith("--"):
        return option in valued
    place = next((index for index, letter in enumerate(option) if f"-{letter}" in valued), 0)
    return place == len(option) - 1 and place > 0


def _of_urls(operands: list[str]) -> Iterator[Address]:
    for each in operands:
        if re.match(r"^:\d+", each):  # as httpie has it
            each = f"localhost{each}"
        parts = urlsplit(each if "://" in each else f"http://{each}")
        try:
            port = parts.port
        except ValueError:
            continue
        if parts.hostname:
            default = 443 if parts.scheme == "https" else 80
            yield Address(host=parts.hostname, port=port or default, scheme=parts.scheme, path=parts.path)


def _of_wait_script(arguments: tuple[str, ...]) -> Iterator[Address]:
    for each in arguments:
        if each == "--":
            return
        bare = each.partition("://")[2] if "://" in each else each
        bare = bare.removeprefix("-wait=").removeprefix("--host=")
        match = re.match(r"^([\w.\-$\{\}]+):(\d+)(/\S*)?$", bare)
        if match:
            scheme = each.partition("://")[0] if "://" in each else "tcp"
            yield Address(host=match[1], port=int(match[2]), scheme=scheme, path=match[3] or "")
    host, port = _option(arguments, "-h") or _long_option(arguments, "host"), _option(arguments, "-p")
    number = port or _long_option(arguments, "port")
    if host and number.isdigit():
        yield Address(host=host, port=int(number))


def _option(arguments: tuple[str, ...], name: str) -> str:
    for index, each in enumerate(arguments):
        if each == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if each.startswith(name) and len(each) > len(name) and not name.startswith("--"):
            return each[len(name) :].removeprefix("=")
    return _long_option(arguments, {"-h": "host", "-p": "port", "-P": "port"}.get(name, ""))


def _long_option(arguments: tuple[str, ...], name: str) -> str:
    for index, each in enumerate(arguments):
        bare = each.lstrip("-")
        if name and each.startswith("-") and bare.startswith(f"{name}="):
            return bare.partition("=")[2]
        if name and each.startswith("-") and bare == name and index + 1 < len(arguments):
            return arguments[index + 1]
    return ""
