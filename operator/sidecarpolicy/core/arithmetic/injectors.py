"""Meshes and other injectors: who starts first, a policy's sidecars or theirs.

Their containers are in the Pod template already (`istioctl kube-inject`, `linkerd inject`), or come when a Pod is
created, by a webhook that a label or an annotation calls. Either way they stay where they are: a policy moves nothing
that is not its own. What starts before the agent of a mesh is outside of it for so long, and what starts before an
agent that fetches secrets finds none. Where both orders are possible (does the mesh inject a native sidecar?) that is
said.

Where they put theirs: Istio and Linkerd a native proxy first of all, and one that is not native last; Dapr its own
last; Vault its init container last, or first by an annotation; the OpenTelemetry Collector last. What OpenTelemetry's
instrumentation adds to the application's own containers has no order with a sidecar, and is no matter here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sidecarpolicy.core.arithmetic.change import Change, Finding
from sidecarpolicy.core.record import INIT_CONTAINERS
from sidecarpolicy.core.tree import items
from sidecarpolicy.names import WarningReason

NO = ("false", "disabled", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Injector:
    """One injector. *agents*: its containers that others may have to wait for, the one that says it first.

    *marks*: labels or annotations of a Pod template that call it; *on_namespace*: labels of a namespace that do, where
    the template does not say no. Of both the values that mean yes, none for any but a no. *first*: annotations by which
    its own starts before everything, and their value. *perhaps*: whether it may do so anyway. *without*: what a sidecar
    that starts before it lacks. *advice*: what to do. *redirects*: the init container after which only the agent has a
    network: what starts in between is `sharing.waits_for_mesh`'s.
    """

    name: str
    agents: tuple[str, ...]
    marks: Mapping[str, tuple[str, ...]]
    without: str
    advice: str
    on_namespace: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    perhaps: bool = False
    on_host_network: bool = True
    redirects: str = ""


INJECTORS = (
    Injector(
        name="Istio",
        agents=("istio-proxy",),
        redirects="istio-init",
        marks={"sidecar.istio.io/inject": ("true",), "istio.io/rev": ()},
        on_namespace={"istio-injection": ("enabled",), "istio.io/rev": ()},
        first={"sidecar.istio.io/nativeSidecar": "true"},
        perhaps=True,
        on_host_network=False,
        without="outside of the mesh, and what demands mutual TLS refuses it",
        advice='have Istio inject a native sidecar (sidecar.istio.io/nativeSidecar: "true")',
    ),
    Injector(
        name="Linkerd",
        agents=("linkerd-proxy",),
        redirects="linkerd-init",
        marks={"linkerd.io/inject": ("enabled", "ingress")},
        first={
            "config.linkerd.io/proxy-enable-native-sidecar": "true",
            "config.beta.linkerd.io/proxy-enable-native-sidecar": "true",
            "config.alpha.linkerd.io/proxy-enable-native-sidecar": "true",
        },
        perhaps=True,
        on_host_network=False,
        without="outside of the mesh, and what demands mutual TLS refuses it",
        advice='have Linkerd inject a native sidecar (config.linkerd.io/proxy-enable-native-sidecar: "true")',
    ),
    Injector(
        name="Dapr",
        agents=("daprd",),
        marks={"dapr.io/enabled": ("true",)},
        without="without Dapr's API",
        advice="let the sidecar try again, and let its startup probe not need Dapr",
    ),
    Injector(
        name="the Vault Agent",
        agents=("vault-agent-init", "vault-agent"),
        marks={"vault.hashicorp.com/agent-inject": ("true",)},
        first={"vault.hashicorp.com/agent-init-first": "true"},
        without="without what is rendered into /vault/secrets",
        advice='have its init container run first (vault.hashicorp.com/agent-init-first: "true")',
    ),
    Injector(
        name="the OpenTelemetry Collector",
        agents=("otc-container",),
        marks={"sidecar.opentelemetry.io/inject": ()},
        without="without a collector, and what it sends is lost",
        advice="let the sidecar try again, or have the collector's gateway take what it sends",
    ),
)


# What shows that there is one of them: a container of its own, or a mark of a Pod template.
AGENTS = frozenset(agent for each in INJECTORS for agent in each.agents)
MARKS = frozenset(mark for each in INJECTORS for mark in each.marks)
ON_NAMESPACES = tuple(sorted({mark for each in INJECTORS for mark in each.on_namespace}))


def calling(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return those of a namespace's *labels* that call an injector for its Pods."""
    return {mark: labels[mark] for mark in ON_NAMESPACES if mark in labels}


def starts_before_injected(change: Change) -> Iterable[Finding]:
    """A sidecar starts before the agent of a mesh or another injector, which it may need."""
    ordered = [each["name"] for each in items(change.after, INIT_CONTAINERS)]
    regular = {each["name"] for each in items(change.after, "containers")}
    ours = [name for name in ordered if name in change.ours]
    template = {**change.annotations, **change.labels}
    if not ours or not (change.namespace or MARKS & template.keys() or AGENTS & {*ordered, *regular}):
        return
    for injector in INJECTORS:
        agent = next((name for name in injector.agents if name in regular or name in ordered), None)
        if agent in change.ours:
            continue
        if agent is not None:
            ends = min(ordered.index(each) if each in ordered else len(ordered) for each in (agent, injector.redirects))
            before = [name for name in ordered[:ends] if name in change.ours]
            if before:
                advice = "use position AfterInit where it needs that" if agent in ordered else injector.advice
                yield _finding(injector, before, f"starts before {agent!r} of {injector.name}", advice)
        elif (mark := _called_by(injector, change, template)) and not _is_first(injector, change):
            starts = "may start" if injector.perhaps else "starts"
            what = f"{starts} before the container of {injector.name}, which is injected when a Pod is created ({mark})"
            yield _finding(injector, ours, what, injector.advice)


def _finding(injector: Injector, sidecars: list[str], what: str, advice: str) -> Finding:
    named = ", ".join(map(repr, sidecars))
    return Finding(
        reason=WarningReason.INJECTOR_ORDER,
        message=f"sidecar {named} {what}: until that runs it is {injector.without}; {advice}",
    )


def _called_by(injector: Injector, change: Change, template: Mapping[str, str]) -> str:
    """The mark that calls the injector, or nothing; a *template*'s no counts more than a namespace's yes."""
    if change.after.get("hostNetwork") and not injector.on_host_network:
        return ""
    found = {mark: template[mark] for mark in injector.marks if mark in template}
    if any(value in NO for value in found.values()):
        return ""
    for mark, value in found.items():
        if _says_yes(value, injector.marks[mark]):
            return mark
    for mark, values in injector.on_namespace.items():
        if mark in change.namespace and _says_yes(change.namespace[mark], values):
            return f"{mark} of the namespace"
    return ""


def _says_yes(value: str, values: tuple[str, ...]) -> bool:
    return value in values if values else value not in NO


def _is_first(injector: Injector, change: Change) -> bool:
    return any(change.annotations.get(mark) == value for mark, value in injector.first.items())
