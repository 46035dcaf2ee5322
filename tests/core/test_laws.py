"""The laws of injecting and ejecting, over templates, policies and owners' edits."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from typing import Any

import jsonpatch
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.core.adjustment import Account, Adjustment
from sidecarpolicy.core.claims import IDENTITY, template_items
from sidecarpolicy.core.field_conflicts import NOT_UNDONE, Undone
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import compose, eject, inject
from sidecarpolicy.core.overrides import read
from sidecarpolicy.core.patch import json_patch
from sidecarpolicy.core.record import (
    ENV,
    INIT_CONTAINERS,
    OF_TEMPLATE,
    PULL_SECRETS,
    VOLUME_MOUNTS,
    VOLUMES,
    Entry,
    ItemKey,
    Mangled,
    Note,
    Record,
    parse,
    text_of,
)
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json, at, items, with_items
from tests.core.objects import a_revision, a_sidecar
from tests.core.strategies import CONTAINERS, OVERRIDES, Edit, edits, moves, revisions, templates

NOTHING = Record()


def untouchable(record: Record) -> frozenset[ItemKey]:
    """What an owner's edit leaves alone: ours, and what of his own we have adopted."""
    adopted = {ItemKey(list=INIT_CONTAINERS, name=name) for entry in record.entries.values() for name in entry.adopted}
    return record.items | adopted


def without(template: Json, ours: frozenset[ItemKey]) -> Json:
    """Take *ours* out of *template*, without the help of the code under test."""
    spec = template["spec"]

    def own(listed: str, holder: Json, container: str = "") -> list[Json]:
        key = IDENTITY.get(listed, "name")
        return [
            each
            for each in items(holder, listed)
            if ItemKey(list=listed, name=each[key], container=container) not in ours
        ]

    for listed in (VOLUMES, PULL_SECRETS):
        spec = with_items(spec, listed, own(listed, spec))
    for outer in (INIT_CONTAINERS, CONTAINERS):
        cleaned = []
        for container in own(outer, spec):
            for listed in (ENV, VOLUME_MOUNTS):
                container = with_items(container, listed, own(listed, container, container["name"]))
            cleaned.append(container)
        spec = with_items(spec, outer, cleaned)
    metadata = {
        listed: own_values
        for listed, found in template["metadata"].items()
        if (own_values := {name: value for name, value in found.items() if ItemKey(listed, name) not in ours})
    }
    return {"metadata": metadata, "spec": spec}


def with_ours_last(template: Json, ours: frozenset[ItemKey]) -> Json:
    """Put ours behind the owner's in every list whose order only says who came first: volumes, env and mounts.

    What tells of restarts comes in the order of the policies: there too the order only says who came first.

    New items go to the end there and stay where they are when the owner adds his own behind them, so between the two
    the place depends on who came first. In initContainers the place means something and is always the same.
    """

    def last(listed: str, holder: Json, container: str = "") -> Json:
        key = IDENTITY[listed]
        return with_items(
            holder,
            listed,
            sorted(
                items(holder, listed),
                key=lambda each: ItemKey(list=listed, name=each[key], container=container) in ours,
            ),
        )

    spec = last(PULL_SECRETS, last(VOLUMES, template["spec"]))
    for outer in (INIT_CONTAINERS, CONTAINERS):
        containers = [last(VOLUME_MOUNTS, last(ENV, each, each["name"]), each["name"]) for each in items(spec, outer)]
        spec = with_items(spec, outer, containers)
    template = {**template, "spec": spec}
    told = {
        key: value
        for key, value in at(template, "metadata", "annotations").items()
        if key in (names.RESTARTED_AT, names.CONFIG)
    }
    if not told:
        return template
    told = {key: ",".join(sorted(value.split(","))) for key, value in told.items()}
    metadata = template["metadata"]
    return {**template, "metadata": {**metadata, "annotations": metadata["annotations"] | told}}


def places_of(template: Json, of: frozenset[ItemKey]) -> dict[tuple[str, str], list[str]]:
    """In which order the items *of* stand, for every list of *template*."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in template_items(template):
        if item in of:
            places[item.list, item.container].append(item.name)
    return places


def knowing(*groups: list[Revision]) -> Any:
    """Look a revision up among those of *groups*."""
    known = {(each.policy, each.name): each for group in groups for each in group}
    return lambda policy, name: known.get((policy, name))


def are_after(others: list[Revision], first: Revision) -> bool:
    """Whether `startAfter` binds one of *others* to *first*: without it they may change places among themselves."""
    names_of_first = {each.name for each in first.sidecars}
    return any(names_of_first & set(sidecar.start_after) for other in others for sidecar in other.sidecars)


@given(templates(), revisions())
def test_injecting_twice_is_injecting_once(x: Json, policies: list[Revision]) -> None:
    once, record = inject(x, policies, NOTHING)
    again, record_again = inject(once, policies, record)
    assert again == once
    assert text_of(record_again) == text_of(record)


@given(templates(), revisions(), edits())
def test_injecting_after_an_owners_edit_is_injecting_into_what_he_wrote(
    x: Json, policies: list[Revision], e: Edit
) -> None:
    injected, record = inject(x, policies, NOTHING)
    ours = untouchable(record)
    after, record_after = inject(e(injected, ours), policies, record)
    direct, record_direct = inject(e(x, ours), policies, NOTHING)
    assert text_of(record_after) == text_of(record_direct)
    assert with_ours_last(after, record_after.items) == with_ours_last(direct, record_direct.items)
    assert inject(after, policies, record_after) == (after, record_after)


@given(templates(), revisions())
def test_ejecting_undoes_injecting(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    assert eject(injected, record) == x


@given(templates(), revisions(), edits())
def test_ejecting_leaves_what_the_owner_changed_meanwhile(x: Json, policies: list[Revision], e: Edit) -> None:
    injected, record = inject(x, policies, NOTHING)
    ours = untouchable(record)
    assert eject(e(injected, ours), record) == e(x, ours)


@given(templates(), revisions())
def test_nothing_that_is_not_ours_changes_not_even_its_order(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    assert without(injected, record.items) == x


@given(templates(), moves(), edits())
def test_nothing_that_is_not_ours_changes_when_policies_move(
    x: Json, move: tuple[list[Revision], list[Revision]], e: Edit
) -> None:
    before, after = move
    injected, record = inject(x, before, NOTHING)
    ours = untouchable(record)
    edited = e(injected, ours)
    composed = compose(edited, record, {each.policy: each for each in after}, known=knowing(before, after))
    assert without(composed.template, composed.record.items) == without(edited, record.items)


@given(templates(), revisions())
def test_input_is_never_changed_in_place(x: Json, policies: list[Revision]) -> None:
    kept = copy.deepcopy((x, [(each.sidecars, each.volumes, each.application) for each in policies]))
    injected, record = inject(x, policies, NOTHING)
    eject(injected, record)
    assert kept == (x, [(each.sidecars, each.volumes, each.application) for each in policies])


@given(templates(), revisions(), st.randoms(use_true_random=False))
def test_shuffled_policies_give_identical_output(x: Json, policies: list[Revision], random: Any) -> None:
    shuffled = random.sample(policies, len(policies))
    one, one_record = inject(x, policies, NOTHING)
    other, other_record = inject(x, shuffled, NOTHING)
    assert json.dumps(one) == json.dumps(other)
    assert text_of(one_record) == text_of(other_record)


@given(templates(), moves())
def test_moving_to_a_revision_is_injecting_it(x: Json, move: tuple[list[Revision], list[Revision]]) -> None:
    before, after = move
    injected, record = inject(x, before, NOTHING)
    moved = compose(injected, record, {each.policy: each for each in after}, known=knowing(before, after))
    assert (moved.template, moved.record) == inject(x, after, NOTHING)


@given(templates(), moves())
def test_moving_without_known_revisions_is_injecting_too(x: Json, move: tuple[list[Revision], list[Revision]]) -> None:
    before, after = move
    injected, record = inject(x, before, NOTHING)
    assert inject(injected, after, record) == inject(x, after, NOTHING)


@given(templates(), moves())
def test_moving_there_and_back_changes_nothing(x: Json, move: tuple[list[Revision], list[Revision]]) -> None:
    before, after = move
    known = knowing(before, after)
    injected, record = inject(x, before, NOTHING)
    there = compose(injected, record, {each.policy: each for each in after}, known=known)
    back = compose(there.template, there.record, {each.policy: each for each in before}, known=known)
    assert (back.template, back.record) == (injected, record)


@given(templates(), revisions())
def test_orphaning_leaves_the_template_untouched(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    orphaned = compose(injected, record, {}, orphaned=frozenset(record.entries))
    assert orphaned.template == injected
    assert not orphaned.record.entries
    assert orphaned.record.orphaned == record.items
    assert eject(orphaned.template, orphaned.record) == injected


@given(templates(), revisions())
def test_orphaning_one_policy_takes_nothing_from_another(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    first, *others = policies
    assume(not are_after(others, first))
    left = compose(injected, record, {each.policy: each for each in others}, orphaned=frozenset({first.policy}))
    assert left.template == injected
    for other in others:
        assert left.record.entries[other.policy] == record.entries[other.policy]
    assert not left.record.orphaned & left.record.items


@given(templates(), revisions())
def test_holding_one_policy_changes_nothing_of_another(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    first, *others = policies
    held = compose(
        injected,
        record,
        {each.policy: each for each in others},
        held=frozenset({first.policy}),
        known=knowing(policies),
    )
    assert held.template == injected
    assert held.record == record


@given(templates(), revisions())
def test_holding_a_policy_whose_revision_is_lost_changes_nothing(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    first, *others = policies
    assume(not are_after(others, first))
    held = compose(injected, record, {each.policy: each for each in others}, held=frozenset({first.policy}))
    assert held.template == injected
    assert held.record == record


@given(templates(), revisions())
def test_a_policy_that_leaves_takes_only_its_own(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    _, *others = policies
    left = compose(injected, record, {each.policy: each for each in others}, known=knowing(policies))
    assert (left.template, left.record) == inject(x, others, NOTHING)


@given(templates(), revisions(), st.booleans())
def test_a_policy_that_leaves_changes_no_order_among_the_others(
    x: Json, policies: list[Revision], orphans: bool
) -> None:
    injected, record = inject(x, policies, NOTHING)
    for first in policies:
        others = {each.policy: each for each in policies if each is not first}
        assume(not are_after(list(others.values()), first))
        leaving = frozenset({first.policy}) if orphans else frozenset()
        left = compose(injected, record, others, orphaned=leaving, known=knowing(policies))
        staying = left.record.items
        assert places_of(left.template, staying) == places_of(injected, staying)


@given(templates(), revisions(), st.randoms(use_true_random=False))
def test_another_order_alone_is_no_reason_for_a_write(x: Json, policies: list[Revision], random: Any) -> None:
    injected, record = inject(x, policies, NOTHING)
    spec = dict(injected["spec"])
    for listed in (VOLUMES, PULL_SECRETS):
        spec = with_items(spec, listed, random.sample(content := items(spec, listed), len(content)))
    for outer in (INIT_CONTAINERS, CONTAINERS):
        containers = [
            with_items(each, VOLUME_MOUNTS, random.sample(content := items(each, VOLUME_MOUNTS), len(content)))
            if ItemKey(outer, each["name"]) not in record.items
            else each
            for each in items(spec, outer)
        ]
        spec = with_items(spec, outer, containers)
    shuffled = {**injected, "spec": spec}
    assert inject(shuffled, policies, record) == (shuffled, record)


@given(templates(), revisions())
def test_an_equal_container_of_the_owners_is_adopted_and_never_removed(x: Json, policies: list[Revision]) -> None:
    injected, _ = inject(x, policies, NOTHING)
    composed = compose(injected, NOTHING, {each.policy: each for each in policies})
    own = frozenset(template_items(injected))
    assert not composed.record.items & {key for key in own if key.list == INIT_CONTAINERS}
    assert eject(composed.template, composed.record) == injected


def test_a_shared_volume_keeps_its_place_whoever_of_its_policies_goes() -> None:
    x: Json = {"metadata": {}, "spec": {CONTAINERS: [{"name": "app"}], VOLUMES: [{"name": "own", "emptyDir": {}}]}}
    mine, theirs = (
        [{"name": name, "emptyDir": {}} for name in each] for each in (("logs",), ("certs", "spool", "logs"))
    )
    first = a_revision(a_sidecar("proxy"), name="first", priority=1, volumes=mine)
    then = a_revision(a_sidecar("logger"), name="then", volumes=theirs)
    injected, record = inject(x, [first, then], NOTHING)
    assert [each["name"] for each in injected["spec"][VOLUMES]] == ["own", "certs", "logs", "spool"]
    orphaned = compose(injected, record, {then.policy: then}, orphaned=frozenset({first.policy}))
    assert orphaned.template == injected
    deleted = compose(injected, record, {then.policy: then})
    assert deleted.template["spec"][VOLUMES] == injected["spec"][VOLUMES]


# The record.

TEXTS = st.text(min_size=1, max_size=8)
NAMES = st.sampled_from(["proxy", "logs", "HTTP_PROXY", "/var/log", "ü", 'a"b', "app"])
ITEM_KEYS = st.one_of(
    st.builds(lambda listed, name: ItemKey(list=listed, name=name), st.sampled_from(OF_TEMPLATE), NAMES),
    st.builds(
        lambda listed, name, container: ItemKey(list=listed, name=name, container=container),
        st.sampled_from([ENV, VOLUME_MOUNTS]),
        NAMES,
        NAMES,
    ),
)
POLICY_IDS = st.one_of(
    st.builds(
        lambda name: PolicyId(kind=names.CLUSTER_POLICY, namespace="", name=name), NAMES_OF := st.sampled_from("ab")
    ),
    st.builds(lambda name: PolicyId(kind=names.POLICY, namespace="shop", name=name), NAMES_OF),
)
NOTES = st.builds(
    Note,
    previous=st.sampled_from(["", "web-0"]),
    unhealthy_before=st.booleans(),
    failed=st.sampled_from(["", "web-2#1"]),
    not_counted=st.booleans(),
    stepped=st.just(0.0) | st.just(1767225600.0),
    undone=st.just(NOT_UNDONE) | st.builds(Undone, count=st.integers(1, 99), last=st.just(1767225600.0)),
)
ENTRIES = st.one_of(
    st.builds(
        Entry,
        revision=st.sampled_from(["web-1", "web-2"]),
        note=NOTES,
        items=st.frozensets(ITEM_KEYS, max_size=6),
        adopted=st.frozensets(NAMES, max_size=2),
        joined=st.booleans(),
        adjustment=st.builds(
            Adjustment,
            skipped=st.frozensets(NAMES, max_size=2),
            overrides=st.dictionaries(NAMES, OVERRIDES.map(read), max_size=2).map(
                lambda each: tuple(sorted(each.items()))
            ),
            account=st.none()
            | st.builds(Account, name=NAMES, secrets=st.lists(NAMES, max_size=2, unique=True).map(tuple)),
        ),
    ),
    st.builds(Entry, revision=st.just(""), note=st.builds(Note, failed=st.just("web-2#1"), not_counted=st.booleans())),
)
RECORDS = st.builds(
    Record, entries=st.dictionaries(POLICY_IDS, ENTRIES, max_size=3), orphaned=st.frozensets(ITEM_KEYS, max_size=4)
)


@given(RECORDS)
def test_a_record_survives_being_written_and_read(record: Record) -> None:
    assert parse(text_of(record)) == record
    assert text_of(parse(text_of(record))) == text_of(record)


@given(RECORDS, RECORDS)
def test_equal_records_have_equal_texts_and_others_have_not(one: Record, other: Record) -> None:
    assert (text_of(one) == text_of(other)) == (one == other)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["", "proxy", "revision"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "policies",
                        "orphaned",
                        "revision",
                        "adopted",
                        "skipped",
                        "overrides",
                        "account",
                        "secrets",
                        "name",
                        "joined",
                        "previous",
                        "failed",
                        "undone",
                        "count",
                        "last",
                        "",
                        "app",
                    ),
                    *IDENTITY,
                    "SidecarPolicy/a/b",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


def assert_parses_or_is_mangled(text: str) -> None:
    try:
        record = parse(text)
    except Mangled as error:
        assert str(error)
    else:
        assert parse(text_of(record)) == record
        text_of(record).encode()


@given(st.text())
def test_any_text_parses_or_is_mangled(text: str) -> None:
    assert_parses_or_is_mangled(text)


@given(JSON_VALUES)
def test_any_json_parses_or_is_mangled(value: Any) -> None:
    assert_parses_or_is_mangled(json.dumps(value))
    assert_parses_or_is_mangled(json.dumps({"policies": value}))
    assert_parses_or_is_mangled(json.dumps({"policies": {"SidecarPolicy/shop/web": value}}))
    assert_parses_or_is_mangled(
        json.dumps({"policies": {"SidecarPolicy/shop/web": {"revision": "web-1", "env": value, "adopted": value}}})
    )


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "9" * 10_000,
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","env":{"":["A"],"app":["B"]}}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","volumes":["\\ud800"]}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","volumes":"logs"}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","adopted":"proxy"}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","adopted":[1]}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":""}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"","failed":""}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","previous":null}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","previous":"\\ud800"}}}',
        '{"policies":{"SidecarPolicy/shop/web":{"revision":"web-1","failed":["web-1#1"]}}}',
        '{"policies":{"SidecarPolicy/shop/web":{}}}',
        '{"policies":{"SidecarPolicy//web":{"revision":"web-1"}}}',
        '{"policies":{"ClusterSidecarPolicy/shop/web":{"revision":"web-1"}}}',
        '{"policies":{"Deployment/shop/web":{"revision":"web-1"}}}',
        '{"policies":null}',
        "[]",
        '"text"',
        "null",
        "{",
    ],
)
def test_what_we_never_write_is_mangled(text: str) -> None:
    with pytest.raises(Mangled):
        parse(text)


@pytest.mark.parametrize("text", ["", None])
def test_no_annotation_is_an_empty_record(text: str | None) -> None:
    assert parse(text) == NOTHING
    assert text_of(NOTHING) == ""


# The patch.


def a_deployment_with(template: Json, annotations: dict[str, str]) -> Json:
    metadata: Json = {"name": "cart", "namespace": "shop", "uid": "uid-1", "generation": 4}
    return {
        "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
        "spec": {"replicas": 1, "template": template},
    }


def patch_between(before: Json, template: Json, record: str) -> list[Json]:
    annotations = before["metadata"].get("annotations", {})
    return json_patch(
        uid="uid-1",
        generation=4,
        before=before["spec"]["template"],
        after=template,
        annotated=bool(annotations),
        record=annotations.get(names.RECORD),
        new_record=record,
    )


@given(templates(), moves(), edits(), st.booleans())
def test_the_patch_turns_before_into_after(
    x: Json, move: tuple[list[Revision], list[Revision]], e: Edit, annotated: bool
) -> None:
    first, then = move
    others = {"owner": "me"} if annotated else {}
    start = a_deployment_with(x, others)

    def brought(before: Json, policies: list[Revision]) -> Json:
        """The object as `inject` and the patch have it; both must agree."""
        record = parse(before["metadata"].get("annotations", {}).get(names.RECORD))
        template, new = inject(before["spec"]["template"], policies, record)
        wanted = a_deployment_with(template, {**others, **({names.RECORD: text_of(new)} if new else {})})
        operations = patch_between(before, template, text_of(new))
        assert (operations == []) == (wanted == before)
        patched: Json = jsonpatch.apply_patch(before, operations)
        if patched["metadata"].get("annotations") == {}:
            del patched["metadata"]["annotations"]  # the API server stores no empty mapping
        assert patched == wanted
        return wanted

    injected = brought(start, first)
    record = parse(injected["metadata"]["annotations"][names.RECORD])
    edited = {
        **injected,
        "spec": {**injected["spec"], "template": e(injected["spec"]["template"], untouchable(record))},
    }
    assert brought(brought(edited, then), then) == brought(edited, then)
    assert brought(brought(edited, then), []) == a_deployment_with(e(x, untouchable(record)), others)


@given(templates(), revisions())
def test_the_patch_is_guarded(x: Json, policies: list[Revision]) -> None:
    template, record = inject(x, policies, NOTHING)
    operations = patch_between(a_deployment_with(x, {}), template, text_of(record))
    assert operations[:2] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
        {"op": "test", "path": "/metadata/generation", "value": 4},
    ]


def test_an_empty_annotation_is_removed() -> None:
    before = a_deployment_with({"spec": {CONTAINERS: []}}, {names.RECORD: ""})
    operations = patch_between(before, before["spec"]["template"], "")
    assert operations[2:] == [{"op": "remove", "path": "/metadata/annotations/sidecars.dev~1injected"}]
