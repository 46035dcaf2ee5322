"""Play histories outside of pytest: `python -m tests.simulation FIRST [COUNT]`; what fails is told as a story.

Every hundred histories say how far it is, so that a run can be stopped at any time.
"""

from __future__ import annotations

import argparse
import logging
import time

from tests.simulation.histories import busy, history, report


def main() -> int:
    """Return how many failed, as an exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many seeds")
    parser.add_argument("--untroubled", action="store_true", help="people alone: nothing goes wrong")
    parser.add_argument("--busy", action="store_true", help="people do much more")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed, began = [], time.process_time()
    played = busy if chosen.busy else history
    for number in range(chosen.count):
        seed = chosen.first + number
        if told := report(played(seed, troubled=not chosen.untroubled)):
            failed.append(seed)
            print(told, flush=True)
        if number % 100 == 99 or number == chosen.count - 1:
            spent = time.process_time() - began
            print(
                f"{number + 1} histories from {chosen.first}, {spent:.0f} s of CPU, failed: {failed or 'none'}",
                flush=True,
            )
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
