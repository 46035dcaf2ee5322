"""The pages of `explain` and `migrate` as Chromium shows them: readable light and dark, wide and narrow."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecarpolicy.cli.main import main
from tests.builders import a_deployment, a_policy, a_sidecar
from tests.pages.browser import Box, layout
from tests.pages.test_timeline_page import READABLE, THEMES, contrast, holds, mixed, overlap, texts

WIDE, NARROW = 1280, 480
OLD_SCHOOL = Path(__file__).parents[1] / "lint" / "migrations"
TEXTS = """
[...document.querySelectorAll('h1, h2, h3, p, li, th, td, .n, code, .cut, .legend span')]
  .filter(each => each.textContent.trim() && each.getBoundingClientRect().height)
  .map(each => {
    let behind = each, back = getComputedStyle(each).backgroundColor;
    while (back === 'rgba(0, 0, 0, 0)' && (behind = behind.parentElement))
      back = getComputedStyle(behind).backgroundColor;
    return {tag: each.tagName, text: each.textContent.slice(0, 60), ink: getComputedStyle(each).color, back};
  })
"""


def explained(folder: Path) -> str:
    """The page about a Deployment with three sidecars and an init container of its own."""
    probe = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 15000}}}
    policy = a_policy(
        sidecars=[
            a_sidecar(role="Proxy", container=probe | {"resources": {"requests": {"cpu": "100m"}}}),
            a_sidecar("logger", role="Logger", container={"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}),
            a_sidecar("monitor-with-a-rather-long-name", role="Monitor"),
        ]
    )
    app = {"name": "app", "image": "example.test/app:1"}
    pod = {"initContainers": [{"name": "migrate", "image": "example.test/app:1"}], "containers": [app]}
    for name, body in (("policy.json", policy), ("app.json", a_deployment(pod=pod))):
        (folder / name).write_text(json.dumps(body))
    return run("explain", "shop/cart", "-p", f"{folder}/policy.json", "-f", f"{folder}/app.json", "-o", "html")


def migrated() -> str:
    """The page about a folder of old-school manifests."""
    return run("migrate", "-R", str(OLD_SCHOOL), "-o", "html")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(params=["explain", "migrate"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Either page."""
    return explained(tmp_path) if request.param == "explain" else migrated()


def backs(seen: list[Box]) -> list[Box]:
    """The frames of the pictures, two for each workload."""
    return [each for each in seen if each["class"] == "back"]


def test_before_and_after_stand_beside_each_other_where_there_is_room(page: str, tmp_path: Path) -> None:
    for width, beside in ((WIDE, True), (NARROW, False)):
        seen, measured = layout(page, tmp_path, width=width)
        assert measured["width"] <= measured["window"], "it needs scrolling to the side"
        frames = backs(seen)
        assert frames and len(frames) % 2 == 0
        for before, after in zip(frames[::2], frames[1::2], strict=True):
            (left, top, *_), (other_left, other_top, *_) = before["box"], after["box"]
            assert (top == other_top and left < other_left) if beside else (left == other_left and top < other_top)


def test_every_text_is_inside_of_its_picture_and_on_no_other(page: str, tmp_path: Path) -> None:
    seen, _ = layout(page, tmp_path, width=WIDE)
    for frame in backs(seen):
        inside = [each for each in texts(seen) if holds(frame["box"], each["box"])]
        for one, other in combinations(inside, 2):
            assert not overlap(one["box"], other["box"]), (one, other)
    assert all(any(holds(frame["box"], each["box"]) for frame in backs(seen)) for each in texts(seen))


@pytest.mark.parametrize("theme", THEMES)
def test_text_in_the_pictures_stands_out_from_what_is_behind_it(page: str, theme: str, tmp_path: Path) -> None:
    seen, measured = layout(page, tmp_path, width=WIDE, dark=THEMES[theme])
    bars = [each for each in seen if each["tag"] == "rect" and each["class"].split()[0] in ("side", "init", "app")]
    for each in texts(seen):
        behind = measured["back"]
        if each["class"].startswith("inside") and "wait" not in each["class"]:
            (bar,) = (bar for bar in bars if holds(bar["box"], each["box"]))
            behind = mixed(bar["fill"], measured["back"], bar["opacity"])
        assert contrast(each["fill"], behind) >= READABLE, (each, behind)


@pytest.mark.parametrize("theme", THEMES)
def test_text_of_the_page_stands_out_from_what_is_behind_it(page: str, theme: str, tmp_path: Path) -> None:
    said = layout(page, tmp_path, width=WIDE, dark=THEMES[theme], also=TEXTS)[1]["also"]
    assert {each["tag"] for each in said} >= {"H1", "H3", "TD", "CODE", "SPAN"}
    for each in said:
        assert contrast(each["ink"], each["back"]) >= READABLE, each


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!#)|url\((?!#)|@import|<script', page)
