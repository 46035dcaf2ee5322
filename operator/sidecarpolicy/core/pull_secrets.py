"""Secrets to pull the sidecars' images with, in a Pod template's `imagePullSecrets`.

Kubernetes gives a Pod the pull secrets of its ServiceAccount only where it has none at all (the admission plugin
ServiceAccount). To add one to a template that has none of its owner's would take those away, so they are written
beside ours. They are taken when a revision comes and recorded with it: whoever edits a ServiceAccount changes no
template. Where the owner has some of their own, what a ServiceAccount has means nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecarpolicy.core.adjustment import Account
from sidecarpolicy.core.record import PULL_SECRETS, ItemKey, Record
from sidecarpolicy.core.tree import Json, at, items

# What a Pod runs as that names no ServiceAccount.
DEFAULT_ACCOUNT = "default"

Secrets = Callable[[str], tuple[str, ...] | None]
"""Looks up the pull secrets of a ServiceAccount by its name; None where it cannot be read."""


def account_on(template: Json, record: Record, secrets: Secrets) -> Account | None:
    """Return the ServiceAccount whose pull secrets Pods of *template* get, None where they have some of their own."""
    spec, ours = at(template, "spec"), record.items
    if any(ItemKey(PULL_SECRETS, each.get("name", "")) not in ours for each in items(spec, PULL_SECRETS)):
        return None
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT_ACCOUNT
    return Account(name=name, secrets=secrets(name))


def secrets_in(account: Json) -> tuple[str, ...]:
    """Return the pull secrets that the ServiceAccount *account* names."""
    return tuple(each["name"] for each in items(account, PULL_SECRETS) if each.get("name"))
