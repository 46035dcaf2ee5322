"""Why a selected workload is left alone: a chain of named checks, the owner's word first.

A skip is a value: a reason for machines, a sentence for people, and whether what is already there is kept or taken
away. `judge` runs the chain for all policies that select one workload, in order of precedence, because a policy of
higher precedence may override one of lower.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import OPT_OUT, invalid_skips, skip_mark, unknown_sidecar
from sidecarpolicy.core.adjustment import Account
from sidecarpolicy.core.arithmetic.autoscaling import Autoscaler, needs_requests, requests
from sidecarpolicy.core.claims import IDENTITY, template_items
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import application_containers, canonical_item
from sidecarpolicy.core.likeness import is_as_it_should_be
from sidecarpolicy.core.nodes import NOTHING_SEEN, OS_LABEL, WINDOWS, Eligible
from sidecarpolicy.core.opt_out import let_in, opts_out
from sidecarpolicy.core.ordering import precedence, why_first
from sidecarpolicy.core.pins import invalid_pins, pins_of
from sidecarpolicy.core.ports import Port, claimed_ports
from sidecarpolicy.core.record import (
    ENV,
    INIT_CONTAINERS,
    LABELS,
    METADATA,
    PULL_SECRETS,
    VOLUME_MOUNTS,
    VOLUMES,
    Entry,
    ItemKey,
    Record,
    place_of,
)
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import MARKED, Namespace, Workload
from sidecarpolicy.names import SkipReason

# Where an owner of a Deployment may set what.
MARKS = {
    names.INJECT: "label",
    names.ALLOW_DOWNTIME: "annotation",
    names.PIN: "annotation",
    names.SKIP: "annotation",
}
OVERRIDES = {f"{names.OVERRIDE}<sidecar>": "annotation"}
ONE = {"label": "a label", "annotation": "an annotation"}
TRUTH = ("true", "false")

# What of ours a Pod template has.
OF_TEMPLATES = frozenset({("annotation", names.RESTARTED_AT), ("annotation", names.CONFIG)})

# Two policies may both provide one of these where it is the same.
SHARED = (VOLUMES, PULL_SECRETS, *METADATA)

NO_MARKS: Mapping[str, str] = {}
NOBODY: frozenset[PolicyId] = frozenset()
NOTHING = Entry(revision="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Why a policy leaves a workload alone; *removes*: what it already has there goes.

    *pinned_to*: the revision at which its owner wants it; None where that is not stored. *waits_for*: policies that are
    still to be taken out of it; nothing else is in the way, so it is pending and not skipped.
    """

    reason: SkipReason
    message: str
    removes: bool = False
    overridden_by: PolicyId | None = None
    pinned_to: str | None = None
    waits_for: frozenset[PolicyId] = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What a workload's owner pins a policy to: *asked* as the annotation has it, *revision* where that is stored."""

    asked: str
    revision: str | None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One workload as the checks see it.

    *owners*: items that somebody else declares. *missing*: policies in the record that do not exist any more.
    *leaving*: those that do not select it any more (`judge` fills it in). *pins*: what their owner pins policies to,
    where that is not what they want to inject. *inspected*: policies whose failed rollout is left on it for
    inspection. *autoscalers*: those that scale it. *driven_by*: the Rollout that takes its template from it, if any.
    *operator_namespace*: where the operator itself runs, empty where that is not known. *emptied*: see `Claims`.
    *binding*: policies that forbid to opt out of them. *skipped*: names of sidecars that its owner leaves out.
    *account*: whose pull secrets its Pods get, None where they have some of their own. *nodes*: where they may land.
    *violations*: what the API server says of a Pod there with the sidecars of a policy, where it would not have it.
    *idle*: policies of which nothing is there, and that do not come as things are: they take nobody's place.
    *not_begun*: its owner has paused it before anything was made of it.
    """

    workload: Workload
    namespace: Namespace
    template: Json
    record: Record
    owners: Mapping[ItemKey, str] = field(default_factory=dict)
    missing: frozenset[PolicyId] = frozenset()
    autoscalers: Sequence[Autoscaler] = ()
    leaving: frozenset[PolicyId] = frozenset()
    pins: Mapping[PolicyId, Pin] = field(default_factory=dict)
    inspected: frozenset[PolicyId] = frozenset()
    driven_by: str = ""
    operator_namespace: str = ""
    emptied: frozenset[tuple[str, str]] = frozenset()
    binding: frozenset[PolicyId] = frozenset()
    skipped: frozenset[str] = frozenset()
    account: Account | None = None
    nodes: Eligible = NOTHING_SEEN
    violations: Mapping[PolicyId, str] = field(default_factory=dict)
    idle: frozenset[PolicyId] = frozenset()
    not_begun: bool = False

    @cached_property
    def ours(self) -> frozenset[ItemKey]:
        """Every item that is ours, by the record."""
        return self.record.items

    def is_injected(self, name: str) -> bool:
        """Whether the init container *name* is ours."""
        return ItemKey(INIT_CONTAINERS, name) in self.ours

    @property
    def spec(self) -> Json:
        """The Pod's spec."""
        return at(self.template, "spec")

    @cached_property
    def application(self) -> dict[ItemKey, Json]:
        """Every item of the Pod spec that is not ours."""
        ours = self.ours
        return {key: item for key, item in self.live.items() if key not in ours} if ours else self.live

    @cached_property
    def application_mounts(self) -> dict[ItemKey, Json]:
        """The mounts of the application's own, by where they are."""
        return {place_of(key): item for key, item in self.application.items() if key.list == VOLUME_MOUNTS}

    @cached_property
    def live(self) -> dict[ItemKey, Json]:
        """Every item of the Pod spec, whosever it is."""
        return template_items(self.template)

    def equals(self, item: ItemKey, revision: Revision) -> bool:
        """Whether *item* is there and as *revision* makes it."""
        live, canonical = self.live.get(item), canonical_item(revision, item)
        return live is not None and canonical is not None and is_as_it_should_be(live, canonical)

    @cached_property
    def application_containers(self) -> list[Json]:
        """The application's own containers of both lists."""
        own_init = (each for each in items(self.spec, INIT_CONTAINERS) if not self.is_injected(each["name"]))
        return [*own_init, *items(self.spec, "containers")]

    def applied(self, revision: Revision) -> bool:
        """Whether the record already has the workload at *revision*."""
        entry = self.record.entries.get(revision.policy)
        return entry is not None and entry.revision == revision.name

    def adopted(self, revision: Revision, name: str) -> bool:
        """Whether the owner's own native container equals the sidecar *name* of *revision* in every field."""
        item = ItemKey(INIT_CONTAINERS, name)
        own = self.application.get(item)
        return own is not None and item not in self.record.orphaned and own == canonical_item(revision, item)


Check = Callable[[Subject, Revision, Sequence[Revision]], Skip | None]


def terminating(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """It or its namespace is being deleted."""
    if subject.workload.deleting:
        return Skip(reason=SkipReason.TERMINATING, message="the Deployment is being deleted")
    if subject.namespace.terminating:
        return Skip(reason=SkipReason.TERMINATING, message=f"namespace {subject.namespace.name} is being deleted")
    return None


def opted_out(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its owner says so, on the Deployment or in its Pod template or, unless they say otherwise, on the namespace.

    Whoever leaves every sidecar of a policy out by name has opted out of it. What is there of the policy goes at once
    where its owner leaves that out; where a new revision has none of it any more, that is a step like any other.
    """
    entry = subject.record.entries.get(revision.policy, NOTHING)
    refused = entry.adjustment.refused
    may_opt_out = revision.policy not in subject.binding and OPT_OUT not in refused
    if may_opt_out and (where := opts_out(subject.workload, subject.namespace)):
        return Skip(reason=SkipReason.OPTED_OUT, message=where, removes=True)
    left_out = {name for name in subject.skipped if skip_mark(name) not in refused}
    if not revision.sidecars and (entry.names(INIT_CONTAINERS) | entry.adopted) <= left_out:
        message = f"the annotation {names.SKIP} names every sidecar of the policy"
        return Skip(reason=SkipReason.OPTED_OUT, message=message, removes=True)
    return None


def is_protected(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """What the cluster needs to work, and the operator itself, get sidecars only where somebody asks for them there."""
    namespace = subject.namespace
    its_own = namespace.name == subject.operator_namespace
    if not revision.policy.cluster_wide or not (its_own or namespace.name.startswith(names.KUBERNETES_NAMESPACES)):
        return None
    if let_in(subject.workload) or namespace.labels.get(names.INJECT) == "true":
        return None
    whose = "the operator's own" if its_own else "Kubernetes' own"
    return Skip(
        reason=SkipReason.PROTECTED_NAMESPACE,
        message=f'namespace {namespace.name} is {whose}; the label {names.INJECT}: "true" on it or on the Deployment '
        "lets sidecars in",
    )


def overridden(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """A policy of higher precedence provides an item of the same name, port, mount path or env here."""
    for other in above:
        if (shared := _shared(subject, revision, other)) is None:
            continue
        if other.policy in subject.leaving:
            gone = "which is being deleted or does not select it any more, and is still to be removed"
            message = f"{shared} {other.policy.label}, {gone}"
            in_the_way = [each for each in above if each.policy in subject.leaving and _shared(subject, revision, each)]
            waits_for = frozenset(each.policy for each in in_the_way)
            return Skip(reason=SkipReason.OVERRIDDEN, message=message, waits_for=waits_for)
        return Skip(
            reason=SkipReason.OVERRIDDEN,
            message=f"{shared} {other.policy.label}, which has precedence: {why_first(other, revision)}",
            removes=True,
            overridden_by=other.policy,
        )
    return None


def _shared(subject: Subject, revision: Revision, other: Revision) -> str | None:
    """What both provide, as the beginning of a sentence, or None."""
    mine, theirs = (
        {place_of(item): content for item, content in _provides(subject, each).items()} for each in (revision, other)
    )
    for item in sorted(mine.keys() & theirs.keys()):
        if item.list not in SHARED or mine[item] != theirs[item]:
            return f"{item} comes from"
    for field_name, number, protocol in sorted(_ports(revision) & _ports(other)):
        return f"{field_name} {number}/{protocol} is taken by"
    return None


def may_clash(one: Revision, other: Revision) -> bool:
    """Whether *one* and *other* may not be on one workload together, whatever containers it has."""
    mine, theirs = _claims(one), _claims(other)
    clashing = (item.list not in SHARED or mine[item] != theirs[item] for item in mine.keys() & theirs.keys())
    return any(clashing) or bool(_ports(one) & _ports(other))


def _claims(revision: Revision) -> dict[ItemKey, Json]:
    """Every item that *revision* has anywhere, those of the application's containers as if they were all one."""
    additions = {place_of(ItemKey(listed, name)): each for listed, name, each in _additions(revision)}
    return _of_the_pod(revision) | additions


def name_is_taken(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """The application has its own container, volume or mount path of that name, or somebody claims ours."""
    return next(_name_conflicts(subject, revision), None)


def _name_conflicts(subject: Subject, revision: Revision) -> Iterator[Skip]:
    def refuse(message: str) -> Skip:
        return Skip(reason=SkipReason.NAME_CONFLICT, message=message)

    entry = subject.record.entries.get(revision.policy)
    for item in sorted(entry.items if entry else ()):
        if item in subject.owners and not item.yields:
            yield refuse(
                f"{item} is ours and {subject.owners[item]!r} declares it too; take it out of what is applied there (a "
                f"copy of the live Deployment has it), or rename one of the two{_merged(subject, item)}"
            )
    regular = {each["name"]: each for each in items(subject.spec, "containers")}
    for sidecar in revision.sidecars:
        item = ItemKey(INIT_CONTAINERS, sidecar.name)
        own = subject.application.get(item) or regular.get(sidecar.name)
        if own is None or (own is not regular.get(sidecar.name) and subject.adopted(revision, sidecar.name)):
            continue
        left = " (left by a deleted policy)" if item in subject.record.orphaned else ""
        what = f"the application has its own container {sidecar.name!r}{left}"
        yield refuse(f"{what}{_differs(own, sidecar.container, regular=own is regular.get(sidecar.name))}")
    for label in sorted(revision.pod_metadata.labels.keys() & subject.workload.selector_keys):
        if ItemKey(LABELS, label) not in subject.application:
            yield refuse(f"the Deployment's own selector asks for the label {label!r}, which the policy would add")
    provided = _provides(subject, revision)
    for item, ours in provided.items():
        if item.list == VOLUMES and item in subject.application:
            yield refuse(
                f"the application has its own volume {item.name!r} ({_source(subject.application[item])}); "
                f"the policy's is {_source(ours)}"
            )
        elif item.list == VOLUME_MOUNTS and (own := subject.application_mounts.get(place_of(item))) is not None:
            yield refuse(
                f"container {item.container!r} of the application mounts its own volume {own.get('name')!r} at "
                f"{own['mountPath']!r}; the policy mounts {ours.get('name')!r} there"
            )
    for missing in sorted(subject.missing):
        for item in sorted(subject.record.entries[missing].items & provided.keys()):
            if subject.equals(item, revision):
                continue  # it is taken over
            yield refuse(
                f"{item} was put there by {missing.label}, which {without_a_say(missing, subject.workload.id)}; "
                "eject it first"
            )


def _merged(subject: Subject, item: ItemKey) -> str:
    """What becomes of a container that an owner and a policy declare, as the end of a sentence.

    Apply merges by name, so fields that only the policy gives stay: an owner's plain init container never ends.
    """
    containers = items(subject.spec, INIT_CONTAINERS) if item.list == INIT_CONTAINERS else ()
    native = any(each["name"] == item.name and each.get("restartPolicy") == "Always" for each in containers)
    return (
        "; until then the two are merged, and the container runs as a sidecar (restartPolicy: Always)" if native else ""
    )


def _differs(own: Json, ours: Json, *, regular: bool) -> str:
    """In what a container of the application's own is another than *ours*, as the end of a sentence."""
    if own.get("image") != ours.get("image"):
        return f" with image {own.get('image')!r}; the policy's has image {ours.get('image')!r}"
    if regular:
        return " of the same image, which is no init container"
    fields = sorted(key for key in own.keys() | ours.keys() if own.get(key) != ours.get(key))
    if not fields:  # what a deleted policy has left is the owner's, equal or not
        return ", equal to the policy's; take it out there to get the policy's own"
    return f" of the same image; it differs from the policy's in {', '.join(fields)}"


def without_a_say(policy: PolicyId, workload: WorkloadId) -> str:
    """Why what *policy* has on *workload* by the record is nobody's any more, as the end of a sentence."""
    if policy.cluster_wide or policy.namespace == workload.namespace:
        return "does not exist any more"
    return "reaches its own namespace only (the Deployment was copied from there)"


def port_is_taken(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """A port of ours is the application's: containers of a Pod share its network, and nothing else checks this."""
    ours = {port: each.name for each in revision.sidecars for port in claimed_ports(each.container)}
    adopted = {each.name for each in revision.sidecars if subject.adopted(revision, each.name)}
    for container in subject.application_containers:
        if container["name"] in adopted:
            continue
        for port in sorted(claimed_ports(container) & ours.keys()):
            return Skip(
                reason=SkipReason.PORT_CONFLICT,
                message=f"{port[0]} {port[1]}/{port[2]} of sidecar {ours[port]!r} is also that of the "
                f"application's container {container['name']!r}",
            )
    return None


def is_emptied(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its owner's next `kubectl apply` would take our volumes out, leave what mounts them, and be refused for that."""
    if revision.volumes and (VOLUMES, "") in subject.emptied and not subject.applied(revision):
        return Skip(
            reason=SkipReason.EMPTIED_BY_APPLY,
            message="its manifest has `volumes:` without a value, so every kubectl apply deletes what is there, and "
            "would be refused because our mounts need it; take the key out of the manifest and apply it",
        )
    return None


def hides_pull_secrets(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its Pods would lose the pull secrets of their ServiceAccount, which cannot be read."""
    account = subject.account
    if not revision.pull_secrets or account is None or account.secrets is not None or subject.applied(revision):
        return None
    return Skip(
        reason=SkipReason.PULL_SECRETS_UNREADABLE,
        message=f"ServiceAccount {account.name!r} is not there or cannot be read; Kubernetes gives its pull secrets "
        "only to Pods that have none, so they have to be written beside those of the policy",
    )


def has_controller(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Another controller made it, and would undo us."""
    if subject.workload.controller and not subject.applied(revision):
        return Skip(
            reason=SkipReason.CONTROLLED,
            message=f"the Deployment is controlled by {subject.workload.controller}, which would undo a change; "
            "change it there",
        )
    return None


def is_driven(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its template is another's: a change would start that one's own rollout, outside of any budget."""
    driver = subject.driven_by or subject.workload.driven_by
    if driver and not subject.applied(revision):
        return Skip(
            reason=SkipReason.DRIVEN_BY_ROLLOUT,
            message=f"{driver} takes its Pod template from the Deployment (workloadRef): a change would start that "
            "rollout, with its own steps",
        )
    return None


def is_paused(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its owner paused it: a change would only wait. One that has not begun begins with what comes meanwhile."""
    if subject.workload.paused and not subject.not_begun and not subject.applied(revision):
        return Skip(
            reason=SkipReason.DEPLOYMENT_PAUSED,
            message="the Deployment is paused by its owner; it is changed after `kubectl rollout resume`",
        )
    return None


def is_pinned(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its owner pinned it to another revision than the update revision."""
    pin = subject.pins.get(revision.policy)
    if pin is None:
        return None
    what = f"the Deployment's annotation {names.PIN} pins it to {pin.asked}"
    if pin.revision is None:
        return Skip(reason=SkipReason.PINNED, message=f"{what}, which is not stored: it stays as it is")
    return Skip(reason=SkipReason.PINNED, message=what, pinned_to=pin.revision)


def has_halted_rollout(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Another policy's failed rollout is left on it for inspection."""
    others = sorted(subject.inspected - {revision.policy})
    if not others or subject.applied(revision):
        return None
    return Skip(
        reason=SkipReason.OTHER_ROLLOUT_HALTED,
        message=f"a failed rollout of {others[0].label} is left on it for inspection (onFailure: Halt); "
        "edit or resume that policy first",
    )


def would_go_down(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """A change would take all of its Pods down at once."""
    allowed = subject.workload.annotations.get(names.ALLOW_DOWNTIME) == "true"
    takes_down = subject.workload.takes_down and not subject.not_begun
    if takes_down and not allowed and not subject.applied(revision):
        return Skip(
            reason=SkipReason.DOWNTIME,
            message=f"a change takes all Pods of the Deployment down at once ({subject.workload.takes_down}); "
            f'the annotation {names.ALLOW_DOWNTIME}: "true" on it allows that',
        )
    return None


def breaks_autoscaling(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """An autoscaler goes by the share of what is requested, and a sidecar requests nothing: it would stop scaling."""
    if subject.applied(revision) or not needs_requests(subject.spec):
        return None
    ours = [each for each in revision.sidecars if not subject.adopted(revision, each.name)]
    for autoscaler in subject.autoscalers:
        for resource in autoscaler.resources:
            lacking = [repr(each.name) for each in ours if not requests(each.container, resource)]
            if lacking:
                return Skip(
                    reason=SkipReason.BREAKS_AUTOSCALING,
                    message=f"HorizontalPodAutoscaler {autoscaler.name!r} scales it by {resource} utilization, and "
                    f"would stop: no {resource} is requested by {', '.join(lacking)}; give the sidecar a request, or "
                    "let the autoscaler measure the application's container alone (type ContainerResource)",
                )
    return None


def runs_on_windows(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its Pods run on Windows, and no sidecar of the policy says that it does."""
    where = _windows(subject.spec) or _windows_nodes(subject.nodes)
    if not where or subject.applied(revision):
        return None
    meant = any(at(each.container, "securityContext", "windowsOptions") for each in revision.sidecars)
    if meant:
        return None
    return Skip(
        reason=SkipReason.WINDOWS_NODE,
        message=f"its Pods run on Windows ({where}), and an image for Linux does not start there; a policy for Windows "
        "sets securityContext.windowsOptions in one of its sidecars",
    )


def _windows(spec: Json) -> str:
    """What of a Pod's spec says that it runs on Windows, or nothing."""
    if at(spec, "os").get("name") == WINDOWS:
        return "spec.os.name"
    if at(spec, "nodeSelector").get(OS_LABEL) == WINDOWS:
        return "nodeSelector"
    required = at(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = items(required, "nodeSelectorTerms")
    demands = [any(_demands_windows(each) for each in items(term, "matchExpressions")) for term in terms]
    return "nodeAffinity" if demands and all(demands) else ""


def _windows_nodes(nodes: Eligible) -> str:
    """The same by the nodes that fit it: whatever they are selected by, all of them run Windows."""
    return f"as node {nodes.windows} does, and every other on which they may land" if nodes.windows else ""


def _demands_windows(expression: Json) -> bool:
    return (expression.get("key"), expression.get("operator"), expression.get("values")) == (OS_LABEL, "In", [WINDOWS])


def meets_an_old_kubelet(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its Pods may land on a node that takes a native sidecar for an ordinary init container, which never ends."""
    kubelet = subject.nodes.too_old
    if kubelet is None or subject.applied(revision):
        return None
    return Skip(
        reason=SkipReason.NODE_TOO_OLD,
        message=f"its Pods may land on node {kubelet.node}, whose kubelet {kubelet.text} has no native sidecars (1.29 "
        "and newer have): they would never start there; upgrade the node, or keep them off it (nodeSelector, "
        "required node affinity, or a taint)",
    )


def violates_pod_security(subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    """Its namespace enforces a Pod Security Standard that the sidecars do not meet: its Pods would be refused."""
    words = subject.violations.get(revision.policy)
    if words is None or subject.applied(revision):
        return None
    return Skip(reason=SkipReason.POD_SECURITY, message=f"with the sidecars its Pods would be refused: {words}")


CHECKS: tuple[Check, ...] = (
    terminating,
    opted_out,  # the owner's word comes first
    is_protected,
    overridden,
    name_is_taken,
    port_is_taken,
    is_emptied,
    hides_pull_secrets,
    has_controller,
    is_driven,
    is_paused,
    is_pinned,
    has_halted_rollout,
    would_go_down,
    breaks_autoscaling,
    runs_on_windows,
    meets_an_old_kubelet,
    violates_pod_security,
)


def _nothing_recorded(policy: PolicyId) -> Revision | None:
    return None


def judge(
    subject: Subject,
    candidates: Iterable[Revision],
    leaving: Iterable[Revision] = (),
    recorded: Callable[[PolicyId], Revision | None] = _nothing_recorded,
) -> dict[PolicyId, Skip | None]:
    """Return, for each policy of *candidates*, the first reason to leave the workload alone, or None.

    *candidates* are what the policies that select the workload want to inject; *leaving* is what is still there of
    policies that no longer do, and in the way until it is gone. One that waits for that has its place already, before
    those of lower precedence. So has what is *recorded* of one that is overridden: it stays until what overrides it
    arrives, and where only its newest revision is overridden, for good.
    """
    verdicts: dict[PolicyId, Skip | None] = {}
    present = list(leaving)
    if (gone := frozenset(each.policy for each in present)) != subject.leaving:
        subject = replace(subject, leaving=gone)
    for revision in sorted(candidates, key=precedence):
        skip = _first(CHECKS, subject, revision, present)
        if skip is not None and skip.waits_for:
            skip = _unless_skipped_anyway(skip, subject, revision, present)
        if skip is not None and skip.pinned_to is not None:  # to move it is a change like any other
            after = CHECKS[CHECKS.index(is_pinned) + 1 :]
            if (other := _first(after, subject, revision, present)) is not None:
                message = f"{skip.message}; it stays as it is, {other.reason}: {other.message}"
                skip = replace(skip, pinned_to=None, message=message)
        verdicts[revision.policy] = skip
        if revision.policy in subject.idle:
            continue
        if skip is None or skip.waits_for or (not skip.removes and revision.policy in subject.record.entries):
            present.append(revision)
        elif skip.overridden_by is not None and (there := recorded(revision.policy)) is not None:
            present.append(there)
    return verdicts


def _unless_skipped_anyway(skip: Skip, subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip:
    """Return why *revision* is left alone even without what leaves; where nothing is in its way then, *skip*.

    What its owner pins goes there afterwards, and is skipped until then as it is later.
    """
    staying = [each for each in above if each.policy not in subject.leaving]
    other = _first(CHECKS, subject, revision, staying)
    if other is None:
        return skip
    return replace(skip, waits_for=NOBODY) if other.pinned_to is not None else other


def _first(checks: Sequence[Check], subject: Subject, revision: Revision, above: Sequence[Revision]) -> Skip | None:
    for check in checks:
        if (found := check(subject, revision, above)) is not None:
            return found
    return None


def pins_among(annotations: Mapping[str, str], revisions: Iterable[Revision]) -> dict[PolicyId, Pin]:
    """Return what the owner pins to another revision than that of *revisions*, where no other is known."""
    if names.PIN not in annotations:
        return {}
    pinned = pins_of(annotations[names.PIN])
    asked = {each.policy: pinned.of(each.policy) for each in revisions if pinned.of(each.policy) != each.name}
    return {policy: Pin(asked=name, revision=None) for policy, name in asked.items() if name is not None}


def invalid_marks(
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    pod_labels: Mapping[str, str] = NO_MARKS,
    pod_annotations: Mapping[str, str] = NO_MARKS,
    sidecars: Collection[str] | None = None,
    policies: Collection[PolicyId] | None = None,
) -> list[str]:
    """Sentences about labels and annotations under our group that have no effect.

    They are unknown, one in place of the other, of a value that is not allowed, or contradicted by what goes first.
    *pod_labels* and *pod_annotations*: those of the Pod template, where only `sidecars.dev/inject` and
    `sidecars.dev/skip` mean anything, and where a restart of ours stands. *sidecars*: the names that there are to skip,
    *policies*: those that select the workload, which may be pinned; None where that is not known.
    """
    found: list[str] = []
    for what, marks in (("label", labels), ("annotation", annotations)):
        for key, value in sorted(marks.items()):
            if not key.startswith(MARKED) or key == names.RECORD:
                continue
            is_override = key.startswith(names.OVERRIDE)
            wanted = "annotation" if is_override else MARKS.get(key)
            if wanted is None:
                known = ", ".join(f"{kind} {name}" for name, kind in sorted((MARKS | OVERRIDES).items()))
                found.append(f"{what} {key}: is not known; known are {known}")
            elif wanted != what:
                counts = labels.get(key) if what == "annotation" else None
                but = f', and the label says "{counts}"' if counts in TRUTH and counts != value else ""
                found.append(f"{what} {key}: must be {ONE[wanted]}; as {ONE[what]} it has no effect{but}")
            elif is_override:
                sidecar = key.removeprefix(names.OVERRIDE)
                found += [f"annotation {key}: {sentence}" for sentence in unknown_sidecar(sidecar, sidecars)]
            elif key == names.PIN:
                found += [f"annotation {key}: {sentence}" for sentence in invalid_pins(value, policies)]
            elif key == names.SKIP:
                found += [f"annotation {key}: {sentence}" for sentence in invalid_skips(value, sidecars)]
            elif value not in TRUTH:
                found.append(_untrue(f"{what} {key}", value))
    for what, marks in (("label", pod_labels), ("annotation", pod_annotations)):
        for key, value in sorted(marks.items()):
            if key == names.INJECT and value not in TRUTH:
                found.append(_untrue(f"{what} {key} of the Pod template", value))
            elif (what, key) == ("annotation", names.SKIP):
                where = f"annotation {key} of the Pod template"
                found += [f"{where}: {sentence}" for sentence in invalid_skips(value, sidecars)]
            elif key != names.INJECT and key.startswith(MARKED) and (what, key) not in OF_TEMPLATES:
                known = f"known are {names.INJECT} and the annotation {names.SKIP}"
                found.append(f"{what} {key} of the Pod template: is not known; {known}")
    return [*found, *_contradicted(labels, pod_labels, pod_annotations)]


def _contradicted(
    labels: Mapping[str, str], pod_labels: Mapping[str, str], pod_annotations: Mapping[str, str]
) -> Iterator[str]:
    """A sentence where the annotation of the Pod template says otherwise than a label, which goes first."""
    said = pod_annotations.get(names.INJECT)
    for whose, marks in (("the Deployment", labels), ("the Pod template", pod_labels)):
        if (counts := marks.get(names.INJECT)) not in TRUTH:
            continue
        if said in TRUTH and said != counts:
            yield f'annotation {names.INJECT} of the Pod template: has no effect, the label of {whose} says "{counts}"'
        return


def invalid_namespace_marks(namespace: Namespace) -> Iterator[str]:
    """Sentences about what a namespace says of injection that has no effect: no label, or a value not allowed."""
    value = namespace.labels.get(names.INJECT)
    if value is not None and value not in TRUTH:
        yield _untrue(f"label {names.INJECT}", value)
    if namespace.misplaced:
        yield f"annotation {names.INJECT}: must be a label; as an annotation it has no effect"


def _untrue(what: str, value: str) -> str:
    return f'{what}: must be "true" or "false", not {value!r}; it has no effect'


def _provides(subject: Subject, revision: Revision) -> dict[ItemKey, Json]:
    """Every item that *revision* would have on this workload."""
    provided = _of_the_pod(revision)
    adopted = {each.name for each in revision.sidecars if subject.adopted(revision, each.name)}
    for container in application_containers(
        subject.spec, revision, lambda name: subject.is_injected(name) or name in adopted
    ):
        name = container["name"]
        provided |= {ItemKey(listed, identity, name): each for listed, identity, each in _additions(revision)}
    return provided


def _of_the_pod(revision: Revision) -> dict[ItemKey, Json]:
    """Every item that *revision* has beside what it adds to the application's containers."""
    found = {ItemKey(INIT_CONTAINERS, sidecar.name): sidecar.container for sidecar in revision.sidecars}
    found |= {ItemKey(VOLUMES, volume["name"]): volume for volume in revision.volumes}
    found |= {ItemKey(PULL_SECRETS, name): {"name": name} for name in revision.pull_secrets}
    return found | dict(revision.pod_metadata.items)


def _additions(revision: Revision) -> Iterator[tuple[str, str, Json]]:
    """What *revision* adds to each of the application's containers, with the list and what it goes by there."""
    for listed, additions in ((ENV, revision.application.env), (VOLUME_MOUNTS, revision.application.volume_mounts)):
        for addition in additions:
            yield listed, addition[IDENTITY[listed]], addition


def _ports(revision: Revision) -> frozenset[Port]:
    return frozenset(port for each in revision.sidecars for port in claimed_ports(each.container))


def _source(volume: Json) -> str:
    return ", ".join(sorted(set(volume) - {"name"})) or "no source"
