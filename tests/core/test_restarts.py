"""A restart: a revision of its own that injects the same, told on the Pod template and taken off with the policy."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.injection import compose, eject, inject
from sidecarpolicy.core.patch import json_patch
from sidecarpolicy.core.record import INIT_CONTAINERS, Entry, ItemKey, Record
from sidecarpolicy.core.rendering import canonical_request, canonical_revision, offline
from sidecarpolicy.core.restarts import has_restart, next_restart
from sidecarpolicy.core.revision import (
    Revision,
    StoredRevision,
    from_controller_revision,
    revision_name,
    to_controller_revision,
    words_of,
)
from sidecarpolicy.core.skips import invalid_marks
from sidecarpolicy.core.times import seconds_of
from sidecarpolicy.core.tree import Json, at
from tests.builders import a_cluster_policy, a_policy
from tests.core.objects import WEB
from tests.core.strategies import Edit, edits, revisions, templates

FIRST, SECOND = "2026-11-29T15:04:05Z", "2026-11-30T08:00:00Z"
NOTHING = Record()


def at_time(time: str | None, *, cluster: bool = False) -> Json:
    """The policy, restarted at *time*."""
    policy = a_cluster_policy() if cluster else a_policy()
    if time is not None:
        policy["metadata"]["annotations"] = {names.RESTARTED_AT: time}
    return policy


def a_revision_at(time: str | None, *, cluster: bool = False) -> Revision:
    return offline(decode_policy(at_time(time, cluster=cluster)))


def a_template(*, annotations: Json | None = None) -> Json:
    metadata: Json = {"labels": {"tier": "web"}} | ({"annotations": annotations} if annotations else {})
    return {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "example.test/app:1"}]}}


def told(template: Json) -> str | None:
    """What the Pod template says of restarts."""
    text: str | None = at(template, "metadata", "annotations").get(names.RESTARTED_AT)
    return text


# The revision


def test_a_restart_is_a_revision_of_its_own_that_injects_the_same() -> None:
    plain, first, second = (a_revision_at(time) for time in (None, FIRST, SECOND))
    assert len({plain.name, first.name, second.name}) == 3
    assert replace(first, name=plain.name, restarted="") == plain
    assert (first.restarted, second.restarted) == (FIRST, SECOND)


def test_a_policy_that_was_never_restarted_has_the_hash_that_it_always_had() -> None:
    plain, other = decode_policy(at_time(None)), at_time(None)
    other["metadata"]["annotations"] = {names.APPROVE: "removal@1"}
    assert "restartedAt" not in plain.words
    assert revision_name(WEB, decode_policy(other).words) == revision_name(WEB, plain.words)


@pytest.mark.parametrize(
    "text", ["", "yes", "2026-11-29", "2026-11-29T15:04:05", "2026-11-29T15:04:05+01:00", "a,b@c", "9" * 40]
)
def test_what_is_no_time_restarts_nothing(text: str) -> None:
    assert a_revision_at(text).name == a_revision_at(None).name


def test_what_the_api_server_stores_of_it_brings_it_back() -> None:
    policy = decode_policy(at_time(FIRST))
    answer = {"template": {"spec": at(canonical_request(policy, "shop"), "template", "spec")}}
    revision = canonical_revision(policy, answer)
    stored = StoredRevision(revision=revision, object_name=f"sidepol-{revision.name}", number=2, since="")
    body = json.loads(json.dumps(to_controller_revision(stored, policy=policy, namespace="shop")))
    assert from_controller_revision(body).revision == revision
    assert words_of(body) == policy.words
    body["data"]["restartedAt"] = "web,cluster/mesh@x"
    with pytest.raises(ValueError, match=r"data\.restartedAt: must be a time"):
        from_controller_revision(body)


def test_a_revision_without_a_restart_is_stored_as_it_always_was() -> None:
    policy = decode_policy(at_time(None))
    stored = StoredRevision(revision=offline(policy), object_name="x", number=1, since="")
    assert "restartedAt" not in to_controller_revision(stored, policy=policy, namespace="shop")["data"]


@pytest.mark.parametrize(
    ("now", "last", "found"),
    [
        (FIRST, "", FIRST),
        (SECOND, FIRST, SECOND),
        (FIRST, FIRST, "2026-11-29T15:04:06Z"),
        (FIRST, SECOND, "2026-11-30T08:00:01Z"),
    ],
)
def test_a_restart_is_later_than_the_one_before_by_any_clock(now: str, last: str, found: str) -> None:
    assert next_restart(seconds_of(now) + 0.5, last) == found


# The Pod template


def test_only_an_annotation_of_the_pod_template_changes() -> None:
    x = a_template()
    plain, record = inject(x, [a_revision_at(None)], NOTHING)
    after, record_after = inject(plain, [a_revision_at(FIRST)], record)
    assert after == {**plain, "metadata": {**x["metadata"], "annotations": {names.RESTARTED_AT: f"web@{FIRST}"}}}
    again, record_again = inject(after, [a_revision_at(SECOND)], record_after)
    assert told(again) == f"web@{SECOND}"
    assert eject(again, record_again) == x


def test_going_back_takes_the_restart_away() -> None:
    plain, record = inject(a_template(), [a_revision_at(None)], NOTHING)
    there, record_there = inject(plain, [a_revision_at(FIRST)], record)
    assert inject(there, [a_revision_at(None)], record_there) == (plain, record)


def test_two_policies_restart_one_after_the_other() -> None:
    web, mesh = a_revision_at(FIRST), a_revision_at(SECOND, cluster=True)
    mesh = replace(mesh, sidecars=(replace(mesh.sidecars[0], name="mesh", container={"name": "mesh"}),))
    one, record = inject(a_template(), [web], NOTHING)
    both, record_of_both = inject(one, [web, mesh], record)
    assert told(both) == f"web@{FIRST},cluster/web@{SECOND}"
    assert told(inject(both, [mesh], record_of_both)[0]) == f"cluster/web@{SECOND}"
    assert eject(both, record_of_both) == a_template()


def test_what_somebody_took_away_is_not_put_back() -> None:
    revision = a_revision_at(FIRST)
    injected, record = inject(a_template(), [revision], NOTHING)
    taken = {**injected, "metadata": {"labels": {"tier": "web"}}}
    assert inject(taken, [revision], record) == (taken, record)
    assert eject(taken, record) == a_template()


def test_a_lost_record_is_rebuilt_only_where_the_restart_shows() -> None:
    injected, _ = inject(a_template(), [a_revision_at(FIRST)], NOTHING)
    assert has_restart(injected, a_revision_at(FIRST))
    assert not has_restart(injected, a_revision_at(SECOND))
    assert not has_restart(injected, a_revision_at(None))
    assert has_restart(a_template(), a_revision_at(None))


def test_the_pod_template_of_a_restart_has_no_mark_that_is_not_known() -> None:
    assert not invalid_marks({}, {}, {}, {names.RESTARTED_AT: f"web@{FIRST}"})
    assert invalid_marks({}, {}, {names.RESTARTED_AT: "x"}, {})


# Laws, over revisions that were restarted at various times, and owners who annotate their Pods

OWN = st.dictionaries(st.sampled_from(["team", "a/b", names.RESTARTED_AT]), st.sampled_from(["x", "y, z@1"]))


@st.composite
def restarted(draw: st.DrawFn) -> list[Revision]:
    """Revisions, some of which restart."""
    found = draw(revisions())
    times = [draw(st.sampled_from(["", FIRST, SECOND])) for _ in found]
    return [
        replace(each, restarted=time, name=f"{each.name}{time[8:10]}") for each, time in zip(found, times, strict=True)
    ]


@st.composite
def annotated(draw: st.DrawFn) -> Json:
    """A Pod template with annotations of its owner's own."""
    template, own = draw(templates()), draw(OWN)
    return {**template, "metadata": {**template["metadata"], **({"annotations": own} if own else {})}}


@given(annotated(), restarted())
def test_injecting_twice_is_injecting_once(x: Json, policies: list[Revision]) -> None:
    once, record = inject(x, policies, NOTHING)
    assert inject(once, policies, record) == (once, record)
    assert all(has_restart(once, each) for each in policies)


@given(annotated(), restarted(), edits())
def test_ejecting_leaves_what_the_owner_changed_meanwhile(x: Json, policies: list[Revision], e: Edit) -> None:
    injected, record = inject(x, policies, NOTHING)
    adopted = {ItemKey(INIT_CONTAINERS, name) for entry in record.entries.values() for name in entry.adopted}
    ours = record.items | adopted
    assert eject(injected, record) == x
    assert eject(e(injected, ours), record)["spec"] == e(x, ours)["spec"]


@given(annotated(), restarted())
def test_policies_in_another_order_give_identical_output(x: Json, policies: list[Revision]) -> None:
    assert json.dumps(inject(x, policies, NOTHING)[0]) == json.dumps(inject(x, policies[::-1], NOTHING)[0])


@given(annotated(), restarted())
def test_orphaning_leaves_the_template_untouched(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    orphaned = compose(injected, record, {}, orphaned=frozenset(record.entries))
    assert orphaned.template == injected
    assert eject(orphaned.template, orphaned.record) == injected


@given(annotated(), restarted())
def test_a_policy_that_leaves_takes_only_its_own_restart(x: Json, policies: list[Revision]) -> None:
    injected, record = inject(x, policies, NOTHING)
    first, *others = policies
    without, _ = inject(injected, others, record)
    assert _entries(without) == _entries(injected) - {_entry(first.policy, first.restarted)}


@given(annotated(), restarted(), restarted())
def test_the_patch_makes_the_annotations_what_they_are_to_be(
    x: Json, before: list[Revision], after: list[Revision]
) -> None:
    old, record = inject(x, before, NOTHING)
    new, _ = inject(old, after, record)
    body = {"metadata": {"uid": "1", "generation": 1, "annotations": {"a": "b"}}, "spec": {"template": old}}
    operations = json_patch(uid="1", generation=1, before=old, after=new, annotated=True, record=None, new_record="")
    patched = jsonpatch.apply_patch(body, operations)
    assert patched["spec"]["template"] == new
    assert bool(operations) == (old != new)


def test_a_pod_template_without_any_metadata_gets_some() -> None:
    bare = {"spec": a_template()["spec"]}
    new, _ = inject(bare, [a_revision_at(FIRST)], NOTHING)
    operations = json_patch(uid="1", generation=1, before=bare, after=new, annotated=True, record=None, new_record="")
    body = {"metadata": {"uid": "1", "generation": 1}, "spec": {"template": bare}}
    assert jsonpatch.apply_patch(body, operations)["spec"]["template"] == new


def test_a_policy_of_which_only_a_note_is_left_gets_its_restart() -> None:
    revision = a_revision_at(FIRST)
    noted = Record(entries={WEB: Entry(revision="")})
    assert told(inject(a_template(), [revision], noted)[0]) == f"web@{FIRST}"


def _entries(template: Json) -> set[str]:
    return {each.strip() for each in (told(template) or "").split(",")} - {""}


def _entry(policy: PolicyId, time: str) -> str:
    return f"{'cluster/' if policy.cluster_wide else ''}{policy.name}@{time}"
