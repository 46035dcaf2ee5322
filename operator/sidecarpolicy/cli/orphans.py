"""`sidecarpolicy orphans`: Deployments with sidecars of a policy that does not exist, and taking those out.

The operator holds such sidecars and never removes them by itself: the policy may come back with a restored cluster.
So somebody has to say it, and that is this command. A record of a policy of another namespace is one of these too: it
came with a copy of a Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, asks_cluster, deployment_name, dry_run_option, say
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import compose
from sidecarpolicy.core.kinds import KINDS
from sidecarpolicy.core.patch import json_patch
from sidecarpolicy.core.record import INIT_CONTAINERS, Entry, Record, text_of
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.workload import is_mangled, record_of
from sidecarpolicy.engine.port import PATCH_DOES_NOT_FIT, Rejected
from sidecarpolicy.engine.resources import DEPLOYMENTS, POLICIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """What a Deployment has of policies that do not exist there."""

    body: Json
    record: Record
    entries: dict[PolicyId, Entry]

    @property
    def name(self) -> str:
        """Namespace and name."""
        metadata = at(self.body, "metadata")
        return f"{metadata['namespace']}/{metadata['name']}"


@click.command(epilog="Exit codes: 0 listed or ejected, 1 it could not be found out or done, 2 wrong usage.")
@click.argument("chosen_names", metavar="[DEPLOYMENT]...", nargs=-1)
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("--eject", is_flag=True, help="Take those sidecars out: one rollout for each Deployment, all at once.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@dry_run_option
@asks_cluster
def orphans(
    asked: Asked, chosen_names: tuple[str, ...], all_namespaces: bool, eject: bool, output: str, **_: object
) -> None:
    """List Deployments with sidecars of a policy that does not exist, or is one of another namespace.

    The operator leaves such sidecars as they are. --eject removes what the record of the Deployment names and nobody
    else has claimed; what other policies have there stays.
    """
    wanted = {deployment_name(each) for each in chosen_names}
    namespace = "" if all_namespaces else asked.namespace
    existing = {
        PolicyId.of(body)
        for kind in names.PLURALS
        for body in asked.cluster.list(POLICIES[kind], namespace if kind == names.POLICY else "")
    }
    bodies = asked.cluster.list(DEPLOYMENTS, namespace)
    if not bodies:
        asked.refuse_absent(namespace)
    found = orphans_among(bodies, existing)
    chosen = [each for each in found if not wanted or at(each.body, "metadata")["name"] in wanted]
    there = {at(each, "metadata")["name"] for each in bodies}
    for name in sorted(wanted - {at(each.body, "metadata")["name"] for each in chosen}):
        if name not in there:
            if namespace:
                asked.deployment(namespace, name)  # says so, and which there are
            raise click.ClickException(f"there is no Deployment {name!r} in any namespace")
        click.echo(f"{name} has no sidecars of a policy that does not exist", err=True)
    if output == "json":
        click.echo(json.dumps({"orphans": [_json(each) for each in chosen]}, indent=2))
    if eject:
        for each in chosen:
            _eject(asked, each)
    elif output == "text":
        for each in chosen:
            click.echo(f"{each.name}: {'; '.join(_lines(each.entries))}")
    if not chosen and not wanted and output == "text":
        click.echo("no Deployment has sidecars of a policy that does not exist", err=True)


def orphans_among(bodies: Iterable[Json], existing: Collection[PolicyId]) -> list[Orphan]:
    """Return those of *bodies* whose record names a policy that is not among *existing*, or is not theirs."""
    found: list[Orphan] = []
    for body in bodies:
        text = at(body, "metadata", "annotations").get(names.RECORD)
        if not text or is_mangled(text):
            continue
        record, namespace = record_of(text), at(body, "metadata")["namespace"]
        entries = {
            policy: entry
            for policy, entry in record.entries.items()
            if policy not in existing or policy.namespace not in ("", namespace)
        }
        if entries:
            found.append(Orphan(body=body, record=record, entries=entries))
    return found


def ejection(orphan: Orphan) -> Sequence[Json]:
    """Return the JSON Patch that takes out what *orphan* has of its policies."""
    workload = KINDS[orphan.body["kind"]].workload_from(orphan.body)
    template, annotations = at(orphan.body, *workload.template), at(orphan.body, "metadata", "annotations")
    held = frozenset(orphan.record.entries) - orphan.entries.keys()
    composed = compose(template, orphan.record, {}, held=held, claims=workload.content.claims)
    return json_patch(
        uid=workload.uid,
        generation=workload.generation,
        before=template,
        after=composed.template,
        annotated=bool(annotations),
        record=annotations[names.RECORD],
        new_record=text_of(composed.record),
    )


def _eject(asked: Asked, orphan: Orphan) -> None:
    metadata = at(orphan.body, "metadata")
    try:
        asked.cluster.json_patch(DEPLOYMENTS, metadata["namespace"], metadata["name"], ejection(orphan))
    except Rejected as error:
        if error.reason != PATCH_DOES_NOT_FIT:
            raise
        raise click.ClickException(f"somebody else has just edited {orphan.name}: look at it and try again") from error
    say(asked, DEPLOYMENTS, metadata["name"], f"ejected: {'; '.join(_lines(orphan.entries))}")


def _lines(entries: dict[PolicyId, Entry]) -> list[str]:
    return [
        f"{policy.label} at {entry.revision} ({', '.join(sorted(entry.names(INIT_CONTAINERS))) or 'no sidecar'})"
        for policy, entry in entries.items()
    ]


def _json(orphan: Orphan) -> Json:
    metadata = at(orphan.body, "metadata")
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "policies": [
            {
                "kind": policy.kind,
                "namespace": policy.namespace,
                "name": policy.name,
                "revision": entry.revision,
                "sidecars": sorted(entry.names(INIT_CONTAINERS)),
            }
            for policy, entry in orphan.entries.items()
        ],
    }
