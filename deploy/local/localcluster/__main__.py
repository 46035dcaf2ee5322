"""``python -m localcluster up|down|status``: a local cluster from a shell (see the Makefile).

Exit code 0: done, or (``status``) all of it runs; 1: it failed, or something does not run; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType

from localcluster import lifecycle, node
from localcluster.cluster import Cluster
from localcluster.current import current, is_wanted
from localcluster.errors import AlreadyRunningError, ClusterError, NodeTakenError, NotRunningError, UnsupportedError
from localcluster.narration import say

STAND_INS = 3
"""How many simulated nodes stand in for a real one that this machine cannot run."""

WITHOUT_A_NODE = """\
  kwok stands in: Pods are scheduled and reported ready, but no container runs. Logs, exec, probes,
  webhooks inside the cluster and the order of containers cannot be tried here."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that an `up` that is told to end stops what it started
    try:
        return int(options.run(options))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted: everything that was started has been stopped")
        return 130


def up(options: argparse.Namespace) -> int:
    """Start a cluster and print how to use it; one that already runs will do."""
    if is_wanted():
        print(_how_to_use(current()))
        return 0
    try:
        cluster = _start(options.cluster, options.node, options.kwok)
    except AlreadyRunningError:
        cluster = lifecycle.attach(options.cluster)
        if options.node == "yes" and not cluster.has_node:
            raise
        say(f"{options.cluster} is already running.")
    print(_how_to_use(cluster))
    return 0


def down(options: argparse.Namespace) -> int:
    """Stop one cluster, or all of them; nothing to stop is no error."""
    if is_wanted():
        say("SIDECARPOLICY_CLUSTER=current: your own cluster was not started here and is left alone.")
        return 0
    for name in lifecycle.names() if options.all else [options.cluster]:
        lifecycle.stop(name)
        say(f"{name} is stopped, and nothing of it is left.")
    return 0


def status(options: argparse.Namespace) -> int:
    """Print what runs; exit code 1 if the cluster is down or a part of it has died."""
    if is_wanted():
        current()
        return 0
    names = lifecycle.names()
    if others := [name for name in names if name != options.cluster]:
        print(f"Other clusters here: {', '.join(others)}")
    if owner := node.owner():
        print(f"The real node of this machine belongs to: {owner}")
    try:
        cluster = lifecycle.attach(options.cluster)
    except NotRunningError as error:
        print(error)
        return 1
    for component, alive in cluster.components.items():
        print(f"  {component:24} {'running' if alive else f'DEAD, see {cluster.log(component)}'}")
    print(_how_to_use(cluster))
    return 0 if all(cluster.components.values()) else 1


def _start(name: str, wish: str, kwok: int) -> Cluster:
    """Start a cluster with a real node if *wish* and machine allow it; kwok stands in where they do not.

    :raises ClusterError: if it cannot be started, or has no real node although *wish* is "yes".
    """
    if wish == "no":
        return lifecycle.start(name, simulated_nodes=kwok)
    try:
        return lifecycle.start(name, node=True, simulated_nodes=kwok)
    except (UnsupportedError, NodeTakenError) as error:
        if wish == "yes":
            raise
        say(f"No real node: {error}\n{WITHOUT_A_NODE}")
        return lifecycle.start(name, simulated_nodes=kwok or STAND_INS)


def _how_to_use(cluster: Cluster) -> str:
    lines = [
        f"{cluster.name}: {cluster.server}",
        f"  export KUBECONFIG={cluster.kubeconfig}",
        f"  {cluster.kubectl_path} get nodes",
    ]
    return "\n".join(lines)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(required=True, metavar="up|down|status")
    for command, run in (("up", up), ("down", down), ("status", status)):
        sub = commands.add_parser(command, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        sub.add_argument("--cluster", default=os.environ.get("CLUSTER") or "dev", help="its name (default: dev)")
        if command == "up":
            sub.add_argument(
                "--node",
                choices=("auto", "yes", "no"),
                default="auto",
                help="a real node: if this machine can (auto), or else an error (yes), or none (no)",
            )
            sub.add_argument("--kwok", type=int, default=0, metavar="N", help="how many simulated nodes")
        if command == "down":
            sub.add_argument("--all", action="store_true", help="every cluster of this cache folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
