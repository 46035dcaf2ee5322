"""`make demo`, or `python -m deploy.demo` in the repository.

Exit code 0: every promise that this machine can show held; 1: one did not; 2: it could not begin; 130: interrupted.
Without root there is no real node: kwok stands in, and what needs a running container is listed as not shown.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType

from deploy.demo.promises import BrokenPromise, Promises
from deploy.demo.screen import Screen
from deploy.demo.stage import NAME, Stage
from deploy.demo.story import Story
from localcluster import cache
from localcluster import node as real_node
from localcluster.errors import ClusterError, KubectlError, NodeTakenError, UnsupportedError

HELD, BROKEN, NOT_BEGUN, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Show the demo and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description="Shows what sidecarpolicy promises.")
    parser.add_argument("--node", choices=("auto", "yes", "no"), default=os.environ.get("NODE") or "auto")
    parser.add_argument("--keep", action="store_true", default=os.environ.get("KEEP") not in (None, "", "0"))
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        return show(screen, node=_has_node(options.node, screen), keep=options.keep)
    except ClusterError as error:
        screen.problem(str(error))
        return NOT_BEGUN
    except KeyboardInterrupt:
        left = f"; the cluster is left running: make cluster-down CLUSTER={NAME}" if options.keep else ""
        screen.problem(f"Interrupted: what was started has been stopped{left}.")
        return INTERRUPTED


def show(screen: Screen, *, node: bool, keep: bool) -> int:
    """Start the cluster, tell the story and say what came of it."""
    kind = "a real node: containers run" if node else "simulated nodes: no container runs"
    screen.step("Start a Kubernetes", f"A real control plane from source, on this machine only, with {kind}.")
    screen.command(f"make cluster-up CLUSTER={NAME} NODE={'yes' if node else 'no'}")
    promises = Promises()
    with Stage(node=node, keep=keep, screen=screen) as stage:
        if node:
            stage.load_images()
        screen.text(stage.kubectl("get", "nodes", shown=False))
        try:
            Story(stage, screen, promises).tell()
        except BrokenPromise as error:
            screen.broken(error, stage.operator_log())
            code = BROKEN
        except KubectlError as error:
            screen.broken(BrokenPromise("Every command that the demo shows works", str(error)), stage.operator_log())
            code = BROKEN
        else:
            screen.summary(promises)
            code = HELD
        if keep:
            screen.how_to_use(stage.how_to_use())
    return code


def _has_node(wish: str, screen: Screen) -> bool:
    """Whether there will be a real node; raise ClusterError where it was asked for by "yes" and cannot be had."""
    if wish == "no":
        return False
    try:
        real_node.prepare_machine(cache.clusters() / NAME)
    except (UnsupportedError, NodeTakenError) as error:
        if wish == "yes":
            raise
        screen.problem(f"No real node: {error}")
        screen.problem("kwok stands in. What needs a running container is skipped, and listed as NOT SHOWN.")
        return False
    return True


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
