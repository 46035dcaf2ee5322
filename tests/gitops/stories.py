"""Stories of owners and authors by number: a number's story is always the same."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sidecarpolicy import names
from tests.gitops.sequences import (
    Annotates,
    Configures,
    Deed,
    Deletes,
    Edits,
    How,
    OptsOut,
    Places,
    Restarts,
    Settles,
    Story,
    Undoes,
    Writes,
    play,
)
from tests.gitops.tools import App
from tests.running import Operator

AT_ONCE = 5
ARGUMENTS = ("--revert-threshold=1000",)
"""Of the operator's: owners here take sidecars away as often as they like, and nobody waits ten minutes for them."""

SIDECARS = st.sampled_from(["proxy", "logger"])
POLICIES = st.sampled_from(["web", "log"])
IMAGES = st.sampled_from(["1", "2", "3"])
REQUESTS = st.sampled_from(
    [None, '{"resources": {"requests": {"cpu": "2m"}}}', '{"resources": {"requests": {"cpu": "3m"}}}']
)

apps = st.builds(
    App,
    image=IMAGES,
    inits=st.sampled_from([(), ("migrate",), ("migrate", "seed"), ("seed", "migrate")]),
    env=st.sampled_from([(), ("LEVEL",), ("LEVEL", "MODE")]),
    volume=st.booleans(),
    container=st.sampled_from(["app", "app", "app", "main"]),
)
writes = st.builds(Writes, st.sampled_from(How), apps)
edits = st.builds(
    Edits,
    POLICIES,
    image=IMAGES,
    init=st.booleans(),
    extras=st.booleans(),
    restarts=st.sampled_from([True, True, False]),
)
configures = st.builds(Configures, st.sampled_from(["1", "2", "2", "3", "3", None]), later=st.booleans())
marks = st.one_of(
    st.builds(OptsOut, st.sampled_from(["false", "true", None])),
    st.builds(Annotates, st.just(names.SKIP), st.sampled_from([None, "proxy", "logger", "proxy,logger"])),
    st.builds(Annotates, SIDECARS.map(f"{names.GROUP}/override.{{}}".format), REQUESTS),
)
kinds: list[st.SearchStrategy[Deed]] = [
    writes,
    edits,
    marks,
    configures,
    st.builds(Deletes, POLICIES),
    st.just(Undoes()),
    st.just(Settles()),
]
often = [*kinds, writes, writes, edits, configures]
deeds = st.integers(0, len(often) - 1).flatmap(often.__getitem__)  # `one_of` takes equal ones together
stories = st.builds(
    Story,
    st.booleans(),
    st.tuples(
        st.sampled_from([(), (Configures("1"),), (Configures("1"),)]),
        edits.map(lambda edit: (edit,)),
        st.lists(deeds, max_size=10),
        st.sampled_from([(), (), (), (Restarts(),)]),
        st.lists(deeds, max_size=3),
    ).map(lambda parts: tuple(deed for part in parts for deed in part)),
)


def drawn(number: int) -> Story:
    """Draw a story: the same one for the same *number*."""
    found: list[Story] = []

    @seed(number)
    @settings(max_examples=2, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(drawn=st.tuples(st.integers(0, 2**32), stories))
    def draw(drawn: tuple[int, Story]) -> None:
        found.append(drawn[1])

    draw()
    return found[-1]  # the first is the simplest of all; that the second is another one is seen to by the integer


def failures(numbers: Iterable[int], places: Places, operator: Operator, at_once: int = AT_ONCE) -> dict[int, str]:
    """Play stories, some at the same time; return those that went wrong, with what was wrong there."""
    stories = {number: drawn(number) for number in numbers}
    with ThreadPoolExecutor(at_once) as pool:
        played = {number: pool.submit(play, story, places, operator) for number, story in stories.items()}
        try:
            wait(played.values())
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # those that have begun are played to their end
            raise
    errors = {number: future.exception() for number, future in played.items()}
    return {
        number: f"story {number}: {stories[number]}\n{error}" for number, error in errors.items() if error is not None
    }
