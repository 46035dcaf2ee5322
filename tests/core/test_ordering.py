"""In which order sidecars of all policies start, and which policy is refused where that is impossible."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.ordering import cycle, order_cycle, precedence, start_order
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.names import Position
from tests.core.objects import a_revision, a_sidecar
from tests.core.strategies import revisions


def names_in_order(*found: Revision) -> list[str]:
    """The names of all sidecars as they start."""
    return [sidecar.name for _, sidecar in start_order(found)]


def test_rank_of_role_comes_first() -> None:
    one = a_revision(a_sidecar("custom"), a_sidecar("monitor", role="Monitor"), name="a")
    two = a_revision(a_sidecar("logger", role="Logger"), a_sidecar("proxy", role="Proxy"), name="b")
    assert names_in_order(one, two) == ["proxy", "logger", "monitor", "custom"]


def test_position_comes_before_rank() -> None:
    found = a_revision(
        a_sidecar("proxy", role="Proxy", position="AfterInit"), a_sidecar("custom", position="BeforeInit")
    )
    assert names_in_order(found) == ["custom", "proxy"]


def test_among_equal_roles_precedence_then_the_order_written() -> None:
    low = a_revision(a_sidecar("l2"), a_sidecar("l1"), name="low", priority=-1, created="2020-01-01T00:00:00Z")
    high = a_revision(a_sidecar("h"), name="high", priority=1, created="2026-01-01T00:00:00Z")
    cluster = a_revision(a_sidecar("c"), name="zz", cluster=True, priority=-100)
    assert names_in_order(low, high, cluster) == ["c", "h", "l2", "l1"]


def test_precedence_is_cluster_then_priority_then_age_then_name() -> None:
    in_order = [
        a_revision(name="z", cluster=True, priority=-9),
        a_revision(name="z", priority=2, created="2026-03-01T00:00:00Z"),
        a_revision(name="y", priority=1, created="2026-01-01T00:00:00Z"),
        a_revision(name="a", priority=1, created="2026-02-01T00:00:00Z"),
        a_revision(name="b", priority=1, created="2026-02-01T00:00:00Z"),
    ]
    assert sorted(in_order[2:] + in_order[:2], key=precedence) == in_order


def test_start_after_moves_no_more_than_it_must() -> None:
    found = a_revision(a_sidecar("a", startAfter=["c"]), a_sidecar("b"), a_sidecar("c"), a_sidecar("d"))
    assert names_in_order(found) == ["b", "c", "a", "d"]


def test_start_after_binds_across_policies_and_over_ranks() -> None:
    web = a_revision(a_sidecar("proxy", role="Proxy", startAfter=["vault"]), name="web")
    vault = a_revision(a_sidecar("vault", role="Custom", position="BeforeInit"), name="vault")
    assert names_in_order(web, vault) == ["vault", "proxy"]


def test_a_name_that_nobody_provides_here_is_void() -> None:
    assert names_in_order(a_revision(a_sidecar("a", startAfter=["nobody"]), a_sidecar("b"))) == ["a", "b"]


def test_a_cycle_still_starts_everything() -> None:
    one = a_revision(a_sidecar("a", startAfter=["b"]), name="one")
    two = a_revision(a_sidecar("b", startAfter=["a"]), a_sidecar("c"), name="two")
    assert sorted(names_in_order(one, two)) == ["a", "b", "c"]


@given(revisions(), st.randoms(use_true_random=False))
def test_the_order_is_that_of_the_rules_for_any_order_of_policies(found: list[Revision], random: Any) -> None:
    ordered = start_order(found)
    assert ordered == start_order(random.sample(found, len(found)))
    assert len(ordered) == sum(len(each.sidecars) for each in found)
    if order_cycle(found) is None:
        place = {sidecar.name: index for index, (_, sidecar) in enumerate(ordered)}
        for _, sidecar in ordered:
            assert all(place[name] < place[sidecar.name] for name in sidecar.start_after if name in place)
        late = [sidecar.position is Position.AFTER_INIT for _, sidecar in ordered]
        assert late == sorted(late)


# Cycles.


def test_a_cycle_is_named_each_after_the_next() -> None:
    assert cycle({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == ("a", "b", "c")
    assert cycle({"a": ["b", "x"], "b": [], "c": ["a", "b"]}) == ()
    assert cycle({"a": ["a"]}) == ("a",)


def test_the_policy_of_lowest_precedence_in_a_cycle_is_refused() -> None:
    high = a_revision(a_sidecar("a", startAfter=["b"]), name="high", priority=5)
    low = a_revision(a_sidecar("b", startAfter=["a"]), name="low")
    lowest = a_revision(a_sidecar("c", startAfter=["a"]), name="lowest", priority=-9)
    found = order_cycle([lowest, high, low])
    assert found is not None
    policy, names = found
    assert policy.name == "low"
    assert set(names) == {"a", "b"}


def test_a_cycle_over_three_policies() -> None:
    found = order_cycle(
        [
            a_revision(a_sidecar("a", startAfter=["b"]), name="one", priority=3),
            a_revision(a_sidecar("b", startAfter=["c"]), name="two", priority=1),
            a_revision(a_sidecar("c", startAfter=["a"]), name="three", priority=2),
        ]
    )
    assert found is not None
    assert (found[0].name, found[1]) == ("two", ("a", "b", "c"))


def test_a_before_init_sidecar_after_an_after_init_one_is_refused() -> None:
    early = a_revision(a_sidecar("proxy", role="Proxy", startAfter=["monitor"]), name="web")
    late = a_revision(a_sidecar("monitor", role="Monitor"), name="metrics", priority=1)
    found = order_cycle([early, late])
    assert found is not None
    assert (found[0].name, found[1]) == ("web", ("proxy", "monitor"))


def test_a_policy_that_only_waits_for_one_in_a_contradiction_is_not_refused() -> None:
    bystander = a_revision(a_sidecar("b1", role="Proxy", startAfter=["b3"]), name="bystander", priority=-9)
    early = a_revision(a_sidecar("b3", role="Proxy", startAfter=["z"]), name="early", priority=-1)
    late = a_revision(a_sidecar("z", role="Monitor"), name="late")
    found = order_cycle([bystander, early, late])
    assert found is not None
    assert (found[0].name, found[1]) == ("early", ("b3", "z"))


def test_no_cycle_where_a_name_is_void_or_positions_agree() -> None:
    assert order_cycle([a_revision(a_sidecar("a", startAfter=["nobody"]))]) is None
    late = a_revision(a_sidecar("a", role="Monitor", startAfter=["p"]), name="late")
    assert order_cycle([late, a_revision(a_sidecar("p", role="Proxy"), name="early")]) is None
    assert order_cycle([]) is None


def test_a_name_provided_twice_counts_as_that_of_the_policy_with_precedence() -> None:
    """The other one is overridden here, so what it says of its own sidecar does not matter."""
    high = a_revision(a_sidecar("proxy", role="Proxy"), name="high", priority=1)
    low = a_revision(a_sidecar("proxy", role="Proxy", startAfter=["monitor"]), a_sidecar("x"), name="low")
    monitor = a_revision(a_sidecar("monitor", role="Monitor"), name="metrics")
    assert order_cycle([high, low, monitor]) is None
    assert order_cycle([low, monitor, high]) is None


@given(revisions(), st.randoms(use_true_random=False))
def test_the_same_policy_is_refused_for_any_order_of_policies(found: list[Revision], random: Any) -> None:
    assert order_cycle(found) == order_cycle(random.sample(found, len(found)))
