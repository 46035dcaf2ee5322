"""What owners and their tools do with a Deployment that has sidecars, and what comes of it: the rows of docs/gitops.md.

Each row is played twice, in namespaces of their own: without admission and with it. `owning` plays them. Some are
played by `make test`, the others by `make test-long`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from sidecarpolicy import names
from tests.gitops import tools
from tests.gitops.tools import App

if TYPE_CHECKING:
    from tests.gitops.owning import Stage

Act = Callable[["Stage"], App | None]
"""What is done with a Deployment; returns the application that its owner has from then on, None: none."""


class Verdict(Enum):
    """What becomes of the sidecars, as the page says it."""

    UNTOUCHED = "untouched"
    IN_FIRST_PODS = "in its first Pods"
    SECOND_ROLLOUT = "added by a second rollout"
    PUT_BACK = "put back by one more rollout"
    PUT_BACK_IN_WRITE = "put back in the same write"
    ORDERED = "put in order by one more rollout"
    ORDERED_IN_WRITE = "put in order in the same write"
    UPDATED = "brought to the newer revision by one more rollout"
    UPDATED_IN_WRITE = "the newer revision stays, in the same write"
    REFUSED = "refused by the API server (422): the injected volume would go with the last of the owner's"
    CONFLICT = "409 that names `sidecar-policy`"
    STEPS_BACK = "the container is the owner's: the policy skips the Deployment (`NameConflict`)"
    GONE = "deleted with its sidecars; nothing holds it"


V = Verdict
MENDED = {
    V.SECOND_ROLLOUT: V.IN_FIRST_PODS,
    V.PUT_BACK: V.PUT_BACK_IN_WRITE,
    V.ORDERED: V.ORDERED_IN_WRITE,
    V.UPDATED: V.UPDATED_IN_WRITE,
}
"""What admission makes of what takes one more rollout without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """*before* is written and settled first. *own*: rollouts that the owner's change takes, with and without sidecars.

    *with_admission*: how many the write takes where admission takes part in it, if that is another number.
    """

    tool: str
    action: str
    act: Act
    before: tuple[App, ...] = (App(),)
    own: int
    verdict: Verdict = V.UNTOUCHED
    with_admission: int | None = None
    verdict_with_admission: Verdict | None = None
    """Where it is not what `MENDED` makes of the other."""
    at_first: Act | None = None
    """What else is done before."""
    first: bool = False
    """Takes long: to be begun before the others."""
    always: bool = False
    """Whether `make test` plays it."""

    def expected(self, *, admission: bool) -> tuple[Verdict, int]:
        """What becomes of the sidecars, and how many rollouts there are."""
        if not admission:
            return self.verdict, self.own + (self.verdict in MENDED)
        rollouts = self.own if self.with_admission is None else self.with_admission
        return self.verdict_with_admission or MENDED.get(self.verdict, self.verdict), rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row, with or without admission."""

    row: Row
    admission: bool

    def __str__(self) -> str:
        how = "with" if self.admission else "without"
        return f"{self.row.tool.replace('`', '')}: {self.row.action.replace('`', '')}, {how} admission"


def always(row: Row) -> Row:
    """*row*, to be played by `make test` too: what is commonest with each tool, and what is likeliest to break.

    Helm 3 has none, so that `make test` need not build it.
    """
    return replace(row, always=True)


def writes(app: App) -> Act:
    """The tool writes *app*."""

    def act(stage: Stage) -> App:
        stage.tool.write(app)
        return app

    return act


def deletes(stage: Stage) -> None:
    """The tool takes the application away."""
    stage.tool.delete()


def runs(*arguments: str, leaves: App) -> Act:
    """`kubectl` with *arguments*, after which the owner's application is *leaves*."""

    def act(stage: Stage) -> App:
        stage.fleet.kubectl(*arguments)
        return leaves

    return act


CART = f"deployment/{tools.NAME}"
IMAGE = App(image="2")
ADDED = App(inits=("migrate", "seed"))
TURNED = App(inits=("seed", "migrate"))
BARE = App(inits=())
MORE = App(env=("LEVEL",), volume=True)
MORE_ENV = App(env=("LEVEL",))
RENAMED = App(container="web")
OURS_TOO = App(inits=("migrate", "proxy"))
OUT = App(kept_out=True)
SCALED = App(replicas=None)

UNDO = ("rollout", "undo", CART)
SET_IMAGE = ("set", "image", CART, "app=example.test/app:2")


def changed(tool: str, action: str, app: App, verdict: Verdict = V.UNTOUCHED, *before: App, own: int = 1) -> Row:
    """The tool writes *app* where *before* was."""
    return Row(tool=tool, action=action, act=writes(app), before=before or (App(),), own=own, verdict=verdict)


def refused(tool: str, action: str, app: App, *before: App) -> Row:
    """The tool's write of *app* is refused where no admission mends it."""
    act = writes(app)
    return Row(
        tool=tool,
        action=action,
        act=act,
        before=before,
        own=0,
        verdict=V.REFUSED,
        with_admission=1,
        verdict_with_admission=V.PUT_BACK_IN_WRITE,
    )


def created(tool: str) -> Row:
    """It writes the Deployment for the first time."""
    return Row(tool=tool, action="creates it", act=writes(App()), before=(), own=1, verdict=V.SECOND_ROLLOUT)


def unchanged(tool: str, verdict: Verdict = V.UNTOUCHED, *, own: int = 0) -> Row:
    """It writes the same once more."""
    row = changed(tool, "the same again", App(), verdict, own=own)
    return row if verdict is V.UNTOUCHED else _mended_for_nothing(row)


def _mended_for_nothing(row: Row) -> Row:
    # What takes the sidecars away and nothing else is a rollout of its own; with admission nothing is left of it.
    return Row(tool=row.tool, action=row.action, act=row.act, own=1, verdict=row.verdict, with_admission=0)


def initially_out(stage: Stage) -> App:
    """The policy comes to it after its first rollout."""
    stage.fleet.kubectl("label", CART, f"{names.INJECT}-")
    return App()


def with_a_newer_revision(stage: Stage) -> App:
    """The policy gets another image for its sidecar."""
    stage.edit_the_policy("2")
    return App()


def edits(stage: Stage) -> App:
    """`kubectl edit`, with an editor that changes the image."""
    stage.edit(r"s|image: example.test/app:1$|image: example.test/app:2|")
    return IMAGE


def applied_with_kubectl(stage: Stage) -> App:
    """Somebody has created it with kubectl."""
    stage.kubectl.write(App())
    return App()


def undone_with_kubectl(stage: Stage) -> App:
    """Somebody has rolled it out and back with kubectl."""
    stage.fleet.kubectl(*SET_IMAGE)
    stage.settle(IMAGE)
    stage.fleet.kubectl(*UNDO)
    return App()


def drifted(stage: Stage) -> App:
    """Somebody has changed the image with kubectl, and the tool tells it."""
    stage.fleet.kubectl(*SET_IMAGE)
    stage.settle(IMAGE)
    assert stage.tool.differences(App()), "the tool has not seen that the image is another"
    return IMAGE


def rolls_back(stage: Stage) -> App:
    """`helm rollback`."""
    assert isinstance(stage.tool, tools.Helm)
    stage.tool.rollback()
    return App()


def is_autoscaled(stage: Stage) -> App:
    """A HorizontalPodAutoscaler raises the replicas to its minimum."""
    stage.fleet.kubectl("autoscale", CART, "--min=3", "--max=5", "--cpu=80%")
    stage.await_replicas(3)
    return SCALED


def is_written_all_the_time(stage: Stage) -> App:
    """A controller writes replicas and an annotation all the time; meanwhile the policy gets a newer revision."""
    with stage.a_restless_controller():
        stage.edit_the_policy("2")
        stage.await_image("2")
    return SCALED


def _helm(tool: str, reorders: Verdict, drops: Verdict) -> tuple[Row, ...]:
    return (
        changed(tool, "upgrade: reorders init containers", TURNED, reorders, ADDED),
        changed(tool, "upgrade: drops its init containers", BARE, drops),
        changed(tool, "upgrade: renames a container", RENAMED, V.PUT_BACK),
        Row(tool=tool, action="rollback", act=rolls_back, before=(App(), IMAGE), own=1),
        Row(tool=tool, action="uninstall", act=deletes, own=0, verdict=V.GONE),
    )


ROWS: tuple[Row, ...] = (
    always(created(tools.CLIENT_SIDE)),
    always(unchanged(tools.CLIENT_SIDE)),
    always(changed(tools.CLIENT_SIDE, "changes the image", IMAGE)),
    always(changed(tools.CLIENT_SIDE, "adds an init container", ADDED)),
    changed(tools.CLIENT_SIDE, "adds its first init container", App(), V.ORDERED, BARE),
    changed(tools.CLIENT_SIDE, "reorders init containers", TURNED, V.UNTOUCHED, ADDED),
    changed(tools.CLIENT_SIDE, "drops one of two init containers", App(), V.UNTOUCHED, ADDED),
    changed(tools.CLIENT_SIDE, "drops its last init container", BARE, V.PUT_BACK),
    changed(tools.CLIENT_SIDE, "adds env and a volume", MORE),
    changed(tools.CLIENT_SIDE, "drops its env", App(), V.PUT_BACK, MORE_ENV),
    always(refused(tools.CLIENT_SIDE, "drops its last volume", App(), MORE)),
    Row(
        tool=tools.CLIENT_SIDE,
        action="uses the name of an injected container",
        act=writes(OURS_TOO),
        own=1,
        verdict=V.STEPS_BACK,
    ),
    created(tools.SERVER_SIDE),
    always(unchanged(tools.SERVER_SIDE)),
    always(changed(tools.SERVER_SIDE, "changes the image", IMAGE)),
    always(changed(tools.SERVER_SIDE, "adds an init container", ADDED, V.ORDERED)),
    changed(tools.SERVER_SIDE, "adds its first init container", App(), V.ORDERED, BARE),
    changed(tools.SERVER_SIDE, "reorders init containers", TURNED, V.ORDERED, ADDED),
    changed(tools.SERVER_SIDE, "drops one of two init containers", App(), V.UNTOUCHED, ADDED),
    changed(tools.SERVER_SIDE, "drops its last init container", BARE),
    changed(tools.SERVER_SIDE, "adds env and a volume", MORE),
    changed(tools.SERVER_SIDE, "drops its env and volumes", App(), V.UNTOUCHED, MORE),
    Row(
        tool=tools.SERVER_SIDE,
        action="uses the name of an injected container",
        act=writes(OURS_TOO),
        own=0,
        verdict=V.CONFLICT,
        with_admission=1,
        verdict_with_admission=V.STEPS_BACK,  # what admission has added belongs to no field manager
    ),
    created("`kubectl replace`"),
    unchanged("`kubectl replace`", V.PUT_BACK),
    always(changed("`kubectl replace`", "changes the image", IMAGE, V.PUT_BACK)),
    always(
        Row(tool=tools.KUBECTL, action="`rollout undo`", act=runs(*UNDO, leaves=App()), before=(App(), IMAGE), own=1)
    ),
    Row(
        tool=tools.KUBECTL,
        action="`rollout undo` to before the policy",
        act=runs(*UNDO, leaves=App()),
        before=(OUT,),
        at_first=initially_out,
        own=1,
        verdict=V.PUT_BACK,
        with_admission=0,
    ),
    Row(
        tool=tools.KUBECTL,
        action="`rollout undo` to an older revision of the policy",
        act=runs(*UNDO, leaves=App()),
        at_first=with_a_newer_revision,
        own=1,
        verdict=V.UPDATED,
        with_admission=0,
    ),
    Row(tool=tools.KUBECTL, action="`rollout restart`", act=runs("rollout", "restart", CART, leaves=App()), own=1),
    Row(tool=tools.KUBECTL, action="`scale`", act=runs("scale", CART, "--replicas=3", leaves=App(replicas=3)), own=0),
    Row(tool=tools.KUBECTL, action="`set image`", act=runs(*SET_IMAGE, leaves=IMAGE), own=1),
    Row(
        tool=tools.KUBECTL,
        action="`set env`",
        act=runs("set", "env", CART, "LEVEL=1", leaves=App(env=("LEVEL",))),
        own=1,
    ),
    Row(tool=tools.KUBECTL, action="`edit`", act=edits, own=1),
    created(tools.HELM),
    always(unchanged(tools.HELM)),
    always(changed(tools.HELM, "upgrade: changes the image", IMAGE)),
    always(changed(tools.HELM, "upgrade: adds an init container", ADDED, V.ORDERED)),
    *_helm(tools.HELM, V.ORDERED, V.UNTOUCHED),
    always(changed(tools.HELM_CLIENT_SIDE, "upgrade: drops its init containers", BARE, V.PUT_BACK)),
    changed(tools.HELM_CLIENT_SIDE, "upgrade: renames a container", RENAMED, V.PUT_BACK),
    always(changed(tools.HELM_FORCE, "upgrade: changes the image", IMAGE, V.PUT_BACK)),
    created(tools.HELM_3),
    unchanged(tools.HELM_3),
    changed(tools.HELM_3, "upgrade: changes the image", IMAGE),
    changed(tools.HELM_3, "upgrade: adds an init container", ADDED),
    *_helm(tools.HELM_3, V.UNTOUCHED, V.PUT_BACK),
    changed(tools.HELM_3_FORCE, "upgrade: changes the image", IMAGE, V.PUT_BACK),
    created(tools.FLUX),
    always(unchanged(tools.FLUX)),
    always(changed(tools.FLUX, "changes the image", IMAGE)),
    always(changed(tools.FLUX, "adds an init container", ADDED, V.ORDERED)),
    changed(tools.FLUX, "reorders init containers", TURNED, V.ORDERED, ADDED),
    changed(tools.FLUX, "drops its init containers", BARE),
    changed(tools.FLUX, "renames a container", RENAMED, V.PUT_BACK),
    Row(
        tool=tools.FLUX,
        action="takes over what `kubectl apply` made",
        act=writes(App()),
        before=(),
        at_first=applied_with_kubectl,
        own=0,
    ),
    Row(
        tool=tools.FLUX,
        action="takes over after a `rollout undo`",
        act=writes(App()),
        at_first=undone_with_kubectl,
        own=0,
    ),
    Row(tool=tools.FLUX, action="corrects a drifted image", act=writes(App()), at_first=drifted, own=1),
    Row(tool=tools.FLUX, action="prunes it", act=deletes, own=0, verdict=V.GONE),
    created(tools.ARGO),
    always(unchanged(tools.ARGO)),
    always(changed(tools.ARGO, "changes the image", IMAGE)),
    always(changed(tools.ARGO, "adds an init container", ADDED)),
    changed(tools.ARGO, "drops its init containers", BARE, V.PUT_BACK),
    Row(tool=tools.ARGO, action="heals a drifted image", act=writes(App()), at_first=drifted, own=1),
    Row(tool=tools.ARGO, action="prunes it", act=deletes, own=0, verdict=V.GONE),
    created(tools.ARGO_SERVER_SIDE),
    changed(tools.ARGO_SERVER_SIDE, "changes the image", IMAGE),
    changed(tools.ARGO_SERVER_SIDE, "adds an init container", ADDED, V.ORDERED),
    changed(tools.ARGO_SERVER_SIDE, "drops its init containers", BARE),
    unchanged(tools.ARGO_REPLACE, V.PUT_BACK),
    always(changed(tools.ARGO_REPLACE, "changes the image", IMAGE, V.PUT_BACK)),
    Row(
        tool=tools.CONTROLLERS,
        action="a HorizontalPodAutoscaler moves the replicas",
        act=is_autoscaled,
        before=(SCALED,),
        own=0,
        first=True,
    ),
    Row(
        tool=tools.CONTROLLERS,
        action="one writes replicas and annotations all the time, while the policy changes",
        act=is_written_all_the_time,
        before=(SCALED,),
        own=1,
    ),
)

CELLS: tuple[Cell, ...] = tuple(Cell(row=row, admission=admission) for row in ROWS for admission in (False, True))


def table() -> Mapping[str, list[tuple[str, str, str]]]:
    """The lines of the page's table by tool: the action, and what comes of it without admission and with it."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for row in ROWS:
        without, with_it = (row.expected(admission=each)[0].value for each in (False, True))
        found.setdefault(row.tool, []).append((row.action, without, with_it))
    return found
