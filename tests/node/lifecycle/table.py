"""The scenarios that a Pod alone can show: numbers as in the study (kubernetes/kubernetes, container_lifecycle_test).

Their times are as short as the order allows. `i` is an ordinary init container, `s` a native sidecar, `m` the main one.
"""

from __future__ import annotations

from itertools import chain

from tests.node.lifecycle.scenarios import MISSING, Delete, PatchImage, Scenario, check, i, m, pre_stop, s
from tests.node.lifecycle.stage import OTHER_IMAGE

SLOW = "wait 20s; exit 0"
"""Longer than any grace period that is to run out."""
STUBBORN = "wait 120s; exit 0"
NEVER = check("need /nowhere", failures=2)
CRASHING = "wait 2s; exit {code}"

STARTING = (
    Scenario(
        number="1",
        promise="init containers and sidecars start in the order written, and sidecars stop in reverse",
        parts=(i("i1"), s("s1"), i("i2"), s("s2"), i("i3"), m("wait 1s; exit 0")),
        laws=(
            "i1.start < i1.exit < s1.start < i2.start < i2.exit < s2.start < i3.start < i3.exit < m.start < m.exit",
            "m.exit < s2.TERM < s2.exit < s1.TERM < s1.exit",
        ),
        phase="Succeeded",
        restarts={"s1": 0, "s2": 0},
    ),
    Scenario(
        number="2",
        promise="a startupProbe holds back everything after its sidecar",
        parts=(
            s("s1", "wait 3s; touch /tmp/there; forever", startupProbe=check("need /tmp/there")),
            s("s2", "wait 3s; touch /tmp/there; forever", startupProbe=check("need /tmp/there")),
            m("wait 1s; exit 0"),
        ),
        laws=("s1.start < s1.touched#2 < s2.start < s2.touched#2 < m.start",),
        phase="Succeeded",
    ),
    Scenario(
        number="3",
        promise="a startupProbe that always fails restarts its sidecar, preStop and all; the application never starts",
        parts=(s("s1", startupProbe=NEVER, lifecycle=pre_stop("s1", "wait 1s; exit 0")), m()),
        restart="Always",
        laws=("s1.start < s1/preStop.start < s1/preStop.exit < s1.TERM < s1.exit < s1.start#2 < s1.start#3",),
        at_least={"s1": 2},
        never=("m.start",),
        phase="Pending",
    ),
    Scenario(
        number="4",
        promise="a livenessProbe that fails restarts its sidecar, and the application starts and restarts regardless",
        parts=(
            s("s1", livenessProbe=NEVER, lifecycle=pre_stop("s1", "wait 1s; exit 0")),
            m("wait 3s; exit 0"),
        ),
        restart="Always",
        laws=("s1.start < m.start", "s1/preStop.exit < s1.TERM < s1.start#2 < s1.start#3", "m.exit < m.start#2"),
        at_least={"s1": 2, "m": 1},
    ),
    Scenario(
        number="5",
        promise="readiness holds nothing back, and the Pod is not ready",
        parts=(s("s1", readinessProbe=check("need /nowhere")), m()),
        restart="Always",
        laws=("s1.start < m.start",),
        phase="Running",
        ready=False,
        restarts={"s1": 0},
    ),
    *(
        Scenario(
            number=f"{number}-{restart}",
            promise="a sidecar whose image cannot be pulled holds the application back for ever",
            parts=(s("s1", gate=False, image=MISSING), m()),
            restart=restart,
            waiting={"s1": "ImagePullBackOff"},
            phase="Pending",
            never=("m.start",),
        )
        for number, restart in ((6, "Never"), (7, "OnFailure"), (8, "Always"))
    ),
)

RESTARTING = (
    *(
        Scenario(
            number=f"{number}-{restart}",
            promise="when the application has ended for good, its sidecar is stopped and the Pod succeeds",
            parts=(s("s1"), m("wait 1s; exit 0")),
            restart=restart,
            laws=("s1.start < m.start < m.exit < s1.TERM",),
            phase="Succeeded",
            restarts={"s1": 0},
        )
        for number, restart in ((9, "Never"), (10, "OnFailure"))
    ),
    Scenario(
        number="11",
        promise="an application that is started again keeps its sidecar",
        parts=(s("s1"), m("wait 1s; exit 0")),
        restart="Always",
        laws=("s1.start < m.start < m.exit < m.start#2 < m.start#3",),
        at_least={"m": 2},
        restarts={"s1": 0},
        never=("s1.TERM",),
    ),
    *(
        Scenario(
            number=f"{number}-{restart}",
            promise=f"a sidecar that exits {code} is restarted before and after the application's start",
            parts=(s("s1", CRASHING.format(code=code), gate=False), i("i1", "wait 8s; exit 0"), m("wait 18s; exit 0")),
            restart=restart,
            laws=("s1.start < s1.exit < s1.start#2 < i1.exit < m.start < s1.start#3 < m.exit",),
            phase="Succeeded",
            at_least={"s1": 2},
        )
        for number, restart, code in ((12, "Never", 0), (13, "OnFailure", 0), (14, "Never", 1), (14, "OnFailure", 1))
    ),
    Scenario(
        number="15",
        promise="sidecar and application are restarted, each on its own",
        parts=(s("s1", CRASHING.format(code=1), gate=False), i("i1", "wait 8s; exit 0"), m("wait 3s; exit 0")),
        restart="Always",
        laws=("s1.start < s1.start#2 < i1.exit < m.start < s1.start#3", "m.exit < m.start#2"),
        at_least={"s1": 2, "m": 1},
    ),
    Scenario(
        number="16",
        promise="an init container that fails under Never fails the Pod, and the sidecar after it never starts",
        parts=(i("i1", "exit 1"), s("s1"), m()),
        phase="Failed",
        never=("s1.start", "m.start"),
    ),
    *(
        Scenario(
            number=f"17-{restart}",
            promise="an init container that fails is tried again, and the sidecar after it never starts",
            parts=(i("i1", "exit 1"), s("s1"), m()),
            restart=restart,
            at_least={"i1": 3},
            phase="Pending",
            never=("s1.start", "m.start"),
        )
        for restart in ("OnFailure", "Always")
    ),
    Scenario(
        number="18",
        promise="under Never a failing init container fails the Pod, also beside a sidecar that is restarted",
        parts=(s("s1", CRASHING.format(code=1), gate=False), i("i1", "wait 8s; exit 1"), m()),
        laws=("s1.start < s1.exit < s1.start#2 < i1.exit",),
        phase="Failed",
        never=("m.start",),
    ),
    *(
        Scenario(
            number=f"19-{restart}",
            promise="init container and sidecar are restarted beside each other, and the application waits",
            parts=(s("s1", CRASHING.format(code=1), gate=False), i("i1", "wait 1s; exit 1"), m()),
            restart=restart,
            laws=("s1.start < i1.start", "i1.exit < s1.start#2", "s1.exit < i1.start#3"),
            at_least={"i1": 3, "s1": 2},
            phase="Pending",
            never=("m.start",),
        )
        for restart in ("OnFailure", "Always")
    ),
    Scenario(
        number="20",
        promise="a sidecar whose first run fails before its startupProbe succeeds is restarted, also under Never",
        parts=(
            s("s1", "first /witness/once-20 1; touch /tmp/there; forever", startupProbe=check("need /tmp/there")),
            m("touch /tmp/there; forever", startupProbe=check("need /tmp/there")),
        ),
        laws=("s1.exit < s1.start#2 < s1.touched#3 < m.start",),
        at_least={"s1": 1},
        phase="Running",
        ready=True,
    ),
)

PATCHING = (
    *(
        Scenario(
            number=f"21-{restart}",
            promise="a new image restarts its sidecar and nothing else",
            parts=(s("s1"), s("s2"), m()),
            restart=restart,
            when=("s1.start < s2.start < m.start",),
            do=(PatchImage(container="s1"),),
            laws=("m.start < s1.TERM < s1.exit < s1.start#2",),
            images={"s1": OTHER_IMAGE},
            restarts={"s1": 1, "s2": 0, "m": 0},
        )
        for restart in ("Never", "OnFailure", "Always")
    ),
    Scenario(
        number="22",
        promise="a new image in the middle of initialisation restarts its sidecar and nothing else",
        parts=(i("i1"), s("s1"), i("i2", "forever"), s("s2"), m()),
        when=("s1.start < i2.start",),
        do=(PatchImage(container="s1"),),
        laws=("i2.start < s1.TERM < s1.start#2",),
        images={"s1": OTHER_IMAGE},
        restarts={"i1": 0, "i2": 0},
        never=("i1.start#2", "i2.start#2", "s2.start", "m.start"),
    ),
    Scenario(
        number="23",
        promise="a sidecar whose startup fails takes a new image, and the one before it is left alone",
        parts=(s("s1"), s("s2", startupProbe=NEVER), m()),
        when=("s1.start < s2.start",),
        do=(PatchImage(container="s2"),),
        laws=("s2.start < s2.TERM < s2.start#2",),
        images={"s2": OTHER_IMAGE},
        restarts={"s1": 0},
        never=("m.start",),
    ),
    *(
        Scenario(
            number=f"24-{restart}",
            promise="a sidecar whose liveness fails takes a new image, and the application is left alone",
            parts=(s("s1"), s("s2", livenessProbe=NEVER), m()),
            restart=restart,
            when=("s2.start < m.start",),
            do=(PatchImage(container="s2"),),
            laws=("s2.start < s2.TERM < s2.start#2",),
            images={"s2": OTHER_IMAGE},
            restarts={"s1": 0, "m": 0},
        )
        for restart in ("Never", "OnFailure")
    ),
)

THREE = ("s1", "s2", "s3")
REVERSE = "m.exit < s3.TERM < s3.exit < s2.TERM < s2.exit < s1.TERM < s1.exit"

ENDING = (
    Scenario(
        number="25",
        promise="sidecars stop one after the other in reverse order, each when the one after it has ended",
        parts=(*(s(name, term="wait 2s; exit 0") for name in THREE), m("wait 1s; exit 0")),
        laws=(REVERSE,),
        exits=dict.fromkeys(THREE, 0),
        phase="Succeeded",
    ),
    Scenario(
        number="26",
        promise="all preStop hooks run at once, before any sidecar is told to stop",
        parts=(
            *(s(name, term="wait 1s; exit 0", lifecycle=pre_stop(name, "wait 3s; exit 0")) for name in THREE),
            m("wait 1s; exit 0"),
        ),
        laws=(
            REVERSE,
            *(f"{name}/preStop.start < {other}/preStop.exit" for name in THREE for other in THREE),
            *(f"{name}/preStop.exit < {name}.TERM" for name in THREE),
        ),
        exits=dict.fromkeys(THREE, 0),
        phase="Succeeded",
    ),
    Scenario(
        number="26-deleted",
        promise="at a deletion a sidecar's preStop hook runs at once, while the application still drains",
        parts=(
            *(s(name, lifecycle=pre_stop(name, "wait 1s; exit 0")) for name in THREE),
            m(term="wait 6s; exit 0"),
        ),
        when=("m.start",),
        do=(Delete(),),
        laws=(REVERSE, *(f"{name}/preStop.start < {name}/preStop.exit < m.exit < {name}.TERM" for name in THREE)),
        exits={"m": 0, **dict.fromkeys(THREE, 0)},
        phase="Succeeded",
    ),
    Scenario(
        number="27",
        promise="endless preStop hooks use up the grace period, and then sidecars that do not end are killed",
        parts=(
            *(s(name, term=STUBBORN, lifecycle=pre_stop(name, "wait 120s; exit 0")) for name in THREE),
            m("wait 1s; exit 0"),
        ),
        grace=6,
        laws=tuple(f"m.exit < {name}/preStop.start" for name in THREE),
        never=tuple(f"{name}/preStop.exit" for name in THREE),
        exits=dict.fromkeys(THREE, 137),
        phase="Succeeded",
    ),
    Scenario(
        number="27-polite",
        promise="after an endless preStop hook a sidecar is told to stop, and ends by itself in its two seconds",
        parts=(
            *(s(name, lifecycle=pre_stop(name, "wait 120s; exit 0")) for name in THREE),
            m("wait 1s; exit 0"),
        ),
        grace=6,
        laws=tuple(f"m.exit < {name}/preStop.start < {name}.TERM < {name}.exit" for name in THREE),
        exits=dict.fromkeys(THREE, 0),
        phase="Succeeded",
    ),
    Scenario(
        number="28",
        promise="a Pod deleted while it initialises ends within its grace period, and no sidecar starts",
        parts=(i("i0", "forever", term=STUBBORN), *(s(name) for name in THREE), m()),
        when=("i0.start",),
        do=(Delete(grace=3),),
        within=15,
        never=("s1.start", "s2.start", "s3.start", "m.start"),
        exits={"i0": 137},
    ),
    Scenario(
        number="29",
        promise="a sidecar that has not started does not hold up the end (kubernetes/kubernetes#125880)",
        parts=(i("i1"), s("s2", startupProbe=check("need /nowhere")), s("s3"), m()),
        grace=180,
        when=("s2.start",),
        do=(Delete(),),
        laws=("s2.TERM < s2.exit",),
        within=60,
        never=("s3.start", "m.start"),
        exits={"s2": 0},
    ),
    Scenario(
        number="30",
        promise="a sidecar that ends with an error does not fail its Pod",
        parts=(s("s1"), s("s2", term="exit 1"), s("s3"), m()),
        when=("m.start",),
        do=(Delete(),),
        laws=(REVERSE,),
        exits={"m": 0, "s1": 0, "s2": 1, "s3": 0},
        phase="Succeeded",
    ),
    Scenario(
        number="31",
        promise="a preStop hook that fails is not fatal",
        parts=(s("s1"), s("s2", lifecycle=pre_stop("s2", "exit 1")), s("s3"), m()),
        when=("m.start",),
        do=(Delete(),),
        laws=(REVERSE, "s2/preStop.exit < s2.TERM"),
        exits={"m": 0, "s1": 0, "s2": 0, "s3": 0},
        phase="Succeeded",
    ),
    Scenario(
        number="32",
        promise="an application that uses up the grace period leaves its sidecars two seconds, all at once",
        parts=(s("s1", term=SLOW), s("s2", term="wait 1s; exit 0"), s("s3", term=SLOW), m(term=SLOW)),
        grace=5,
        when=("m.start",),
        do=(Delete(),),
        laws=("m.TERM < s1.TERM < s2.exit", "s2.TERM < s2.exit", "m.TERM < s3.TERM"),
        exits={"m": 137, "s1": 137, "s2": 0, "s3": 137},
        phase="Failed",
    ),
    Scenario(
        number="33",
        promise="a sidecar that uses up the grace period leaves those before it two seconds",
        parts=(
            s("s1", term="wait 1s; exit 0"),
            s("s2", term=SLOW),
            s("s3", term="wait 1s; exit 0"),
            m(term="wait 1s; exit 0"),
        ),
        grace=5,
        when=("m.start",),
        do=(Delete(),),
        laws=("m.exit < s3.TERM < s3.exit < s2.TERM < s1.TERM < s1.exit",),
        exits={"m": 0, "s1": 0, "s2": 137, "s3": 0},
        phase="Succeeded",
    ),
    Scenario(
        number="34",
        promise="an application's preStop hook spends the grace period of all",
        parts=(
            s("s1"),
            s("s2", term=SLOW),
            s("s3"),
            m(term=SLOW, lifecycle=pre_stop("m", "wait 20s; exit 0")),
        ),
        grace=5,
        when=("m.start",),
        do=(Delete(),),
        laws=("m/preStop.start < m.TERM", "m/preStop.start < s1.TERM"),
        never=("m/preStop.exit",),
        exits={"m": 137, "s1": 0, "s2": 137, "s3": 0},
        phase="Failed",
    ),
    Scenario(
        number="35",
        promise="a sidecar's own preStop hook spends its own share only",
        parts=(
            s("s1"),
            s("s2", term=SLOW, lifecycle=pre_stop("s2", "wait 30s; exit 0")),
            s("s3"),
            m(),
        ),
        grace=5,
        when=("m.start",),
        do=(Delete(),),
        laws=("m.exit < s3.TERM < s3.exit < s2.TERM",),
        never=("s2/preStop.exit",),
        exits={"m": 0, "s1": 0, "s2": 137, "s3": 0},
        phase="Succeeded",
    ),
    Scenario(
        number="36",
        promise="a new image in a Pod that ends restarts nothing",
        parts=(i("i1"), s("s2"), s("s3"), m(term="wait 5s; exit 0")),
        grace=180,
        when=("m.start",),
        do=(Delete(), PatchImage(container="s2")),
        laws=("m.TERM < m.exit < s3.TERM < s3.exit < s2.TERM < s2.exit",),
        within=70,
        never=("s2.start#2", "s3.start#2"),
        restarts={"s2": 0, "s3": 0},
        exits={"m": 0, "s2": 0, "s3": 0},
    ),
)

SCENARIOS = tuple(chain(STARTING, RESTARTING, PATCHING, ENDING))
