"""Owners with their real tools and ours, side by side: every row of the table in docs/gitops.md.

Those that are asked for are played first, some at the same time, beside one operator and one webhook; then each test
looks at one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack

import pytest

import localcluster
from tests.core import golden
from tests.gitops import page
from tests.gitops.beside import operator_and_webhook as operator_and_webhook
from tests.gitops.coexistence import CELLS, Cell, Verdict
from tests.gitops.owning import Seen, Watch, play
from tests.gitops.programs import SERVED, Server, program
from tests.gitops.tools import PROGRAMS
from tests.running import Operator

AT_ONCE = 8

IN_THE_WRITE = (Verdict.PUT_BACK_IN_WRITE, Verdict.ORDERED_IN_WRITE, Verdict.UPDATED_IN_WRITE)

Played = Mapping[Cell, "Future[Seen]"]


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, cluster: localcluster.Cluster, operator_and_webhook: Operator
) -> Iterator[Played]:
    """The cells that are asked for, being played."""
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    wanted: set[Cell] = {
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_what_becomes_of_the_sidecars
    }
    needed = sorted({PROGRAMS[cell.row.tool] for cell in wanted if cell.row.tool in PROGRAMS})
    for name in needed:
        program(name)  # to be built before anybody waits for something else
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Server(name, cluster.kubeconfig)) for name in needed if name in SERVED}
        watch = stack.enter_context(Watch(cluster))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        ordered = sorted(filter(wanted.__contains__, CELLS), key=lambda cell: not cell.row.first)
        found = {cell: pool.submit(play, cell, cluster, servers, watch) for cell in ordered}
        wait(found.values())  # pytest changes the environment between tests, which others may not read meanwhile
    yield found


def _marks(cell: Cell) -> tuple[pytest.MarkDecorator, ...]:
    return () if cell.row.always else (pytest.mark.long,)


@pytest.mark.parametrize("cell", [pytest.param(each, id=str(each), marks=_marks(each)) for each in CELLS])
def test_what_becomes_of_the_sidecars(cell: Cell, played: Played) -> None:
    seen = played[cell].result()
    verdict, rollouts = cell.row.expected(admission=cell.admission)
    if verdict in IN_THE_WRITE:
        verdict = Verdict.UNTOUCHED  # nobody has seen it otherwise
    assert (seen.verdict, seen.rollouts, seen.differences) == (verdict, rollouts, "")


def test_the_page_has_the_table() -> None:
    golden.check(page.OWNERS, page.owners())
