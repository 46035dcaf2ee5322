"""Labels and annotations that a policy adds to a Pod template, as items like all others.

Each key is an item whose content is `{"name": <key>, "value": <value>}`: so it is recorded, repaired, handed over and
taken out as a variable is. As with variables, what the owner has already stays, and what they write later is theirs.

Keys by which Kubernetes tells Pods apart, or which it or we set ourselves, are nobody's to add (`reserved`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sidecarpolicy import names
from sidecarpolicy.core.record import LABELS, METADATA, ItemKey, Record
from sidecarpolicy.core.tree import Json, at

# By which controllers tell the Pods of theirs, or what they write on them. k8s.io/api/apps/v1, batch/v1; the topology
# labels are copied from the node (KEP-4742).
CONTROLLERS_LABELS = (
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "statefulset.kubernetes.io/",
    "apps.kubernetes.io/",
    "batch.kubernetes.io/",
    "topology.kubernetes.io/",
)

# What kubectl and the kubelet go by: a restart, what was applied, and that a Pod is a static one.
OTHERS_ANNOTATIONS = (
    "kubectl.kubernetes.io/restartedAt",
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/",
    "kubernetes.io/config.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMetadata:
    """What a policy adds to the metadata of a Pod template."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations)

    def of(self, listed: str) -> Mapping[str, str]:
        """Its labels or its annotations."""
        return self.labels if listed == LABELS else self.annotations

    @property
    def items(self) -> Iterator[tuple[ItemKey, Json]]:
        """Each as an item, in one order."""
        for listed in METADATA:
            for name, value in sorted(self.of(listed).items()):
                yield ItemKey(listed, name), {"name": name, "value": value}


NO_METADATA = PodMetadata()


def metadata_items(template: Json, listed: str) -> list[Json]:
    """Return the labels or the annotations of *template* as a list of items."""
    return [{"name": name, "value": value} for name, value in at(template, "metadata", listed).items()]


def with_metadata(template: Json, listed: str, content: Sequence[Json]) -> Json:
    """Return *template* with the items *content* as its labels or annotations."""
    return with_values(template, listed, {each["name"]: each["value"] for each in content})


def with_values(template: Json, listed: str, values: Mapping[str, str]) -> Json:
    """Return *template* with *values* as its labels or annotations; without the key where there are none."""
    metadata = {**at(template, "metadata"), listed: values}
    if not values:
        del metadata[listed]
    if metadata:
        return {**template, "metadata": metadata}
    return {key: value for key, value in template.items() if key != "metadata"}


def owners_labels(
    labels: Mapping[str, str], record: Record, declared: Container[ItemKey] = frozenset()
) -> Mapping[str, str]:
    """Return *labels* of a Pod template without those that policies have added and nobody else has *declared*.

    What is selected must not depend on what is injected: a policy could select and deselect for ever.
    """
    added = {item.name for item in record.items if item.list == LABELS and item not in declared}
    return {name: value for name, value in labels.items() if name not in added} if added else labels


def reserved(listed: str, name: str) -> str:
    """Return why no policy may add the label or annotation *name*, or nothing."""
    if name.startswith(f"{names.GROUP}/"):
        return f"must not begin with {names.GROUP}/: those are for the owner of a Deployment to set"
    taken = CONTROLLERS_LABELS if listed == LABELS else OTHERS_ANNOTATIONS
    if any(name == each or (name.startswith(each) and not each[-1].isalpha()) for each in taken):
        return f"must not be {name}: Kubernetes and its tools set it themselves, and go by it"
    return ""
