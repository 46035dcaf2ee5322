"""`make fuzz MINUTES=10`: mangled input for everything that reads what others wrote.

Right is an error that says where, or a right result; never a traceback. What is not right is made as small as it gets
and written to a file, and `python -m tests.chaos.fuzz FILE` does it again.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sidecarpolicy
from tests.chaos.fuzz.mangling import smallest, smallest_text
from tests.chaos.fuzz.targets import TARGETS, Target

PRODUCT = str(Path(sidecarpolicy.__file__).parent)
TURN = 1.0
"""Seconds for one target before the next one has its turn."""


def main() -> None:
    """Feed for so long; or do again what a file says."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="what to do again")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", choices=TARGETS, action="append", help="feed this target only")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--found", type=Path, default=Path(".make/fuzz"), help="where the files go")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if chosen.files:
        again(chosen.files)
        return
    found = fuzz(chosen.only or list(TARGETS), chosen.minutes * 60, chosen.seed, chosen.found)
    if found:
        sys.exit(f"error: {found} kinds of input make tracebacks or wrong results; see {chosen.found}")


def again(files: Sequence[Path]) -> None:
    """Do what *files* say, and let it raise."""
    for file in files:
        case = json.loads(file.read_text())
        print(f"{file}: {case['target']}", flush=True)
        TARGETS[case["target"]].check(case["input"])
        print("  all right", flush=True)


def fuzz(names: Sequence[str], seconds: float, seed: int, folder: Path) -> int:
    """Feed the targets *names* in turn for so long; return how many kinds of failure there were."""
    end = time.monotonic() + seconds
    counts = dict.fromkeys(names, 0)
    failures: dict[tuple[str, str], Path] = {}
    while time.monotonic() < end:
        for name in names:
            turn = time.monotonic() + TURN
            while time.monotonic() < turn:
                value = TARGETS[name].input(seed)
                counts[name] += 1
                if (failure := failure_of(TARGETS[name], value)) and (name, failure) not in failures:
                    failures[name, failure] = write(folder, name, seed, value, failure)
                seed += 1
    print(f"inputs: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    return len(failures)


def failure_of(target: Target, value: Any) -> str:
    """What is wrong about how *value* is dealt with; empty if nothing. Equal for failures of one kind."""
    try:
        target.check(value)
    except Exception as error:  # noqa: BLE001 - any that gets here is the failure
        if isinstance(error, AssertionError):
            return f"AssertionError: {str(error).partition(':')[0].partition('[')[0]}"
        where = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(PRODUCT)]
        last = where[-1] if where else traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno} {last.name}"
    return ""


def write(folder: Path, name: str, seed: int, value: Any, failure: str) -> Path:
    """Make *value* as small as it gets, write it down and say so."""
    target = TARGETS[name]

    def fails(candidate: Any) -> bool:
        return failure_of(target, candidate) == failure

    if isinstance(value, str):
        small: Any = smallest_text(value, fails)
    elif name == "cli":
        first, second = value
        first = smallest_text(first, lambda text: fails([text, second]))
        small = [first, smallest_text(second, lambda text: fails([first, text]))]
    elif name == "cache":
        kept = smallest(list(value), lambda some: all(len(each) == 2 for each in some) and fails(some))
        small = kept
    else:
        small = smallest(value, fails)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{seed}.json"
    file.write_text(json.dumps({"target": name, "failure": failure, "input": small}, indent=1) + "\n")
    print(f"{name}: {failure}\n  {file}", flush=True)
    return file


if __name__ == "__main__":
    main()
