"""`sidecarpolicy undo`: put the spec of an earlier revision back, word for word."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import (
    Asked,
    asks_cluster,
    dry_run_option,
    policy_argument,
    say,
)
from sidecarpolicy.cli.completing import revisions
from sidecarpolicy.cli.gitops import git_manager
from sidecarpolicy.cli.hints import listing
from sidecarpolicy.cli.history import HistoryEntry, before, history, live_name, named, with_words
from sidecarpolicy.cli.operator_seen import say_what_follows
from sidecarpolicy.cli.policy_names import command
from sidecarpolicy.cli.standing import is_paused
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.patch import escaped
from sidecarpolicy.core.restarts import WORD
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import PATCH_DOES_NOT_FIT, Rejected
from sidecarpolicy.engine.resources import POLICIES


@click.command()
@policy_argument
@click.option(
    "--to-revision",
    metavar="NAME|HASH",
    shell_complete=revisions,
    help="Default: of the others, the one rolled out completely last; never one that was halted or not completed.",
)
@click.option("--force", is_flag=True, help="Even where Argo CD or Flux would put it back.")
@dry_run_option
@asks_cluster
def undo(asked: Asked, policy: str, to_revision: str | None, force: bool, **_: object) -> None:
    """Put back what an earlier revision of a policy injected.

    Restores spec.sidecars, volumes, application and priority exactly as their author wrote them, and the annotation
    sidecars.dev/restarted-at, so the policy has the old revision again, under its old name. The selector, the rollout
    and the other fields stay as they are.
    """
    if to_revision == "":
        raise click.UsageError("--to-revision must not be empty: name a revision, or leave the flag out")
    identity = asked.policy_id(policy)
    body = asked.policy(identity)
    if "deletionTimestamp" in body["metadata"]:
        raise click.ClickException(f"{identity.label} is being deleted: apply it anew once it is gone")
    manager = git_manager(body)
    if manager is not None and not force:
        raise click.ClickException(
            f"{identity.label} comes from Git ({manager}), which would put it back: revert it in Git, or use --force"
        )
    past, live = history(asked, identity), live_name(identity, body)
    resource = POLICIES[identity.kind]
    target = named(past, identity, to_revision) if to_revision else before(past, live)
    if target is None:
        raise click.ClickException(_nowhere(past, live, identity))
    if target.name == live:
        say(asked, resource, identity.name, f"not undone: it is at revision {live} already")
        return
    if target.words is None:
        raise click.ClickException(
            f"revision {target.name} was stored without its author's words (by an earlier version of the operator): "
            "apply the old spec from where it is kept"
        )
    metadata, spec = body["metadata"], at(body, "spec")
    operations: list[Json] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": metadata["generation"]},
        {"op": "replace", "path": "/spec", "value": with_words(spec, target.words)},
        *_restart(metadata, target.words.get(WORD, "")),
    ]
    try:
        after = asked.cluster.json_patch(resource, identity.namespace, identity.name, operations)
    except Rejected as error:
        if error.reason != PATCH_DOES_NOT_FIT:
            raise
        raise click.ClickException(
            f"somebody else has just edited {identity.label}: look at it and try again"
        ) from error
    if live_name(identity, after) != target.name:  # a mutating webhook, or a schema with other defaults
        changed = f"the API server made {live_name(identity, after)} of it: compare with kubectl get -o yaml"
        click.echo(f"this is not {target.name} again; {changed}", err=True)
    say(asked, resource, identity.name, f"rolled back to revision {target.name}")
    if not to_revision and any(each.name == live for each in past):
        click.echo(
            f"it was at revision {live}; back there: {command('undo', identity, '--to-revision', live)}", err=True
        )
    paused = is_paused(after)
    if paused:
        click.echo("it is paused: nothing changes before it is resumed", err=True)
    if manager is not None:
        click.echo(f"{manager} may put the newer spec back at any moment: revert it in Git as well", err=True)
    say_what_follows(asked, command("resume", identity) if paused else command("status", identity, "--watch"))


def _restart(metadata: Json, wanted: str) -> list[Json]:
    """Return what sets the annotation with the time of the last restart to *wanted*, or takes it off (empty)."""
    annotations, path = at(metadata, "annotations"), "/metadata/annotations"
    key = escaped(names.RESTARTED_AT)
    if annotations.get(names.RESTARTED_AT, "") == wanted:
        return []
    if not wanted:
        return [{"op": "remove", "path": f"{path}/{key}"}]
    if annotations:
        return [{"op": "add", "path": f"{path}/{key}", "value": wanted}]
    return [  # nobody else's may be lost
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "add", "path": path, "value": {names.RESTARTED_AT: wanted}},
    ]


def _nowhere(past: Sequence[HistoryEntry], live: str, identity: PolicyId) -> str:
    """Why there is nowhere to go back to, and how to go to a revision that nobody has seen to work."""
    others = [each.name for each in past if each.name != live]
    if not others:
        return f"{identity.label} has no earlier revision to go back to"
    restarted = before([each for each in past if each.name != live], live)
    if restarted is not None:
        return (
            f"{identity.label} is at revision {live}, which only restarts what {restarted.name} injects, and "
            "nothing else was rolled out completely. To take that one all the same: "
            f"{command('undo', identity, '--to-revision', restarted.name)}"
        )
    return (
        f"{identity.label} is at revision {live or '(invalid)'}, and no other was rolled out completely; there is "
        f"{listing(others)}. To take one all the same: {command('undo', identity, '--to-revision', others[0])}"
    )
