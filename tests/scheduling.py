"""Which worker of pytest-xdist runs which tests, and when.

A file's tests stay with one worker, whose control plane and operator they share, and all that take the machine's one
real node stay with one. What takes long is begun first, so that what is short fills the end.

pytest-xdist's own groups (`--dist=loadgroup`) do not work: 3.8 renames the tests of a group by an attribute that
pytest 9.2 does not read any more.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

NODE = "tests/node"
# The second and third write statuses themselves: no operator may have been started before them.
FIRST = (
    NODE,
    "tests/api/test_crds.py",
    "tests/gitops/test_waiting.py",
    "tests/gitops/test_owners_tools.py",
    "tests/gitops/test_sequences.py",
    "tests/api/test_rollouts.py",
    "tests/chaos/test_short.py",
    "tests/api/test_main_job.py",
    "tests/api/test_skips.py",
    "tests/api/test_faults.py",
    "tests/api/test_approvals.py",
    "tests/api/test_admission.py",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out whole files, and everything for the node as if it were one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return NODE if file.startswith(f"{NODE}/") else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=_rank), last=False)
        super()._assign_work_unit(node)


def _rank(scope: str) -> int:
    return FIRST.index(scope) if scope in FIRST else len(FIRST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Called by pytest-xdist."""
    return ByFile(config, log)
