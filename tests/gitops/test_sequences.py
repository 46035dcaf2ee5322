"""Whatever owners and authors do, in whatever order: the Deployment is as its owner wrote it, and the policies on it.

A story has a number and is always the same; some are played at the same time. `make test` plays 0 to 24. LONG_SEQUENCES
says how many `make test-long` plays, LONG_SEQUENCES_FROM the first of them; `python -m tests.gitops` plays any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import localcluster
from tests.gitops import stories
from tests.gitops.beside import operator_and_webhook as operator_and_webhook
from tests.gitops.sequences import Places, readable_config_maps
from tests.gitops.stories import failures
from tests.running import Operator

OPERATOR_ARGUMENTS = stories.ARGUMENTS

IN_EVERY_RUN = 25
BATCH = 25
COUNT = int(os.environ.get("LONG_SEQUENCES", "1000"))
FROM = int(os.environ.get("LONG_SEQUENCES_FROM", "25"))


@pytest.fixture(scope="module", autouse=True)
def readable(cluster: localcluster.Cluster) -> Iterator[None]:
    """ConfigMaps, to the operator, from its start."""
    with readable_config_maps(cluster):
        yield


@pytest.fixture(scope="module")
def places(cluster: localcluster.Cluster) -> Iterator[Places]:
    """Where stories are played."""
    with Places(cluster) as found:
        yield found


def test_any_sequence_ends_as_its_owner_and_the_policies_say(places: Places, operator_and_webhook: Operator) -> None:
    failed = failures(range(IN_EVERY_RUN), places, operator_and_webhook)
    assert not failed, "\n\n".join(failed.values())


@pytest.mark.long
@pytest.mark.parametrize("begin", range(FROM, FROM + COUNT, BATCH))
def test_any_of_very_many_sequences_does(begin: int, places: Places, operator_and_webhook: Operator) -> None:
    failed = failures(range(begin, min(begin + BATCH, FROM + COUNT)), places, operator_and_webhook)
    assert not failed, "\n\n".join(failed.values())
