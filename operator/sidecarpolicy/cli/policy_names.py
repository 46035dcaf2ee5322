"""How a policy is named on the command line: one syntax for every command."""

from __future__ import annotations

from collections.abc import Callable

import click

from sidecarpolicy import names
from sidecarpolicy.cli.namespace_name import DEPLOYMENT_WORDS, OTHER_KINDS
from sidecarpolicy.core.identity import PolicyId

SHORT = {names.POLICY: "sidepol", names.CLUSTER_POLICY: "csidepol"}
KINDS = {
    alias: kind
    for kind, plural in names.PLURALS.items()
    for word in (kind.lower(), plural)
    for alias in (word, f"{word}.{names.GROUP}", SHORT[kind])
} | {"cluster": names.CLUSTER_POLICY}
"""What may stand before the first slash."""


def policy_named(text: str, namespace: Callable[[], str]) -> PolicyId:
    """Return the policy that *text* names; *namespace* is asked where it names none. Raises click.UsageError.

    `web`, `shop/web`, `sidecarpolicy/web`, `sidecarpolicy/shop/web`, `cluster/mesh`; kinds as for kubectl, in any case.
    """
    *before, name = text.split("/")
    kind = KINDS.get(before[0].lower()) if before else names.POLICY
    workloads = OTHER_KINDS.union(DEPLOYMENT_WORDS)
    if len(before) == 1 and before[0] and kind is None and before[0].lower() not in workloads:  # as `-A` shows it
        kind, before = names.POLICY, ["", before[0]]
    inside = before[1] if len(before) > 1 else ""
    if kind is None or not name or len(before) > 2 or (len(before) == 2 and bool(inside) == (kind != names.POLICY)):
        raise click.UsageError(
            f"{text!r} names no policy: it must be NAME, NAMESPACE/NAME, sidecarpolicy/NAME, "
            "sidecarpolicy/NAMESPACE/NAME or cluster/NAME"
        )
    if kind == names.CLUSTER_POLICY:
        return PolicyId(kind=kind, namespace="", name=name)
    return PolicyId(kind=kind, namespace=inside or namespace(), name=name)


def shown_name(policy: PolicyId) -> str:
    """As kubectl names it: `sidecarpolicy.sidecars.dev/web`."""
    return f"{policy.kind.lower()}.{names.GROUP}/{policy.name}"


def short_name(policy: PolicyId) -> str:
    """As one types it beside `-n`: `web`, or `cluster/web`."""
    return f"cluster/{policy.name}" if policy.cluster_wide else policy.name


def with_namespace(policy: PolicyId) -> str:
    """As one tells several apart: `shop/web`, `cluster/mesh`."""
    return short_name(policy) if policy.cluster_wide else f"{policy.namespace}/{policy.name}"


def command(verb: str, policy: PolicyId, *rest: str) -> str:
    """The command line for *verb* about *policy*: `sidecarpolicy resume web -n shop`."""
    where = [] if policy.cluster_wide else ["-n", policy.namespace]
    return " ".join(["sidecarpolicy", verb, short_name(policy), *where, *rest])
