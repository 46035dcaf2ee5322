"""`sidecarpolicy release`: take policies away for good, and wait until nothing of them is left.

It is what a person would do with kubectl, in the order in which it works: say what becomes of the sidecars, delete,
approve the removals that wait for that, wait. With the operator gone nobody removes anything any more: then what it
wrote on objects can only be taken off, and the sidecars stay with their owners.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, annotate, asks_cluster, dry_run_option, duration, say
from sidecarpolicy.cli.cluster import explanation
from sidecarpolicy.cli.completing import policies as complete_policies
from sidecarpolicy.cli.gitops import git_manager
from sidecarpolicy.cli.operator_seen import OperatorSeen, look_at_operator
from sidecarpolicy.cli.policy_names import command, with_namespace
from sidecarpolicy.cli.standing import WITHOUT_OPERATOR, awaited_by, standing_of
from sidecarpolicy.cli.text import plural
from sidecarpolicy.core.approvals import STUCK
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.lists import with_entries
from sidecarpolicy.core.record import text_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import record_of
from sidecarpolicy.engine.port import ApiError, NotFound, Rejected
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES
from sidecarpolicy.names import DeletionPolicy

INTERVAL = 1.0
AFTERWARDS = (
    "next: take the operator away (kubectl delete -k deploy/base, or helm uninstall), then the kinds "
    "(kubectl delete -k crds)"
)


@click.command(
    epilog="Exit codes: 0 nothing is left, 1 it could not be done, 2 wrong usage, 3 the time is over and some are left."
)
@click.argument("policies", metavar="[POLICY]...", nargs=-1, shell_complete=complete_policies)
@click.option("--all", "everything", is_flag=True, help="Every policy of the cluster, of both kinds.")
@click.option("--keep-sidecars", is_flag=True, help="Leave the sidecars to the owners: no Deployment is restarted.")
@click.option(
    "--without-operator",
    is_flag=True,
    help="The operator is gone: with --keep-sidecars, take its marks and finalizers off from here.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout", callback=duration, default="0", metavar="TIME", help="Wait so long: 5m, 1h30m; 0 is for ever."
)
@dry_run_option
@asks_cluster
def release(
    asked: Asked,
    policies: tuple[str, ...],
    everything: bool,
    keep_sidecars: bool,
    without_operator: bool,
    yes: bool,
    timeout: float,
    **_: object,
) -> None:
    """Take policies away for good, with their sidecars or without.

    Deletes them, approves the removals that would wait for an approval, and waits until nothing of them is left. The
    sidecars go as in every removal: one Deployment first, within maxConcurrent.
    """
    if bool(policies) == everything:
        raise click.UsageError("name POLICIES, or all with --all")
    if without_operator and not keep_sidecars:
        raise click.UsageError(
            "--without-operator needs --keep-sidecars: without the operator nobody removes sidecars (to do it by hand: "
            "kubectl get deployments -A -o yaml | sidecarpolicy eject | kubectl replace -f -)"
        )
    bodies = [asked.policy(asked.policy_id(each)) for each in policies] if policies else list(_all(asked))
    seen = look_at_operator(asked)()
    _refuse(seen, without_operator=without_operator, any_left=bool(bodies))
    _confirm(bodies, keep_sidecars=keep_sidecars, yes=yes or asked.dry_run)
    for body in bodies:
        _delete(asked, body, keep_sidecars=keep_sidecars, without_operator=without_operator)
    if asked.dry_run:
        return
    left = _wait(asked, [PolicyId.of(each) for each in bodies], timeout)
    if left:
        raise SystemExit(3)
    if keep_sidecars and (everything or without_operator):
        gone = None if everything else {PolicyId.of(each) for each in bodies}
        _forget_records(asked, gone)
    given_up = None if keep_sidecars else _say_what_was_given_up(asked, {PolicyId.of(each) for each in bodies})
    if given_up:
        raise SystemExit(1)
    if not bodies:
        click.echo("there is no policy", err=True)
    elif keep_sidecars or given_up is not None:
        click.echo("nothing is left of them", err=True)
    if everything:
        click.echo(AFTERWARDS, err=True)


def _all(asked: Asked) -> Iterator[Json]:
    lists = [asked.cluster.soon(asked.cluster.list, resource) for resource in POLICIES.values()]
    for listed in lists:
        yield from listed()


def _refuse(seen: OperatorSeen, *, without_operator: bool, any_left: bool) -> None:
    """Raise click.ClickException where waiting would have no end."""
    if seen.stop and not without_operator:
        raise click.ClickException(seen.banners[0])
    if seen.problem and not without_operator and any_left:
        raise click.ClickException(
            f"{seen.problem}. Start it, for it is what removes sidecars; or, where it is gone for good, leave them: "
            f"sidecarpolicy release --all {WITHOUT_OPERATOR}"
        )
    if without_operator and seen.lease is not None and seen.lease.is_kept:
        raise click.ClickException(f"{seen.lease.holder} is running: leave out --without-operator")


def _confirm(bodies: Sequence[Json], *, keep_sidecars: bool, yes: bool) -> None:
    for body in bodies:
        identity, count = PolicyId.of(body), at(body, "status", "targets").get("matched", 0)
        click.echo(f"{with_namespace(identity)}: selects {plural(count, 'Deployment')}", err=True)
        if (manager := git_manager(body)) is not None:
            click.echo(f"  it comes from Git ({manager}), which brings it back: take it out there first", err=True)
    if not bodies or yes:
        return
    fate = (
        "the sidecars stay with the owners"
        if keep_sidecars
        else "the sidecars are removed, by a rollout of each Deployment"
    )
    try:
        click.echo(f"Of each, {fate}.", err=True)
        click.confirm(f"Delete {plural(len(bodies), 'policy', 'policies')}?", abort=True, err=True)
    except click.Abort:
        raise click.ClickException("nothing was changed (-y: without asking)") from None


def _delete(asked: Asked, body: Json, *, keep_sidecars: bool, without_operator: bool) -> None:
    identity, resource = PolicyId.of(body), POLICIES[body["kind"]]
    wanted = DeletionPolicy.ORPHAN if keep_sidecars else DeletionPolicy.REMOVE
    if at(body, "spec").get("deletionPolicy", DeletionPolicy.REMOVE) != wanted and not without_operator:
        patch: Json = {"spec": {"deletionPolicy": wanted.value}}
        asked.cluster.merge_patch(resource, identity.namespace, identity.name, patch)
    if "deletionTimestamp" not in at(body, "metadata"):
        asked.cluster.delete(resource, identity.namespace, identity.name)
    if without_operator:
        _take_finalizer_off(asked, identity)
    say(asked, resource, identity.name, "deleted")


def _take_finalizer_off(asked: Asked, identity: PolicyId) -> None:
    resource = POLICIES[identity.kind]
    try:
        body = asked.cluster.get(resource, identity.namespace, identity.name)
        kept = [each for each in at(body, "metadata").get("finalizers") or () if each != names.FINALIZER]
        version = body["metadata"]["resourceVersion"]
        patch: Json = {"metadata": {"resourceVersion": version, "finalizers": kept or None}}
        asked.cluster.merge_patch(resource, identity.namespace, identity.name, patch)
    except NotFound:
        return  # gone already


def _wait(asked: Asked, waited: list[PolicyId], timeout: float) -> list[PolicyId]:
    """Wait until they are gone, approve what they ask for meanwhile; return those that are left."""
    deadline = time.monotonic() + timeout if timeout else None
    told: dict[PolicyId, str] = {}
    while True:
        waited = [each for each in waited if not _is_gone(asked, each, told)]
        if not waited:
            return []
        if deadline is not None and time.monotonic() >= deadline:
            click.echo(f"timed out after {timeout:g} s; left: {', '.join(map(with_namespace, waited))}", err=True)
            click.echo(f"next: {command('status', waited[0])}", err=True)
            return waited
        time.sleep(INTERVAL)


def _is_gone(asked: Asked, identity: PolicyId, told: dict[PolicyId, str]) -> bool:
    resource = POLICIES[identity.kind]
    try:
        body = asked.cluster.get(resource, identity.namespace, identity.name)
    except NotFound:
        click.echo(f"{with_namespace(identity)} is gone", err=True)
        return True
    # A removal that failed on workloads is for a person to look at.
    wanted = [each for each in awaited_by(body) if each.startswith("removal@") and not each.endswith(STUCK)]
    if wanted:
        annotate(asked, resource, body, names.APPROVE, lambda value: with_entries(value, wanted))
        click.echo(f"{with_namespace(identity)} approved: {', '.join(wanted)}", err=True)
    standing = standing_of(body)
    if standing.observed and told.get(identity) != standing.message:
        click.echo(f"{with_namespace(identity)}: {standing.message}", err=True)
        told[identity] = standing.message
    return False


def _say_what_was_given_up(asked: Asked, gone: Set[PolicyId]) -> bool | None:
    """Say which Deployments still carry sidecars of *gone* policies; return whether any does, None where nobody knows.

    A removal that cannot be written holds a deleted policy for progressDeadlineSeconds at most.
    """
    namespaces = {each.namespace for each in gone}
    wanted = [""] if "" in namespaces else sorted(namespaces)
    try:
        bodies = [each for namespace in wanted for each in asked.cluster.list(DEPLOYMENTS, namespace)]
    except Rejected as error:
        click.echo(
            f"whether some could not be taken out cannot be seen: {explanation(error, asked.cluster.server)}", err=True
        )
        return None
    left = [
        (each["metadata"]["namespace"], each["metadata"]["name"], policy)
        for each in bodies
        for policy, entry in record_of(at(each, "metadata", "annotations").get(names.RECORD)).entries.items()
        if policy in gone and entry.items and policy.namespace in ("", each["metadata"]["namespace"])
    ]
    for namespace, name, policy in left:
        click.echo(
            f"{namespace}/{name} still carries the sidecars of {policy.label}, which could not be taken out: its Event "
            f"RemovalGivenUp says why",
            err=True,
        )
    for namespace, name in sorted({(namespace, name) for namespace, name, _ in left}):
        click.echo(f"next: sidecarpolicy orphans {name} -n {namespace} --eject", err=True)
    return bool(left)


def _forget_records(asked: Asked, gone: Set[PolicyId] | None) -> None:
    """Take what the record of every Deployment has of *gone* policies (None: all) off. No Pod is restarted.

    With no policy left a record says nothing any more.
    """

    def without(text: str) -> str:
        record = record_of(text)
        left = {policy: entry for policy, entry in record.entries.items() if gone is not None and policy not in gone}
        return text_of(replace(record, entries=left)) if left else ""

    count = 0
    for body in asked.cluster.list(DEPLOYMENTS):
        metadata = at(body, "metadata")
        text = at(metadata, "annotations").get(names.RECORD)
        if text is None or (gone is not None and gone.isdisjoint(record_of(text).entries)):
            continue
        try:
            annotate(asked, DEPLOYMENTS, body, names.RECORD, without)
            count += 1
        except NotFound:
            continue
        except ApiError as error:
            click.echo(f"{metadata.get('namespace')}/{metadata['name']}: its record stays: {error}", err=True)
    if count:
        what = "the annotation" if gone is None else "what is gone in the annotation"
        click.echo(f"took {what} {names.RECORD} off {plural(count, 'Deployment')}", err=True)
