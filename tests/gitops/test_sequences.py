"""Whatever owners and authors do, in whatever order: the Deployment is as its owner wrote it, and the policies on it.

A story has a number and is always the same; five are played at the same time. `make test` plays 0 to 9. LONG_SEQUENCES
says how many `make test-long` plays, LONG_SEQUENCES_FROM the first of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import localcluster
from sidecarpolicy import names
from tests.gitops.beside import operator_and_webhook as operator_and_webhook
from tests.gitops.sequences import (
    Annotates,
    Deed,
    Deletes,
    Edits,
    How,
    OptsOut,
    Restarts,
    Settles,
    Story,
    Undoes,
    Writes,
    play,
)
from tests.gitops.tools import App
from tests.running import Operator

OPERATOR_ARGUMENTS = ("--revert-threshold=1000",)
"""Owners here take sidecars away as often as they like, and nobody waits ten minutes for them."""

AT_ONCE = 5
IN_EVERY_RUN = 10
BATCH = 25
COUNT = int(os.environ.get("LONG_SEQUENCES", "1000"))
FROM = int(os.environ.get("LONG_SEQUENCES_FROM", "10"))

SIDECARS = st.sampled_from(["proxy", "logger"])
POLICIES = st.sampled_from(["web", "log"])
IMAGES = st.sampled_from(["1", "2", "3"])
REQUESTS = st.sampled_from(
    [None, '{"resources": {"requests": {"cpu": "2m"}}}', '{"resources": {"requests": {"cpu": "3m"}}}']
)

apps = st.builds(
    App,
    image=IMAGES,
    inits=st.sampled_from([(), ("migrate",), ("migrate", "seed"), ("seed", "migrate")]),
    env=st.sampled_from([(), ("LEVEL",), ("LEVEL", "MODE")]),
    volume=st.booleans(),
    container=st.sampled_from(["app", "app", "app", "main"]),
)
writes = st.builds(Writes, st.sampled_from(How), apps)
edits = st.builds(Edits, POLICIES, image=IMAGES, init=st.booleans(), extras=st.booleans())
marks = st.one_of(
    st.builds(OptsOut, st.sampled_from(["false", "true", None])),
    st.builds(Annotates, st.just(names.SKIP), st.sampled_from([None, "proxy", "logger", "proxy,logger"])),
    st.builds(Annotates, SIDECARS.map(f"{names.GROUP}/override.{{}}".format), REQUESTS),
)
kinds: list[st.SearchStrategy[Deed]] = [
    writes,
    edits,
    marks,
    st.builds(Deletes, POLICIES),
    st.just(Undoes()),
    st.just(Settles()),
]
often = [*kinds, writes, writes, edits]
deeds = st.integers(0, len(often) - 1).flatmap(often.__getitem__)  # `one_of` takes equal ones together
stories = st.builds(
    Story,
    st.booleans(),
    st.tuples(
        edits, st.lists(deeds, max_size=10), st.sampled_from([(), (), (), (Restarts(),)]), st.lists(deeds, max_size=3)
    ).map(lambda parts: (parts[0], *parts[1], *parts[2], *parts[3])),
)


def drawn(number: int) -> Story:
    """Draw a story: the same one for the same *number*."""
    found: list[Story] = []

    @seed(number)
    @settings(max_examples=2, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(drawn=st.tuples(st.integers(0, 2**32), stories))
    def draw(drawn: tuple[int, Story]) -> None:
        found.append(drawn[1])

    draw()
    return found[-1]  # the first is the simplest of all; that the second is another one is seen to by the integer


def play_all(numbers: Iterable[int], cluster: localcluster.Cluster, operator: Operator) -> None:
    """Play stories, some at the same time; fail with every one that went wrong, and with what was wrong there."""
    stories = {number: drawn(number) for number in numbers}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        played = {number: pool.submit(play, story, cluster, operator) for number, story in stories.items()}
    errors = {number: future.exception() for number, future in played.items()}
    failed = [f"story {number}: {stories[number]}\n{error}" for number, error in errors.items() if error is not None]
    assert not failed, "\n\n".join(failed)


def test_any_sequence_ends_as_its_owner_and_the_policies_say(
    cluster: localcluster.Cluster, operator_and_webhook: Operator
) -> None:
    play_all(range(IN_EVERY_RUN), cluster, operator_and_webhook)


@pytest.mark.long
@pytest.mark.parametrize("begin", range(FROM, FROM + COUNT, BATCH))
def test_any_of_very_many_sequences_does(
    begin: int, cluster: localcluster.Cluster, operator_and_webhook: Operator
) -> None:
    play_all(range(begin, min(begin + BATCH, FROM + COUNT)), cluster, operator_and_webhook)
