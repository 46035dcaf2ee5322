"""`pytest --results=FILE`: what was run, where and how it went, as a page to commit with the code that it is about.

What a test measures it tells with `record_property`; that is on the page too.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcluster import binaries

ROOT = Path(__file__).parent.parent
OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called by pytest."""
    parser.addoption("--results", metavar="FILE", type=Path, help="write what was run, where and how it went")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Called by pytest at the end."""
    file = config.getoption("results")
    if file is not None:
        file.write_text("\n".join(page(terminalreporter, " ".join(config.invocation_params.args))) + "\n")


def page(reporter: pytest.TerminalReporter, arguments: str) -> Iterator[str]:
    """The lines of the page."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, float] = defaultdict(float)
    measured: dict[str, str] = {}
    for outcome, reports in reporter.stats.items():
        for each in reports:
            if not isinstance(each, pytest.TestReport):
                continue
            file, _, test = each.nodeid.partition("::")
            seconds[file] += each.duration
            if outcome in OUTCOMES:
                counts[file][outcome] += 1
                measured |= {f"`{test}`: {name}": str(value) for name, value in each.user_properties}
    yield from ("# Results", "", f"`pytest {arguments}`", "")
    yield from (f"- {condition}" for condition in conditions())
    yield from ("", f"| file | {' | '.join(OUTCOMES)} | seconds |", "| --- | ---: | ---: | ---: | ---: | ---: |")
    for file in sorted(counts):
        yield f"| {file} | {' | '.join(str(counts[file][each]) for each in OUTCOMES)} | {seconds[file]:.0f} |"
    total = [str(sum(each[outcome] for each in counts.values())) for outcome in OUTCOMES]
    yield f"| **all** | {' | '.join(total)} | {sum(seconds.values()):.0f} |"
    if measured:
        yield from (
            "",
            "| measured | |",
            "| --- | ---: |",
            *(f"| {what} | {value} |" for what, value in measured.items()),
        )


def conditions() -> Iterator[str]:
    """Where the run took place."""
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--abbrev=12", "--dirty=, with uncommitted changes"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"commit {commit or 'unknown'}, {datetime.now(UTC):%Y-%m-%d}"
    yield f"Kubernetes {binaries.KUBERNETES.version}, Python {platform.python_version()}"
    yield f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, {memory:.0f} GiB of memory"
