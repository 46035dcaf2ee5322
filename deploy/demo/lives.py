"""The lives of Pods: their logs from before their deletion to their end, and the timeline of one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.markup import escape

from deploy.demo import witness
from deploy.demo.following import Log
from deploy.demo.screen import Screen
from deploy.demo.stage import SHOP, Stage
from deploy.demo.witness import Life, Line

_BEGIN, _END = 30.0, 60.0
_COLOURS = {"proxy": "magenta", "app": "default", "logger": "blue"}
_FIRST, _LAST = 2, 4
"""How many of the application's lines a timeline shows of its beginning and of its end."""

Logs = Mapping[str, str]
"""Per container of a Pod: its whole log."""


def follow(stage: Stage, pods: Iterable[str]) -> dict[str, dict[str, Log]]:
    """Follow the logs of *pods*, from their first lines, and return when all of them are being followed."""
    following = {
        pod: {
            container: Log(
                stage.kubectl_process("logs", "--follow", pod, f"--namespace={SHOP}", f"--container={container}"),
                f"the log of {container} in {pod}",
            )
            for container in ("proxy", _who_has_the_lines(pod))
        }
        for pod in pods
    }
    for logs in following.values():
        for log in logs.values():
            log.begun(_BEGIN)
    return following


def until_the_end(following: Mapping[str, Mapping[str, Log]]) -> dict[str, Logs]:
    """Return the whole logs of Pods that are being deleted, when their containers have ended."""
    return {pod: {container: log.whole(_END) for container, log in logs.items()} for pod, logs in following.items()}


def life(pod: str, logs: Logs) -> Life:
    """Return the life of *pod* from its whole *logs*."""
    log = logs[_who_has_the_lines(pod)]
    return witness.life_of(pod, application=witness.shipped(log) or log, proxy=logs["proxy"])


def show(life: Life, logs: Logs, screen: Screen) -> None:
    """Print the beginning and the end of the *life* of a Pod that has a logger's log."""
    middle = life.lines[_FIRST:-_LAST]
    told = {(line, "app"): None for line in life.lines if line not in middle}
    logged = witness.lines_of(logs["logger"])
    told |= {(line, "logger"): None for line in (logged[0], logged[-1])}
    told |= {(line, "proxy"): None for line in (life.ready, life.stopping)}
    for line, who in sorted(told, key=lambda each: each[0].at):
        screen.markup(f"{line.time}  [{_COLOURS[who]}]{who:7}{escape(line.text)}[/]")
        if middle and line == life.lines[_FIRST - 1]:
            screen.markup(f"[dim]{'…':14}{_summed_up(middle, life.unanswered)}[/]")


def _summed_up(lines: tuple[Line, ...], unanswered: tuple[Line, ...]) -> str:
    without = sum(line in unanswered for line in lines)
    return f"{len(lines)} more lines, {f'{without} of them without an answer' if without else 'all answered'}"


def _who_has_the_lines(pod: str) -> str:
    """Return the container whose log holds the application's lines: orders writes its own to a file."""
    return "logger" if pod.startswith("orders") else "app"
