"""Whatever owners and authors do, in whatever order: the Deployment is as its owner wrote it, and the policies on it.

Five stories are played at the same time. LONG_SEQUENCES: how many `make test-long` plays, from seeds that begin at
LONG_SEQUENCES_FROM.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
BATCH = 25
COUNT = int(os.environ.get("LONG_SEQUENCES", "1000"))
FROM = int(os.environ.get("LONG_SEQUENCES_FROM", "0"))

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
deeds: st.SearchStrategy[Deed] = st.one_of(
    writes, writes, writes, edits, edits, marks, st.builds(Deletes, POLICIES), st.just(Undoes()), st.just(Settles())
)
stories = st.builds(
    Story,
    st.booleans(),
    st.tuples(
        edits, st.lists(deeds, max_size=10), st.sampled_from([(), (), (), (Restarts(),)]), st.lists(deeds, max_size=3)
    ).map(lambda parts: (parts[0], *parts[1], *parts[2], *parts[3])),
)
batches = st.lists(stories, min_size=AT_ONCE, max_size=AT_ONCE)

OPTIONS: dict[str, Any] = {
    "max_examples": BATCH // AT_ONCE + 1,  # the first is the simplest of all
    "deadline": None,
    "database": None,
    "report_multiple_bugs": False,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.generate, Phase.shrink),
}


def play_at_once(batch: list[Story], cluster: localcluster.Cluster, operator: Operator) -> None:
    """Play all of them; raise what the first that fails says."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for each in [pool.submit(play, story, cluster, operator) for story in batch]:
            each.result()


@settings(**OPTIONS, derandomize=True)
@given(batch=batches)
def test_any_sequence_ends_as_its_owner_and_the_policies_say(
    batch: list[Story], cluster: localcluster.Cluster, operator_and_webhook: Operator
) -> None:
    play_at_once(batch, cluster, operator_and_webhook)


@pytest.mark.long
@pytest.mark.parametrize("number", range(FROM, FROM + COUNT // BATCH))
def test_any_of_very_many_sequences_does(
    number: int, cluster: localcluster.Cluster, operator_and_webhook: Operator
) -> None:
    @seed(number)
    @settings(**OPTIONS)
    @given(batch=batches)
    def some(batch: list[Story]) -> None:
        play_at_once(batch, cluster, operator_and_webhook)

    some()
