"""`sidecarpolicy list`: which Deployments carry what, from the record that each has on it.

The record and the Pod template are read, and nothing else: so it answers while the operator is down, for everybody who
may list Deployments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import click

from sidecarpolicy import names
from sidecarpolicy.cli.asking import Asked, asks_cluster, deployment_place, output_option, print_as
from sidecarpolicy.cli.completing import deployments
from sidecarpolicy.cli.policy_names import command, short_name
from sidecarpolicy.cli.text import UNSEEN, Table, plural, several_namespaces, show, width
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.record import INIT_CONTAINERS, Mangled, Record, parse
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.engine.resources import DEPLOYMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What one policy has on one Deployment. *policy*: None for what was handed over to the owner.

    *images*: by sidecar, in the order in which they start. *problem*: why the record cannot be read.
    """

    namespace: str
    deployment: str
    policy: PolicyId | None
    revision: str
    images: dict[str, str]
    adopted: tuple[str, ...] = ()
    pinned: bool = False
    problem: str = ""


@click.command("list", epilog="Exit codes: 0 listed, 1 it could not be found out, 2 wrong usage.")
@click.argument("deployment", metavar="[DEPLOYMENT]", required=False, shell_complete=deployments)
@click.option("-A", "--all-namespaces", is_flag=True, help="The Deployments of all namespaces.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Those with these labels: app=cart.")
@output_option("wide", "json", "yaml")
@asks_cluster
def list_(asked: Asked, deployment: str | None, all_namespaces: bool, selector: str, output: str) -> None:
    """List which Deployments carry which sidecars: of which policy, at which revision.

    Read from the Deployments alone, so it answers while the operator is down. -o wide adds the images.
    """
    place, name = deployment_place(deployment) if deployment is not None else ("", "")
    if place:
        asked = replace(asked, chosen=place)
    if name and (all_namespaces or selector):
        raise click.UsageError("one DEPLOYMENT, or several with -A or -l")
    looked_at = 0
    rows: list[Carried] = []
    for body in _deployments(asked, name, selector, all_namespaces=all_namespaces):
        looked_at += 1
        rows += carried_by(body)
    if not looked_at and not all_namespaces:
        asked.refuse_absent(asked.namespace)
    if output in ("json", "yaml"):
        print_as(output, {"deployments": [_json(each) for each in rows]})
        return
    if not rows:
        _say_that_nothing_is_carried(asked, looked_at, name)
        return
    show(table_of(rows, wide=output == "wide", namespaced=all_namespaces or None).lines(width()))
    if looked_at > 1:
        carrying = len({(each.namespace, each.deployment) for each in rows})
        click.echo(f"{carrying} of {plural(looked_at, 'Deployment')} carry something", err=True)
    if name:
        for policy in dict.fromkeys(each.policy for each in rows if each.policy is not None):
            click.echo(f"next: {command('status', policy)}", err=True)


def _deployments(asked: Asked, name: str, selector: str, *, all_namespaces: bool) -> Iterator[Json]:
    """Yield the Deployments that are asked about; of a large collection one page at a time is in memory."""
    if name:
        yield asked.deployment(asked.namespace, name)
    else:
        yield from asked.cluster.each(DEPLOYMENTS, "" if all_namespaces else asked.namespace, label_selector=selector)


def carried_by(body: Json) -> Iterator[Carried]:
    """Yield what each policy has on the Deployment *body*, in the order in which it starts."""
    metadata = at(body, "metadata")
    place = {"namespace": metadata.get("namespace", ""), "deployment": metadata["name"]}
    annotations = at(metadata, "annotations")
    try:
        record = parse(annotations.get(names.RECORD))
    except Mangled as error:
        yield Carried(**place, policy=None, revision="", images={}, problem=f"cannot read its record: {error}")
        return
    there = {
        each["name"]: str(each.get("image", ""))
        for each in items(at(body, "spec", "template", "spec"), INIT_CONTAINERS)
    }
    order = list(there)
    found = list(_of_policies(record, place, there, annotations.get(names.PIN, "")))
    yield from sorted(found, key=lambda each: min((order.index(name) for name in each.images), default=len(order)))
    left = {item.name for item in record.orphaned if item.list == INIT_CONTAINERS}
    if left:
        images = {name: image for name, image in there.items() if name in left}
        yield Carried(**place, policy=None, revision="", images=images)


def _of_policies(record: Record, place: dict[str, str], there: dict[str, str], pin: str) -> Iterator[Carried]:
    from sidecarpolicy.core.lists import entries_of, policy_of
    from sidecarpolicy.core.pins import pinned_name

    pinned = {policy_of(each) for each in entries_of(pin)}
    for policy, entry in record.entries.items():
        if not entry.revision:
            continue  # only a note is left: nothing is carried
        own = entry.names(INIT_CONTAINERS) | entry.adopted
        yield Carried(
            **place,
            policy=policy,
            revision=entry.revision,
            images={name: image for name, image in there.items() if name in own},
            adopted=tuple(sorted(entry.adopted)),
            pinned=pinned_name(policy) in pinned,
        )


def table_of(rows: Sequence[Carried], *, wide: bool, namespaced: bool | None) -> Table:
    """Return one row for each Deployment and policy."""
    shown = several_namespaces(each.namespace for each in rows) if namespaced is None else namespaced
    table = Table([*(["NAMESPACE"] if shown else []), "DEPLOYMENT", "POLICY", "REVISION", "SIDECARS"])
    for each in rows:
        policy = short_name(each.policy) if each.policy is not None else UNSEEN
        table.add(
            *([each.namespace] if shown else []),
            each.deployment,
            policy,
            each.revision + (" (pinned)" if each.pinned else "") or UNSEEN,
            _sidecars(each, wide=wide),
        )
    return table


def _sidecars(each: Carried, *, wide: bool) -> str:
    if each.problem:
        return each.problem
    own = ", ".join(f"{name}={image}" if wide else name for name, image in each.images.items())
    if each.policy is None:
        return f"{own} (handed over to the owner)"
    adopted = f" (the owner's own, equal to the policy's: {', '.join(each.adopted)})" if each.adopted else ""
    return (own or "no container, only additions to the application's") + adopted


def _json(each: Carried) -> Json:
    policy = each.policy
    return {
        "namespace": each.namespace,
        "name": each.deployment,
        "policy": {"kind": policy.kind, "namespace": policy.namespace, "name": policy.name} if policy else None,
        "revision": each.revision,
        "sidecars": [
            {"name": name, "image": image, "adopted": name in each.adopted} for name, image in each.images.items()
        ],
        "pinned": each.pinned,
        "problem": each.problem,
    }


def _say_that_nothing_is_carried(asked: Asked, looked_at: int, name: str) -> None:
    if name:
        click.echo(f"deployment {asked.namespace}/{name} carries no sidecar of a policy", err=True)
        click.echo("next: sidecarpolicy status -A shows which policies there are, and what they skip", err=True)
    elif looked_at:
        click.echo(f"none of {plural(looked_at, 'Deployment')} carries a sidecar of a policy", err=True)
    else:
        click.echo("there is no Deployment here (-A: in all namespaces)", err=True)
