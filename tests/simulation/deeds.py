"""What can happen in a history: sentences, and what each of them does to a play."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.controllers import TICK

if TYPE_CHECKING:
    from tests.simulation.playing import Play


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that happens before a tick; *lasts*: for how many ticks (0: over at once), *number*: which one."""

    tick: int
    what: str
    number: int
    lasts: int = 0

    def __str__(self) -> str:
        minutes, seconds = divmod(int(self.tick * TICK), 60)
        lasting = f" for {self.lasts * TICK:.0f} s" if self.lasts else ""
        return f"{minutes:02}:{seconds:02}  {self.what}{lasting} ({self.number})"

    @property
    def ends(self) -> int:
        """The tick before which it is over."""
        return self.tick + self.lasts


Act = Callable[["Play", Deed], None]


@dataclass
class Acts:
    """Acts by the sentence that tells them; *choices* has each as often as its weight says."""

    by_name: dict[str, Act] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)

    def __call__(self, what: str, *, weight: int = 1) -> Callable[[Act], Act]:
        """Add what is decorated."""

        def add(act: Act) -> Act:
            self.by_name[what] = act
            self.choices += [what] * weight
            return act

        return add
