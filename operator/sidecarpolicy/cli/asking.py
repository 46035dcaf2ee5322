"""What the commands that ask a cluster have in common: their options, naming a policy, and saying what was done."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sidecarpolicy import names
from sidecarpolicy.cli.completing import contexts, namespaces, policies
from sidecarpolicy.cli.hints import alike, did_you_mean
from sidecarpolicy.cli.namespace_name import DEPLOYMENT_WORDS, OTHER_KINDS, namespace_name
from sidecarpolicy.cli.patience import TIMEOUT
from sidecarpolicy.cli.policy_names import policy_named
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import ApiError, Conflict, NotFound, Rejected, Resource
from sidecarpolicy.engine.resources import DEPLOYMENTS, NAMESPACES, POLICIES, REVISIONS
from sidecarpolicy.engine.retries import OF_WORKLOADS

if TYPE_CHECKING:
    from sidecarpolicy.cli.cluster import Cluster

Decorated = TypeVar("Decorated", bound=Callable[..., object])

OPERATOR_NAMESPACE = "sidecarpolicy-system"
TRIES = 8
CLUSTER = "cluster/"
FEW_LARGE = 50  # revisions in one answer: each may hold sixteen sidecars
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
WHERE = ("kubeconfig", "context", "namespace", "operator_namespace", "request_timeout", "as_user", "as_groups")


def duration(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return the seconds of `90`, `90s`, `5m` or `1h30m`, as kubectl takes them; raise click.BadParameter."""
    found = DURATION.fullmatch(value)
    if not value or found is None:
        raise click.BadParameter(f"{value!r} is no duration: write 90s, 5m or 1h30m")
    hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return hours * 3600 + minutes * 60 + seconds


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which cluster is asked, where in it, and as whom. *chosen*: the namespace that was named, empty if none was.

    *timeout*: seconds for one answer.
    """

    kubeconfig: str
    context: str
    chosen: str
    operator_namespace: str = OPERATOR_NAMESPACE
    timeout: float = TIMEOUT
    user: str = ""
    groups: tuple[str, ...] = ()
    dry_run: bool = False

    @cached_property
    def cluster(self) -> Cluster:
        """The way to it, found when it is first needed: wrong usage is wrong with any cluster. Raises click errors."""
        from sidecarpolicy.cli.cluster import Cluster  # HTTP and TLS: nothing for --help
        from sidecarpolicy.kube.credentials import ConnectionProblem

        try:
            return Cluster(
                self.kubeconfig,
                self.context,
                dry_run=self.dry_run,
                timeout=self.timeout,
                user=self.user,
                groups=self.groups,
            )
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
            found = self.policy_names()
            same = [each for each in found if each.startswith(CLUSTER) == identity.cluster_wide]
            if not same:
                self.refuse_absent(identity.namespace)
            meant = did_you_mean(found if alike(found, identity.name) else same, identity.name)
            missing = f"there is no {identity.kind} {identity.name!r}{where}; {meant}"
            raise click.ClickException(missing) from error

    def deployment(self, namespace: str, name: str) -> Json:
        """Return the Deployment; raise click.ClickException with those that exist where it does not."""
        try:
            return self.cluster.get(DEPLOYMENTS, namespace, name)
        except NotFound as error:
            hint = ""
            with suppress(ApiError):
                found = [each["metadata"]["name"] for each in self.cluster.list(DEPLOYMENTS, namespace)]
                if not found:
                    self.refuse_absent(namespace)
                hint = f"; {did_you_mean(found, name)}"
            missing = f"there is no Deployment {name!r} in namespace {namespace}{hint}"
            raise click.ClickException(missing) from error

    def refuse_absent(self, namespace: str) -> None:
        """Raise click.ClickException where *namespace* does not exist; who may not see it is told nothing of it."""
        try:
            if namespace:
                self.cluster.get(NAMESPACES, "", namespace)
        except NotFound as error:
            raise click.ClickException(f"there is no namespace {namespace}") from error
        except Rejected:
            return

    def policy_names(self) -> list[str]:
        """The policies that could be meant, as they are named on the command line; those that can be seen."""
        places = ((names.POLICY, "", self.namespace), (names.CLUSTER_POLICY, CLUSTER, ""))
        lists = [
            (prefix, self.cluster.soon(self.cluster.list, POLICIES[kind], inside)) for kind, prefix, inside in places
        ]
        found: list[str] = []
        for prefix, listed in lists:
            with suppress(ApiError):  # it is only a hint
                found += [prefix + each["metadata"]["name"] for each in listed()]
        return found

    def revisions(self, identity: PolicyId) -> Iterator[Json]:
        """Yield the ControllerRevisions of a policy: from where the operator keeps them, and from nowhere else."""
        selector = f"{names.POLICY_KIND_LABEL}={identity.kind},{names.POLICY_NAME_LABEL}={identity.name}"
        return self.cluster.each(
            REVISIONS, identity.namespace or self.operator_namespace, label_selector=selector, page=FEW_LARGE
        )


def asks_cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which cluster; the command gets an `Asked` first, and errors are explained."""

    @wraps(command)
    def asking(**given: Any) -> Any:
        asked = asked_of(given)
        for option in WHERE:
            given.pop(option)
        try:
            return command(asked, **given)
        except ApiError as error:
            from sidecarpolicy.cli.cluster import explanation

            raise click.ClickException(explanation(error, asked.cluster.server)) from error

    for option in (
        click.option(
            "--operator-namespace",
            callback=namespace_name,
            default=OPERATOR_NAMESPACE,
            show_default=True,
            metavar="NAME",
            help="Where the operator runs: its Lease, its emergency switch, the revisions of cluster policies.",
        ),
        click.option(
            "--as-group", "as_groups", multiple=True, metavar="GROUP", help="With --as: a group; may be repeated."
        ),
        click.option("--as", "as_user", default="", metavar="USER", help="Act as this user (impersonation)."),
        click.option(
            "--request-timeout",
            callback=duration,
            default=f"{TIMEOUT:g}s",
            show_default=True,
            metavar="TIME",
            help="How long to wait for one answer.",
        ),
        click.option(
            "--kubeconfig",
            default="",
            metavar="FILE",
            type=click.Path(),
            help="Default: KUBECONFIG, a Pod's service account, ~/.kube/config.",
        ),
        click.option(
            "--context", default="", metavar="NAME", help="A context of the kubeconfig.", shell_complete=contexts
        ),
        click.option(
            "-n",
            "--namespace",
            callback=namespace_name,
            metavar="NAME",
            help="Default: the context's.",
            shell_complete=namespaces,
        ),
    ):
        asking = option(asking)
    return asking


def asked_of(given: Mapping[str, Any]) -> Asked:
    """Return what the options of `asks_cluster` say, of a command or of one that is still being typed."""
    return Asked(
        kubeconfig=given.get("kubeconfig") or "",
        context=given.get("context") or "",
        chosen=given.get("namespace") or "",
        operator_namespace=given.get("operator_namespace") or OPERATOR_NAMESPACE,
        timeout=given.get("request_timeout") or TIMEOUT,
        user=given.get("as_user") or "",
        groups=tuple(given.get("as_groups") or ()),
        dry_run=bool(given.get("dry_run")),
    )


def dry_run_option(command: Decorated) -> Decorated:
    """Add `--dry-run`: the server checks the write and does not keep it."""
    return click.option("--dry-run", is_flag=True, help="Have the server check it, and change nothing.")(command)


def policy_argument(command: Decorated) -> Decorated:
    """Add the policy."""
    return click.argument("policy", metavar="POLICY", shell_complete=policies)(command)


def output_option(*formats: str) -> Callable[[Decorated], Decorated]:
    """Add `-o`, as *formats*."""
    return click.option("-o", "--output", type=click.Choice(["text", *formats]), default="text", help="Default: text.")


def print_as(output: str, value: Json) -> None:
    """Print *value* as JSON or YAML."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120).rstrip())
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def deployment_name(text: str) -> str:
    """Return the name in `cart` or `deployment/cart`; raise click.UsageError for anything else."""
    kind, _, name = text.rpartition("/")
    if not name or kind.lower() not in ("", *DEPLOYMENT_WORDS):
        raise click.UsageError(f"{text!r} names no Deployment: it must be NAME or deployment/NAME")
    return name


def deployment_place(text: str) -> tuple[str, str]:
    """Return namespace (empty if none is named) and name in `cart`, `shop/cart`, `deploy/cart` or `deploy/shop/cart`.

    Raises click.UsageError for anything else.
    """
    *before, name = text.split("/")
    if before and before[0].lower() in DEPLOYMENT_WORDS:
        before.pop(0)
    if not name or len(before) > 1 or "" in before or (before and before[0].lower() in OTHER_KINDS):
        raise click.UsageError(f"{text!r} names no Deployment: it must be NAME, NAMESPACE/NAME or deployment/NAME")
    return before[0] if before else "", name


def say(asked: Asked, resource: Resource, name: str, what: str) -> None:
    """Print what was done, as kubectl does: `sidecarpolicy.sidecars.dev/web paused`."""
    group = f".{resource.group}" if resource.group else ""
    dry = " (server dry run)" if asked.dry_run else ""
    click.echo(f"{resource.kind.lower()}{group}/{name} {what}{dry}")


def say_next(command_line: str) -> None:
    """Say on standard error which command comes next."""
    click.echo(f"next: {command_line}", err=True)


def annotate(
    asked: Asked, resource: Resource, body: Json, key: str, change: Callable[[str], str], *, spec: Json | None = None
) -> Json:
    """Set the annotation *key* of *body* to what *change* makes of its value (empty: none), and fields of its spec.

    Somebody who writes at the same moment is not overwritten: what they wrote is read, and changed anew. Returns the
    object as it is then.
    """
    tries = 0
    while True:
        tries += 1
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
            if tries == TRIES:
                raise
            time.sleep(OF_WORKLOADS.seconds(error, tries))  # a rollout changes its Deployment again and again
            body = asked.cluster.get(resource, namespace, name)
