"""`sidecarpolicy pause` and `resume`: hold a rollout, and let it go on, after a halt too."""

from __future__ import annotations

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import (
    Asked,
    annotate,
    asks_cluster,
    dry_run_option,
    policy_argument,
    say,
)
from sidecarpolicy.cli.gitops import git_manager
from sidecarpolicy.cli.operator_seen import say_what_follows
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.cli.standing import halt_of, is_paused
from sidecarpolicy.core.approvals import STUCK, removal_approval
from sidecarpolicy.core.lists import entries_of, with_entries
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import POLICIES


@click.command()
@policy_argument
@dry_run_option
@asks_cluster
def pause(asked: Asked, policy: str, **_: object) -> None:
    """Hold the rollout of a policy: no further existing Deployment is changed.

    What is in flight is completed, and new Deployments get what was rolled out completely before. Sets
    spec.rollout.paused.
    """
    identity = asked.policy_id(policy)
    body = asked.policy(identity)
    resource = POLICIES[identity.kind]
    if is_paused(body):
        say(asked, resource, identity.name, "already paused")
        return
    _set_paused(asked, body, value=True)
    say(asked, resource, identity.name, "paused")
    _tell_of_git(body)
    say_what_follows(asked, command("resume", identity))


@click.command()
@policy_argument
@dry_run_option
@asks_cluster
def resume(asked: Asked, policy: str, **_: object) -> None:
    """Let the rollout of a policy go on that is paused, or halted because too many Deployments failed.

    Sets spec.rollout.paused to false and, where the rollout is halted, the annotation sidecars.dev/resume to the id of
    that halt (status.halt.id): what failed is tried again.
    """
    identity = asked.policy_id(policy)
    body = asked.policy(identity)
    resource = POLICIES[identity.kind]
    paused, halt = is_paused(body), halt_of(body)
    spec: Json = {"rollout": {"paused": False}} if paused else {}
    done = ["spec.rollout.paused is false"] if paused else []
    if halt:
        annotate(asked, resource, body, names.RESUME, lambda _: halt, spec=spec)
        done.append(f"halt {halt}")
    elif paused:
        _set_paused(asked, body, value=False)
    else:
        say(asked, resource, identity.name, "is neither paused nor halted")
        return
    say(asked, resource, identity.name, f"rollout resumed ({', '.join(done)})")
    for failure in items(at(body, "status"), "failures") if halt else ():
        click.echo(
            f"tried again: {failure['namespace']}/{failure['name']}, which failed: {failure['message']}", err=True
        )
    if paused:
        _tell_of_git(body)
    say_what_follows(asked, command("status", identity, "--watch"))


def _set_paused(asked: Asked, body: Json, *, value: bool) -> None:
    """Write spec.rollout.paused. An approved removal stays approved, although that makes a new generation."""
    metadata, resource = at(body, "metadata"), POLICIES[body["kind"]]
    spec: Json = {"rollout": {"paused": value}}
    approved = entries_of(at(metadata, "annotations").get(names.APPROVE, ""))
    before, after = (removal_approval(metadata["generation"] + more) for more in (0, 1))
    kept = [after + end for each in approved if (end := each.removeprefix(before)) in ("", STUCK) and end != each]
    if kept:
        annotate(asked, resource, body, names.APPROVE, lambda value: with_entries(value, kept), spec=spec)
    else:
        asked.cluster.merge_patch(resource, metadata.get("namespace", ""), metadata["name"], {"spec": spec})


def _tell_of_git(body: Json) -> None:
    if (manager := git_manager(body)) is not None:
        click.echo(f"{manager} may set spec.rollout.paused back: change it in Git as well", err=True)
