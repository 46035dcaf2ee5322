"""Which state of an object is the newer one, for one resource in one namespace or in all.

An object that is older than what is known is ignored (resourceVersions are ordered within a resource, KEP-5504), so the
answer to a write can be taken in at once, and the late event of it changes nothing. A LIST is the truth all the same:
where it shows that history went backwards (etcd was restored from a backup), no version that was known counts, and
another one is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Name = tuple[str, str]
"""Namespace and name of an object; the namespace is empty for a cluster-scoped one."""

# So many deletions are remembered while no LIST is under way, the latest: for answers that come late.
MOST_DELETED = 4096


@dataclass(slots=True)
class Versions:
    """What is known: the version of each object, and of those deleted since the last LIST.

    *seen*: the highest version, and *seen_before* what that was when the LIST under way began. *listed*: what that has
    brought so far, None where none is under way; *older*: what of it is older than what is known.
    """

    known: dict[Name, int] = field(default_factory=dict)
    deleted: dict[Name, int] = field(default_factory=dict)
    seen: int = 0
    seen_before: int = 0
    listed: set[Name] | None = None
    older: set[Name] = field(default_factory=set)

    @property
    def listing(self) -> bool:
        """Whether a LIST is under way."""
        return self.listed is not None

    def begin(self) -> None:
        """A LIST begins."""
        self.listed, self.older = set(), set()
        self.seen_before = self.seen

    def takes(self, name: Name, version: int, read_at: int = 0) -> bool:
        """Note an object that was read; return whether it is to be taken in.

        *read_at*: the version of the collection at which it was read. What is known as newer than the object, and is
        no newer than that, is of a history that was undone (as in `end`).
        """
        known = self._highest(name)
        if self.listed is not None:
            self.listed.add(name)
            if known > version:
                self.older.add(name)
            else:
                self.older.discard(name)
        if not (known < version or self.is_undone(name, version, read_at)):
            return False
        self.known[name] = version
        self.deleted.pop(name, None)
        self.seen = max(self.seen, version)
        return True

    def is_undone(self, name: Name, version: int, read_at: int) -> bool:
        """Whether what is known of an object is of a history that was undone, as one that was read so shows."""
        return version < self._highest(name) <= read_at

    def end(self, version: int) -> Sequence[Name] | None:
        """The LIST is complete at *version* (0: the kind is not served, there are none); return what is gone.

        That is what it did not have, unless it is newer than the LIST. None where the LIST does not stand: it shows
        that history went backwards, because it is older than what was seen before it began, or has an older version of
        an object than the one known, which is no newer than the LIST. Then the versions that are known tell nothing,
        and the next LIST is taken as it is.
        """
        listed, older = self.listed or set(), self.older
        self.listed, self.older = None, set()
        rewound = version < self.seen_before or any(self._highest(each) <= version for each in older)
        if version and rewound:
            self.known = dict.fromkeys(self.known, 0)
            self.deleted.clear()
            self.seen = version
            return None
        self.seen = max(self.seen, version) if version else 0
        self.deleted = {name: when for name, when in self.deleted.items() if when > version}
        known = self.known.items()
        return [name for name, stored in known if name not in listed and (stored <= version or not version)]

    def drops(self, name: Name, version: int) -> bool:
        """Note an object that was deleted at *version*; return whether it was the one that is known."""
        if self.known.get(name, 0) > version:
            return False
        self.known.pop(name, None)
        self.seen = max(self.seen, version)
        self.deleted.pop(name, None)
        self.deleted[name] = version  # so that a LIST from before the deletion does not bring it back
        if not self.listing and len(self.deleted) > MOST_DELETED:
            del self.deleted[next(iter(self.deleted))]
        return True

    def forget(self, name: Name) -> None:
        """Know nothing of an object any more."""
        self.known.pop(name, None)

    def _highest(self, name: Name) -> int:
        """The highest version of an object that is known, be it that of its deletion; 0 for none."""
        return max(self.known.get(name, 0), self.deleted.get(name, 0))
