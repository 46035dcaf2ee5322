"""Histories by seed: what people and owners do, and what goes wrong, told as a story that a person can read.

At the end of each there is peace: nothing goes wrong any more, owners mend what is broken, the author goes on with what
was halted and approves what is asked for. Then everything must be as the specs say, in bounded virtual time.

What people do is in `people`, what goes wrong in `troubles`, how it is played and judged in `playing`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.names import OnFailure, Removal, Strategy
from tests.simulation.deeds import Deed
from tests.simulation.fleets import CANARY, EARLY
from tests.simulation.loop import HotLoop
from tests.simulation.people import anybody, author, beside_us, owner, rivals
from tests.simulation.playing import Play
from tests.simulation.troubles import trouble

PEOPLE = (*author.choices, *anybody.choices, *owner.choices)
BAD = ("a node is lost", "an owner ships a bad image")
KINDS = (*("",) * 8, "no deadline", "waits long", "no history", "recreates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Deployment at the beginning."""

    name: str
    namespace: str = "shop"
    kind: str = ""
    new: bool = False
    revision: str | None = None
    healthy: bool = True
    replicas: int = 2
    ticks: int = 2
    breaks: frozenset[str] = frozenset()
    crashes: frozenset[str] = frozenset()
    tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that a run depends on. *beside*: there is another policy; *limit*: of the revision history.

    *rival*: that one has a sidecar of the same name; with precedence (`above`), or without it (`below`).
    """

    seed: int
    rollout: Rollout
    current: str | None
    fleet: tuple[Shape, ...]
    deeds: tuple[Deed, ...]
    cluster_wide: bool = False
    beside: bool = False
    rival: str = ""
    replicas: int = 1
    limit: int = 10

    def __str__(self) -> str:
        fleet = "\n".join(f"    {_without_defaults(each)}" for each in self.fleet)
        deeds = "\n".join(f"    {each}" for each in self.deeds)
        began = f"{self.current} everywhere, web-b was just written" if self.current else "web-a is new"
        kind = "a cluster policy" if self.cluster_wide else "a policy"
        more = f"{kind}, {self.replicas} replica(s), history of {self.limit}"
        more += ", another policy beside it" if self.beside else ""
        more += f", with a sidecar of the same name and {self.rival} it" if self.rival else ""
        return f"seed {self.seed}: {began}; {more}\n  {self.rollout}\n{fleet}\n  what happens:\n{deeds}"


def _without_defaults(shape: Shape) -> str:
    told = [f"{key}={getattr(shape, key)!r}" for key in Shape.__slots__ if key != "name"]
    usual = [f"{key}={getattr(Shape(name=''), key)!r}" for key in Shape.__slots__ if key != "name"]
    return " ".join([shape.name, *(each for each in told if each not in usual)])


def history(seed: int, *, troubled: bool = True) -> History:
    """The history of that seed; without trouble the same people do the same."""
    random = Random(seed)
    current = random.choice([None, "web-a", "web-a", "web-a"])
    update = "web-b" if current else "web-a"
    cluster_wide, beside = random.random() < 0.2, random.random() < 0.15
    fleet = tuple(
        _shape(random, number, current, update, cluster_wide) for number in range(1, random.randint(2, 8) + 1)
    )
    rollout = Rollout(
        strategy=random.choice([Strategy.PROGRESSIVE] * 5 + [Strategy.ALL_AT_ONCE]),
        max_concurrent=random.choice([0.1, 0.5, 1, 2, 3]),
        min_ready_seconds=random.choice([0, 10, 30]),
        progress_deadline_seconds=random.choice([60, 120, 300]),
        max_failures=random.choice([0, 0, 1, 2]),
        on_failure=random.choice(list(OnFailure)),
        canary=random.choice([(), (), (), (CANARY,), (CANARY, EARLY)]),
        removal=random.choice([Removal.AUTOMATIC, Removal.AUTOMATIC, Removal.MANUAL]),
    )
    people = [
        Deed(tick=random.randint(1, 30), what=random.choice(PEOPLE), number=random.randint(0, 9))
        for _ in range(random.randint(0, 6))
    ]
    troubles = [
        Deed(
            tick=random.randint(1, 30),
            what=random.choice(trouble.choices),
            number=random.randint(0, 9),
            lasts=random.choice([1, 2, 3, 6, 9]),
        )
        for _ in range(random.randint(1, 4))
    ]
    rival, second = "", Random(seed + 2)
    if beside and (rival := second.choice(["", "below", "above"])):
        people += [
            Deed(tick=second.randint(6, 40), what=second.choice(rivals.choices), number=second.randint(0, 9))
            for _ in range(second.randint(1, 4))
        ]
    deeds = sorted([*people, *(troubles if troubled else [])], key=lambda each: each.tick)
    return History(
        seed=seed,
        rollout=rollout,
        current=current,
        fleet=fleet,
        deeds=tuple(deeds),
        cluster_wide=cluster_wide,
        beside=beside,
        rival=rival,
        replicas=random.choice([1, 1, 1, 2]),
        limit=random.choice([10, 10, 10, 1, 0]),
    )


def busy(seed: int, *, troubled: bool = True) -> History:
    """The history of that seed in which people do much more."""
    found, random = history(seed, troubled=troubled), Random(seed + 9)
    more = [
        Deed(tick=random.randint(1, 45), what=random.choice(PEOPLE), number=random.randint(0, 9))
        for _ in range(random.randint(6, 16))
    ]
    return replace(found, deeds=tuple(sorted([*found.deeds, *more], key=lambda each: each.tick)))


def healthy(seed: int) -> History:
    """A history in which nothing is wrong with any revision; people do the same, and nodes are drained.

    No node is lost for good, and no owner ships a bad image in one rollout with a step: it cannot be told from it.
    """
    found, random = history(seed, troubled=False), Random(seed + 3)
    fleet = tuple(replace(each, breaks=frozenset(), crashes=frozenset()) for each in found.fleet)
    beside = [
        Deed(tick=random.randint(2, 40), what=random.choice(beside_us.choices), number=random.randint(0, 9))
        for _ in range(random.randint(1, 6))
    ]
    kept = [each for each in found.deeds if each.what not in BAD]
    deeds = sorted([*kept, *beside], key=lambda each: each.tick)
    return replace(found, fleet=fleet, deeds=tuple(deeds))


def _shape(random: Random, number: int, current: str | None, update: str, cluster_wide: bool) -> Shape:
    new = random.random() < 0.15
    return Shape(
        name=f"app-{number}",
        namespace=random.choice(["shop", "bank"]) if cluster_wide else "shop",
        kind=random.choice(KINDS),
        new=new,
        revision=None if new else current,
        healthy=new or random.random() < 0.9,
        replicas=random.choice([2, 2, 2, 2, 0]),
        ticks=random.randint(1, 4),
        breaks=frozenset({update}) if random.random() < 0.2 else frozenset(),
        crashes=frozenset({update}) if random.random() < 0.08 else frozenset(),
        tier=random.choice(["", "", "", "canary"]),
    )


# Failing, and shrinking


def outcome(found: History) -> tuple[str, str]:
    """What does not hold in a history (empty: all does), and how it went."""
    play = Play(found)
    try:
        play.run()
    except (AssertionError, HotLoop) as error:
        return str(error) or repr(error), play.world.transcript()
    finally:
        play.world.cluster.end()
    return "", play.world.transcript()


def kind_of(failure: str) -> str:
    """What failures have in common that only differ in names and times."""
    words = [each for each in failure.splitlines()[0].split() if not any(letter.isdigit() for letter in each)]
    return " ".join(words)[:60]


def shrunk(found: History, failure: str, most: int = 60) -> History:
    """The same failure with fewer deeds and Deployments."""
    tries = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(found):
            tries += 1
            if tries > most:
                return found
            if kind_of(outcome(candidate)[0] or "-") == kind_of(failure):
                found, smaller = candidate, True
                break
    return found


def _smaller(found: History) -> Iterable[History]:
    for plainer in ({"beside": False, "rival": ""}, {"rival": ""}, {"replicas": 1}, {"limit": 10}):
        candidate = replace(found, **plainer)
        if candidate != found:
            yield candidate
    for index in range(len(found.deeds)):
        yield replace(found, deeds=found.deeds[:index] + found.deeds[index + 1 :])
    for index in range(len(found.fleet)):
        if len(found.fleet) > 1:
            yield replace(found, fleet=found.fleet[:index] + found.fleet[index + 1 :])
    for index, shape in enumerate(found.fleet):
        plain = Shape(name=shape.name, namespace=shape.namespace, revision=shape.revision)
        if shape != plain:
            yield replace(found, fleet=(*found.fleet[:index], plain, *found.fleet[index + 1 :]))


def report(found: History) -> str:
    """Why a history fails, as a story; empty where it does not."""
    failure, _ = outcome(found)
    if not failure:
        return ""
    least = shrunk(found, failure)
    why, transcript = outcome(least)
    again = f"PYTHONHASHSEED={os.environ.get('PYTHONHASHSEED', 'random')}"
    return f"{why or failure}\n\n{least}\n\n{transcript}\n(seed {found.seed}, {again})"
