"""Where one workload stands with one policy, at one moment: read from the cluster's objects and the time alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf, isinf

from sidecarpolicy import names
from sidecarpolicy.core.configs import NO_CONFIG, Config, ConfigObject, is_of_config, is_older, older, with_state
from sidecarpolicy.core.field_conflicts import FieldConflict
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds import Facts, kind_of
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.record import NOTHING_NOTED, Entry, Note
from sidecarpolicy.core.skips import NOBODY, Skip
from sidecarpolicy.core.states import State as State
from sidecarpolicy.core.workload import Child, Workload, record_of
from sidecarpolicy.names import Reason

# A template that cannot make Pods (a quota, an admission rule) has failed when that held for this long, in seconds.
REFUSED_SECONDS = 60


class Health(StrEnum):
    """Who is picked first; in this order."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A write of this workload that failed: *until* (seconds since the epoch) nothing is tried.

    *rejected*: the API server would not have it (4xx about this very object); otherwise it passes by itself.
    """

    until: float
    message: str
    rejected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One policy on one workload, at one moment.

    *revision*: what it bears now, None for nothing. *holds_slot*: the policy's rollout on it is in flight or soaking.
    *busy*: the owner's or another policy's rollout is in flight. *evidence*: it completed the update revision with
    running replicas. *looks_again*: when time alone changes its state (seconds since the epoch). *late_since*: when a
    failed one last made progress. *recorded*: the record has an entry for the policy, be it only a *note*.

    *under_way*: the policy's rollout on it is not complete. *failing*: that has failed and nothing has been done about
    it yet. *rolled_back*: it failed in this attempt at the update revision, and has gone back. *suspect*: what is
    late is its owner's first rollout, or a change of theirs on top of ours, or what soaked has lost availability:
    theirs, unless one of our containers is to blame. *late_at*: since when it is late (seconds since the epoch), None
    while it is not. *blamed*: one of our containers is to blame; *theirs*: one of the owner's is.
    *amended*: its owner has changed the template since our step, and that is not over.
    *not_counted*: the failure does not count against maxFailures. *outdated*: it failed at another revision than the
    update's, which says nothing about that one. *group*: the canary group that selects it, if any. *pinned_to*: the
    revision at which its owner wants it, where that is another than the update's. *deselected_by_owner*: its owner took
    it out of the selection, so that it needs nobody's approval to lose what it has. *conflict*: another writer keeps
    undoing what the policy has on it. *backoff*: the last write of it failed, and nothing is tried for a while.

    *taken_out*: what the policy had was taken out, and its Pods without it have completed and soaked.

    *waits_for*: policies that are to be taken out of it before this one can come; nothing is picked meanwhile.

    *config*: what its Pods have read of what the policy's `restartOn` names. *changed*: which of that is another by now
    than what the update revision was rolled out with here; then *revision* is an older state of it (see `configs`).
    *attempt*: under what a failure of just that is noted. *restarts*: its last step was a restart since restarts
    because of changes began; *proves_config*: and it has completed and soaked. *declared*: it never
    restarts so, because somebody applies its record, and would take back what is noted there.
    """

    workload: WorkloadId
    state: State
    skip: Skip | None = None
    revision: str | None = None
    health: Health = Health.HEALTHY
    holds_slot: bool = False
    busy: bool = False
    new: bool = False
    evidence: bool = False
    available: bool = False
    looks_again: float | None = None
    late_since: float | None = None
    reason: str = ""
    message: str = ""
    recorded: bool = False
    note: Note = NOTHING_NOTED
    failing: bool = False
    rolled_back: bool = False
    suspect: bool = False
    late_at: float | None = None
    blamed: bool = False
    amended: bool = False
    theirs: bool = False
    under_way: bool = False
    not_counted: bool = False
    outdated: bool = False
    group: str = ""
    pinned_to: str | None = None
    deselected_by_owner: bool = False
    conflict: FieldConflict | None = None
    backoff: Backoff | None = None
    config: Config = NO_CONFIG
    changed: tuple[ConfigObject, ...] = ()
    attempt: str = ""
    restarts: bool = False
    proves_config: bool = False
    declared: bool = False
    taken_out: bool = False
    waits_for: frozenset[PolicyId] = NOBODY

    @property
    def is_done(self) -> bool:
        """Whether it is updated, and has soaked: that its revision is called complete changes nothing of it."""
        at_rest = self.state is State.UPDATED and self.evidence and self.available
        return at_rest and self.looks_again is None and not self.restarts

    @property
    def goes_back_late(self) -> bool:
        """Whether it failed with a changed configuration, and the rollout that takes it back has failed as well."""
        return self.failing and is_of_config(self.note.failed)

    @property
    def by_config(self) -> bool:
        """Whether the last step here, or the one that was rolled back, was made for a changed configuration alone."""
        return is_older(self.revision if self.rolled_back else self.note.previous)

    @property
    def to_blame(self) -> tuple[ConfigObject, ...]:
        """Of what the content was another than before in the step `by_config`."""
        if self.rolled_back:
            return self.changed
        before = dict(self.note.config.hashes)
        return tuple(each for each, value in self.config.hashes if before.get(each, value) != value)

    @property
    def not_before(self) -> float:
        """Until when nothing is tried, because a write failed (seconds since the epoch); 0 where nothing has."""
        return self.backoff.until if self.backoff else 0.0

    @property
    def is_left_alone(self) -> bool:
        """Whether nothing is attempted yet, because another writer would undo it."""
        return self.conflict is not None and self.conflict.waits

    @property
    def available_before(self) -> bool:
        """Whether it was well before the policy's rollout came to it, or is where that has not come yet."""
        return not self.note.unhealthy_before if self.revision else self.health is not Health.UNHEALTHY

    @property
    def is_its_owners(self) -> bool:
        """Whether a failure is its owner's, since no container of ours is to blame.

        It was unhealthy before us, or its owner has changed it while ours was being rolled out. In the latter case one
        of the owner's containers is to blame: what nobody is to blame for (a Pod that no node can run) may be ours, and
        to leave that there would let a bad revision go on to the next one.
        """
        return (self.note.unhealthy_before and not self.blamed) or (self.amended and self.theirs)

    @property
    def counts(self) -> bool:
        """Whether it counts against maxFailures."""
        if self.goes_back_late and not self.rolled_back:  # its failure was counted before the content was edited
            return False
        return self.state is State.FAILED and not (self.not_counted or self.outdated or self.is_its_owners)


def target(
    policy: PolicyId,
    update: str | None,
    workload: Workload,
    children: Sequence[Child],
    skip: Skip | None,
    *,
    rollout: Rollout,
    now: float,
    attempt: str = "",
    current: str | None = None,
    busy_until: float = 0.0,
    group: str = "",
    deselected_by_owner: bool = False,
    backoff: Backoff | None = None,
    cleared_at: float = 0.0,
    uncrashed_at: float = 0.0,
    changed: tuple[ConfigObject, ...] = (),
    config_state: str = "",
    config_since: float = 0.0,
    declared: bool = False,
) -> Target:
    """Return where *workload* stands with *policy*, whose update revision is *update*, at *now*.

    A *skip* that only waits for other policies to be taken out leaves it selected: it is pending until they are.

    *children*: what its controller made of it. *attempt* is the `<revision>#<attempt>` under which a failure would be
    noted now. *current* is the revision that was rolled out completely last; it has soaked. *busy_until*: when the soak
    of another policy's rollout on it ends. *group* and *deselected_by_owner* are passed on. *backoff*: a write of it
    that failed; one that is over by *now* is as good as none. *cleared_at*: when its Pods were looked at and none of
    our containers was to blame; *uncrashed_at*: and none had crashed, be it not ready. *changed*: what of its
    configuration is another by now, *config_state*: what tells the content of now from any other. *declared* is passed
    on. *config_since*: since when workloads restart because of such changes, 0 while none does.

    Nothing is remembered between two calls: objects and the time decide, so a restart at any moment changes nothing.
    """
    waits_for = skip.waits_for if skip is not None else NOBODY
    why_waiting = skip.message if skip is not None and waits_for else ""
    if waits_for:
        skip = None
    entry = record_of(workload.record).entries.get(policy)
    revision = (entry.revision or None) if entry else None
    note = entry.note if entry else NOTHING_NOTED
    facts = facts_of(policy, workload, children, rollout, now)
    by_config = revision is not None and is_config_step(revision, note, config_since)
    course = _course(
        facts,
        entry,
        rollout,
        current=None if by_config else current,
        now=now,
        cleared_at=cleared_at,
        uncrashed_at=max(cleared_at, uncrashed_at),
    )
    if changed and revision is not None and revision == update:
        revision = older(revision)
    own_attempt = with_state(attempt, config_state) if attempt and config_state else attempt
    rolled_back = bool(attempt) and note.failed in (attempt, own_attempt) and revision != update
    # What comes to a new workload waits for nobody, but for another policy's own rollout there: it would hide that.
    waits = facts.moving and not (facts.new and revision is None and not busy_until)
    moving, failed = course.under_way or course.soaking, course.failing or rolled_back
    # Nothing tells whose a first rollout is that brings what several policies had there (a restored Deployment).
    shared = course.overlaid or (facts.new and busy_until > 0)
    # Where the newest rollout is another's, what the policy has there was rolled out before.
    proven = (facts.arrived or not course.ours) and not (course.unproven or course.released)
    evidence = proven and revision == update and not facts.empty
    found = Target(
        workload=workload.id,
        state=_state(skip, revision, update, moving=moving, failed=failed),
        skip=skip,
        revision=revision,
        health=_health(facts),
        holds_slot=moving and not (course.joined or facts.empty or (facts.paused and not facts.arrived)),
        busy=(course.joined or shared or not course.under_way) and (waits or now < busy_until),
        new=facts.new,
        evidence=evidence,
        available=revision is not None and facts.available,
        looks_again=_next((*course.moments, busy_until, facts.new_until, facts.gives_up), now),
        late_since=(course.last or facts.refused_since) if course.late and not course.released else None,
        reason="ProgressDeadlineExceeded" if course.late else "",
        message=(facts.said_of_availability if facts.arrived else facts.said) if course.late else why_waiting,
        recorded=entry is not None,
        note=note,
        failing=course.failing,
        rolled_back=rolled_back,
        suspect=course.suspect,
        late_at=course.late_at,
        amended=course.under_way and facts.amended,
        under_way=course.under_way,
        not_counted=rolled_back and note.not_counted,
        outdated=course.failing and not rolled_back and revision != update,
        group=group,
        pinned_to=skip.pinned_to if skip else None,
        deselected_by_owner=deselected_by_owner,
        config=entry.config if entry is not None else NO_CONFIG,
        changed=changed if is_older(revision) else (),
        attempt=own_attempt,
        restarts=by_config,
        proves_config=evidence and by_config,
        declared=declared,
        taken_out=entry is None
        and course.ours
        and facts.arrived
        and not (course.soaking or course.late or facts.empty),
        waits_for=waits_for,
    )
    return in_backoff(found, backoff) if backoff is not None and now < backoff.until else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """How far a policy's rollout on one workload has come.

    *ours*: the newest rollout is the policy's, or holds its slot. *joined*: it is part of the owner's own. *overlaid*:
    it is another's, on top of one of ours that has not come up. *last*: when it made progress. *late_at*: since when it
    has made none for too long. *released*: what is late is the owner's, and its Pods do not blame a container of
    ours. *under_way*: not complete. *unproven*: complete, and not for long enough yet to prove anything; *soaking*: so
    does it hold its slot. *failing* or *suspect*: as in a Target. *moments*: when that changes by time alone. Times are
    in seconds since the epoch.
    """

    ours: bool
    joined: bool
    overlaid: bool
    last: float | None
    late_at: float | None
    released: bool
    under_way: bool
    soaking: bool
    unproven: bool
    failing: bool
    suspect: bool
    moments: tuple[float | None, float | None]

    @property
    def late(self) -> bool:
        """Whether it has made no progress for too long."""
        return self.late_at is not None


def _course(
    facts: Facts,
    entry: Entry | None,
    rollout: Rollout,
    *,
    current: str | None,
    now: float,
    cleared_at: float,
    uncrashed_at: float,
) -> _Course:
    # What was taken out is watched as what was put in; where a note is left of it, it was rolled back.
    soaks = entry is None or (bool(entry.revision) and entry.revision != current)
    soaked = facts.soaked_at(rollout.min_ready_seconds, _patience(rollout, facts)) if soaks else 0.0
    # An owner's change on top of ours holds our slot until it is over, or is late and its Pods have been looked at:
    # then it is the owner's, unless one of our containers is to blame. It proves nothing.
    over = facts.was_complete and now >= soaked  # what comes on top now begins after it
    never_up = facts.down_since_step is not None and not facts.arrived
    on_top = soaks and facts.on_top and not (facts.ours or over or never_up)
    ours = (facts.ours or on_top) and not over
    # A loss that shows only after the soak may be one of many (a crash loop), or of a Pod on its way to another node:
    # its Pods tell which. They are looked at once more where it lasts.
    lost, ends = soaks and _is_lost_again(facts, entry, rollout), facts.completed + rollout.min_ready_seconds
    gives_up = facts.availability_changed + _patience(rollout, facts)
    doubtful = lost and (cleared_at < gives_up if now >= gives_up else uncrashed_at < facts.availability_changed)
    if lost:
        soaked = inf if doubtful else ends
    # What came to a new workload is part of the owner's own first rollout: it takes no slot and proves nothing.
    joined = entry is not None and entry.joined
    # That is not over before it has come up, whatever its owner changes meanwhile.
    ours = ours or (joined and never_up and not facts.empty)
    # Whoever changes what has never come up since our step: that proves nothing, and ours gets no further time by it.
    overlaid = never_up and not (ours or facts.empty)
    ours = ours or overlaid
    paused = facts.paused and not facts.arrived  # it waits for its owner: it is not late, and is in nobody's way
    last = None
    if ours and not facts.arrived:
        last = None if paused else facts.down_since_step if overlaid else facts.progressed
    elif ours and lost:
        last = facts.availability_changed
    elif ours and not facts.empty and isinf(soaked):  # it is unavailable again, and a moment's life is no progress
        last = facts.completed
    deadline = _deadline(facts, last, rollout, under_way=ours and not (facts.arrived or paused))
    late = deadline is not None and now >= deadline and not (facts.arrived and joined) and not (lost and not doubtful)
    released = late and on_top and deadline is not None and cleared_at >= deadline
    unproven = ours and facts.arrived and now < soaked and not (facts.empty or released)
    suspect = (late and (joined or on_top)) or (ours and doubtful)
    return _Course(
        ours=ours,
        joined=joined,
        overlaid=overlaid,
        last=last,
        late_at=deadline if late else None,
        released=released,
        under_way=ours and not facts.arrived and not released,
        soaking=unproven and not joined,
        unproven=unproven,
        failing=late and not suspect,
        suspect=suspect,
        moments=(soaked if unproven else None, None if late else deadline),
    )


def _is_lost_again(facts: Facts, entry: Entry | None, rollout: Rollout) -> bool:
    """Whether what has soaked is not available any more.

    Of what was taken out, and where nothing tells exactly when it was complete, only as soon as it may have failed.
    """
    if facts.available or not (facts.arrived and facts.unhealthy) or facts.empty:
        return False
    patience = max(_patience(rollout, facts), rollout.min_ready_seconds) if entry is None or not facts.exact else inf
    ends = facts.completed + rollout.min_ready_seconds
    return ends <= facts.availability_changed < facts.completed + patience


def is_config_step(revision: str, note: Note, since: float) -> bool:
    """Whether a workload at *revision* was restarted because of its configuration, since such restarts began."""
    return since > 0 and note.previous == older(revision) and note.stepped >= int(since)


def soak_ends(
    policy: PolicyId, workload: Workload, children: Sequence[Child], *, rollout: Rollout, now: float
) -> float:
    """When the soak of *policy*'s rollout on *workload* ends, and another's may begin (since the epoch); 0 for none.

    What makes no progress for too long is in nobody's way.
    """
    facts = facts_of(policy, workload, children, rollout, now)
    if not facts.ours and not facts.on_top:
        return 0.0
    patience = _patience(rollout, facts)
    return min(facts.soaked_at(rollout.min_ready_seconds, patience), facts.completed + patience)


def observed(workload: Workload, children: Sequence[Child]) -> Facts:
    """Return what is known of *workload* whoever asks; what only a policy can ask for is not to be read."""
    nobody = PolicyId(kind="", namespace="", name="")
    return kind_of(workload).observe(workload, children, nobody, now=0.0, patience=0, soak=0)


def facts_of(policy: PolicyId, workload: Workload, children: Sequence[Child], rollout: Rollout, now: float) -> Facts:
    """Return the facts about *workload* for *policy*, whose *rollout* says how long things may take."""
    return kind_of(workload).observe(
        workload,
        children,
        policy,
        now=now,
        patience=rollout.progress_deadline_seconds,
        soak=rollout.min_ready_seconds,
    )


def _patience(rollout: Rollout, facts: Facts) -> int:
    """How many seconds a rollout may be without a step forward.

    A Pod that is ready has to wait for the workload's own minReadySeconds until it counts, and nothing moves meanwhile.
    """
    return rollout.progress_deadline_seconds + facts.own_wait


def in_backoff(each: Target, backoff: Backoff) -> Target:
    """Return *each* after a write that failed.

    What the API server would not have is nobody's wish: it has failed, does not count against maxFailures, and is in
    nobody's way. A rollout that is on its way there, or has failed by itself, stays what it is, and so does everything
    where the error passes by itself.
    """
    again = backoff.until if each.looks_again is None else min(each.looks_again, backoff.until)
    each = replace(each, backoff=backoff, looks_again=again, message=each.message or backoff.message)
    if not backoff.rejected or each.holds_slot or each.state not in (State.PENDING, State.UPDATED):
        return each
    return replace(
        each,
        state=State.FAILED,
        reason=names.REFUSED,
        message=backoff.message,
        not_counted=True,
        holds_slot=False,
    )


def _deadline(facts: Facts, last: float | None, rollout: Rollout, *, under_way: bool) -> float | None:
    """When a rollout that made progress *last* has failed (since the epoch); None where nothing is waited for."""
    deadline = last + _patience(rollout, facts) if last is not None else None
    if not under_way or facts.refused_since is None:
        return deadline
    refused = facts.refused_since + REFUSED_SECONDS
    return refused if deadline is None else min(deadline, refused)


def _next(moments: Iterable[float | None], now: float) -> float | None:
    """The next of *moments*; what is over, or waits for something else than time, is none."""
    return min((each for each in moments if each is not None and now < each and not isinf(each)), default=None)


def in_conflict(each: Target, conflict: FieldConflict) -> Target:
    """Return *each* in *conflict* with another writer: failed, not counted, and in nobody's way.

    What was put back and only has to last is failed in place of updated; a rollout that goes on there is what it is.
    """
    if each.skip is not None or (conflict.put_back and each.state is not State.UPDATED):
        again = [seconds for seconds in (each.looks_again, conflict.until) if seconds is not None]
        return replace(each, conflict=conflict, looks_again=min(again, default=None))
    return replace(
        each,
        state=State.FAILED,
        conflict=conflict,
        reason=Reason.FIELD_CONFLICT.value,
        message=conflict.message,
        not_counted=True,
        holds_slot=False,
        taken_out=False,
        evidence=False,
        available=each.available and conflict.put_back,
        under_way=False,
        failing=False,
        suspect=False,
        late_since=None,
        looks_again=conflict.until,
    )


def _state(skip: Skip | None, revision: str | None, update: str | None, *, moving: bool, failed: bool) -> State:
    if skip is not None:
        return State.SKIPPED
    if failed:
        return State.FAILED
    if moving and (revision is not None or update is None):
        return State.PROGRESSING
    return State.UPDATED if revision == update and update is not None else State.PENDING


def _health(facts: Facts) -> Health:
    if facts.empty:
        return Health.EMPTY
    return Health.UNHEALTHY if facts.unhealthy else Health.HEALTHY
