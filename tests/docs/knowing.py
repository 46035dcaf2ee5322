"""What each program knows by its own word: which verbs there are and which flags a verb takes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from functools import cache

import click

from localcluster import binaries
from sidecarpolicy.cli.main import main
from tests.docs.blocks import ROOT


def complaint(program: str, arguments: tuple[str, ...]) -> str:
    """Return what is wrong with *arguments*, as far as verb and flags go; empty if nothing is."""
    verbs = [each for each in arguments[:2] if re.fullmatch(r"[a-z][a-z-]*", each)]
    used = [each.partition("=")[0] for each in arguments if each.startswith("-") and each not in ("-", "--")]
    if program == "sidecarpolicy":
        verb = next((each for each in arguments if each in main.list_commands(click.Context(main))), "")
        known = _own(verb) if verb else frozenset()
        return "" if verb and known >= set(used) else _said(program, verb, set(used) - known)
    if program in ("kubectl", "helm"):
        known = _theirs(program, *verbs)
        return "" if known and known >= set(used) else _said(program, " ".join(verbs), set(used) - known)
    if program == "make":
        targets = [each for each in arguments if "=" not in each]
        return "" if _target(*targets) else f"the Makefile has no target {' '.join(targets)}"
    return "" if program in ("source", "echo", "docker", "date") else f"{program} is no program that the pages explain"


def _said(program: str, verb: str, unknown: Iterable[str]) -> str:
    return f"{program} has no {verb or 'such verb'} with {', '.join(sorted(unknown)) or 'these arguments'}"


@cache
def _own(verb: str) -> frozenset[str]:
    """Return the flags of one of our verbs."""
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    options = [each for each in command.params if isinstance(each, click.Option)]
    return frozenset(name for each in options for name in (*each.opts, *each.secondary_opts)) | {"-h", "--help"}


@cache
def _theirs(program: str, *verbs: str) -> frozenset[str]:
    """Return the flags of a verb of kubectl or Helm; none where there is no such verb."""
    path = str(binaries.require([program])[program])
    general = [path, "options"] if program == "kubectl" else [path, "--help"]
    texts = []
    for command in ([path, *verbs, "--help"], general):
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode or "unknown command" in done.stderr:
            return frozenset()
        texts.append(done.stdout)
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", "\n".join(texts)))


def _target(*names: str) -> bool:
    """Tell whether the Makefile knows how to make *names*; what it makes by itself if there are none."""
    done = subprocess.run(["make", "--dry-run", *names], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0
