"""What the commands that ask a cluster have in common: their options, naming a policy, and saying what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar

import click

from sidecarpolicy import names
from sidecarpolicy.cli.cluster import Cluster, explanation
from sidecarpolicy.cli.hints import did_you_mean
from sidecarpolicy.cli.policy_names import policy_named
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import ApiError, Conflict, NotFound, Resource
from sidecarpolicy.engine.resources import POLICIES, REVISIONS
from sidecarpolicy.kube.connection import ConnectionProblem

Decorated = TypeVar("Decorated", bound=Callable[..., object])

OPERATOR_NAMESPACE = "sidecarpolicy-system"
TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which cluster is asked, and where in it. *chosen*: the namespace that was named, empty if none was."""

    kubeconfig: str
    context: str
    chosen: str
    operator_namespace: str
    dry_run: bool

    @cached_property
    def cluster(self) -> Cluster:
        """The way to it, found when it is first needed: wrong usage is wrong with any cluster. Raises click errors."""
        try:
            return Cluster(self.kubeconfig, self.context, dry_run=self.dry_run)
        except ConnectionProblem as problem:
            raise click.ClickException(str(problem)) from problem

    @property
    def namespace(self) -> str:
        """The namespace that was named, or the context's."""
        return self.chosen or self.cluster.namespace

    def policy_id(self, text: str) -> PolicyId:
        """Return whom *text* names; raise click.UsageError where it names nobody."""
        return policy_named(text, lambda: self.namespace)

    def policy(self, identity: PolicyId) -> Json:
        """Return the policy; raise click.ClickException with those that exist where it does not."""
        try:
            return self.cluster.get(POLICIES[identity.kind], identity.namespace, identity.name)
        except NotFound as error:
            if not error.reason:
                raise  # the kinds are not installed
            where = "" if identity.cluster_wide else f" in namespace {identity.namespace}"
            missing = (
                f"there is no {identity.kind} {identity.name!r}{where}; {did_you_mean(self._names(), identity.name)}"
            )
            raise click.ClickException(missing) from error

    def _names(self) -> list[str]:
        """The policies that could have been meant, as they are named on the command line."""
        found: list[str] = []
        for kind, prefix, namespace in ((names.POLICY, "", self.namespace), (names.CLUSTER_POLICY, "cluster/", "")):
            try:
                listed = self.cluster.list(POLICIES[kind], namespace)
            except ApiError:
                continue  # it is only a hint
            found += [prefix + each["metadata"]["name"] for each in listed]
        return found

    def revisions(self, identity: PolicyId) -> Sequence[Json]:
        """Return the ControllerRevisions of a policy: from where the operator keeps them, and from nowhere else."""
        selector = f"{names.POLICY_KIND_LABEL}={identity.kind},{names.POLICY_NAME_LABEL}={identity.name}"
        return self.cluster.list(REVISIONS, identity.namespace or self.operator_namespace, label_selector=selector)


def asks_cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which cluster; the command gets an `Asked` first, and errors are explained."""

    @wraps(command)
    def asking(
        *, kubeconfig: str, context: str, namespace: str, operator_namespace: str = OPERATOR_NAMESPACE, **rest: Any
    ) -> Any:
        asked = Asked(
            kubeconfig=kubeconfig,
            context=context,
            chosen=namespace,
            operator_namespace=operator_namespace,
            dry_run=rest.get("dry_run", False),
        )
        try:
            return command(asked, **rest)
        except ApiError as error:
            raise click.ClickException(explanation(error, asked.cluster.server)) from error

    for option in (
        click.option(
            "--kubeconfig",
            default="",
            metavar="FILE",
            help="Default: KUBECONFIG, a Pod's service account, ~/.kube/config.",
        ),
        click.option("--context", default="", metavar="NAME", help="A context of the kubeconfig."),
        click.option("-n", "--namespace", default="", metavar="NAME", help="Default: the context's."),
    ):
        asking = option(asking)
    return asking


def operator_namespace_option(command: Decorated) -> Decorated:
    """Add `--operator-namespace`, for commands that read revisions."""
    return click.option(
        "--operator-namespace",
        default=OPERATOR_NAMESPACE,
        show_default=True,
        metavar="NAME",
        help="Where the operator runs: it keeps the revisions of ClusterSidecarPolicies there.",
    )(command)


def dry_run_option(command: Decorated) -> Decorated:
    """Add `--dry-run`: the server checks the write and does not keep it."""
    return click.option("--dry-run", is_flag=True, help="Have the server check it, and change nothing.")(command)


def policy_argument(command: Decorated) -> Decorated:
    """Add the policy."""
    return click.argument("policy", metavar="POLICY")(command)


def say(asked: Asked, resource: Resource, name: str, what: str) -> None:
    """Print what was done, as kubectl does: `sidecarpolicy.sidecars.dev/web paused`."""
    group = f".{resource.group}" if resource.group else ""
    dry = " (server dry run)" if asked.dry_run else ""
    click.echo(f"{resource.kind.lower()}{group}/{name} {what}{dry}")


def annotate(
    asked: Asked, resource: Resource, body: Json, key: str, change: Callable[[str], str], *, spec: Json | None = None
) -> Json:
    """Set the annotation *key* of *body* to what *change* makes of its value (empty: none), and fields of its spec.

    Somebody who writes at the same moment is not overwritten: what they wrote is read, and changed anew. Returns the
    object as it is then.
    """
    for _ in range(TRIES):
        metadata = at(body, "metadata")
        value = change(at(metadata, "annotations").get(key, ""))
        patch: Json = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "annotations": {key: value or None},
            }
        }
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        try:
            return asked.cluster.merge_patch(resource, namespace, name, patch | ({"spec": spec} if spec else {}))
        except Conflict as error:
            conflict = error
            body = asked.cluster.get(resource, namespace, name)
    raise conflict
