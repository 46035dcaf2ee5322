"""The timeline's picture as Chromium shows it: nothing moves unless somebody meant it to, and everybody can read it.

What is right is in `expected`: one PNG per theme for people to look at, and the place of every element. Shapes must be
where they were to the pixel or two; of text only its place counts, for its width is the font's. UPDATE_GOLDEN=1 writes
both anew: look at them before you commit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from sidecarpolicy.cli.timeline_html import html_of
from sidecarpolicy.cli.timeline_input import from_files
from sidecarpolicy.cli.timeline_svg import WIDTH, svg_of
from sidecarpolicy.core.timeline import pod_timeline
from tests.pages.browser import Box, difference, layout, screenshot

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
PODS = sorted(path.stem for path in (HERE / "recorded").glob("*.yaml"))
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
HINT = "if that is right: UPDATE_GOLDEN=1 pytest tests/pages, and look at the pictures in tests/pages/expected"
WINDOW = (WIDTH, 600)
PIXEL = 1.5
"""Where a shape may be beside its place."""
FONT = 0.25
"""By how much of its width a text may be wider or narrower than on the machine of the picture."""
MOST_DIFFERENT = 0.002
READABLE = 4.5
"""The contrast that WCAG 2.2 asks of text (AA)."""
THEMES = {"light": False, "dark": True}


def picture(name: str) -> str:
    """The SVG of a recorded Pod."""
    subject = from_files([HERE / "recorded" / f"{name}.yaml"], "", "")
    return svg_of(pod_timeline(subject.states, subject.events))


def saved(svg: str, folder: Path) -> Path:
    """A file that holds *svg*."""
    path = folder / "timeline.svg"
    path.write_text(svg, encoding="utf-8")
    return path


def moved(expected: list[Box], found: list[Box]) -> Iterator[str]:
    """Yield what is not where it was."""
    if [(each["tag"], each["class"], each["text"]) for each in expected] != [
        (each["tag"], each["class"], each["text"]) for each in found
    ]:
        yield "there are other elements, or in another order"
        return
    for before, after in zip(expected, found, strict=True):
        what = f"{before['tag']} {before['class']} {before['text']!r}"
        if before["tag"] != "text":
            if any(abs(a - b) > PIXEL for a, b in zip(before["box"], after["box"], strict=True)):
                yield f"{what}: was at {before['box']}, is at {after['box']}"
        elif any(abs(a - b) > PIXEL for a, b in zip(before["at"], after["at"], strict=True)):
            yield f"{what}: was at {before['at']}, is at {after['at']}"
        elif abs(before["box"][2] - after["box"][2]) > FONT * before["box"][2] + PIXEL:
            yield f"{what}: was {before['box'][2]} wide, is {after['box'][2]}"


def texts(seen: list[Box]) -> list[Box]:
    """The lines of text."""
    return [each for each in seen if each["tag"] == "text"]


def masks(*layouts: list[Box]) -> list[list[float]]:
    """Where text is or was, with the halo around it."""
    return [[x - 4, y - 4, w + 8, h + 8] for seen in layouts for x, y, w, h in (each["box"] for each in texts(seen))]


def test_nothing_has_moved(tmp_path: Path) -> None:
    seen, _ = layout(picture("cart"), tmp_path)
    path = EXPECTED / "timeline-layout.json"
    if UPDATE:
        path.write_text("[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in seen) + "\n]\n")
    changes = list(moved(json.loads(path.read_text()), seen))
    assert not changes, "\n".join([*changes[:20], HINT])


@pytest.mark.parametrize("theme", THEMES)
def test_it_looks_as_it_looked(theme: str, tmp_path: Path) -> None:
    svg = picture("cart")
    shot, expected = tmp_path / "now.png", EXPECTED / f"timeline-{theme}.png"
    screenshot(saved(svg, tmp_path), shot, width=WINDOW[0], height=WINDOW[1], dark=THEMES[theme])
    if UPDATE:
        shutil.copyfile(shot, expected)
    seen, _ = layout(svg, tmp_path, dark=THEMES[theme])
    before = json.loads((EXPECTED / "timeline-layout.json").read_text())
    assert difference(expected, shot, masks(before, seen), tmp_path) < MOST_DIFFERENT, HINT


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        pytest.param(r'(class="side ready" x="[\d.]+" y=)"([\d.]+)"', r'\1"160"', id="a bar in another place"),
        pytest.param(r'class="arrow" d="M[^"]*"', 'class="arrow" d="M0 0h9"', id="an arrow somewhere else"),
        pytest.param(r"--app: #8250df", "--app: #1a7f37", id="another colour"),
    ],
)
def test_a_changed_picture_would_be_noticed(what: str, instead: str, tmp_path: Path) -> None:
    """So that the two tests above are known to see something."""
    svg = picture("cart")
    changed = re.sub(what, instead, svg, count=1)
    assert changed != svg
    before = json.loads((EXPECTED / "timeline-layout.json").read_text())
    seen, _ = layout(changed, tmp_path)
    shot = tmp_path / "now.png"
    screenshot(saved(changed, tmp_path), shot, width=WINDOW[0], height=WINDOW[1])
    differs = difference(EXPECTED / "timeline-light.png", shot, masks(before, seen), tmp_path) >= MOST_DIFFERENT
    assert differs or any(moved(before, seen))


@pytest.mark.parametrize("name", PODS)
def test_every_text_is_inside_of_the_picture_and_on_no_other(name: str, tmp_path: Path) -> None:
    seen, _ = layout(picture(name), tmp_path)
    height = max(each["box"][3] for each in seen)
    for each in texts(seen):
        x, y, w, h = each["box"]
        assert x >= 0 and y >= 0 and x + w <= WIDTH and y + h <= height, each
    for one, other in combinations(texts(seen), 2):
        assert not overlap(one["box"], other["box"]), (one, other)


def overlap(one: list[float], other: list[float]) -> bool:
    """Whether two boxes have more than their edges in common; a line of text is higher than its letters."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = one, other
    across = min(x1 + w1, x2 + w2) - max(x1, x2)
    down = min(y1 + h1, y2 + h2) - max(y1, y2)
    return across > 1 and down > 5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PODS)
def test_text_stands_out_from_what_is_behind_it(name: str, theme: str, tmp_path: Path) -> None:
    seen, page = layout(picture(name), tmp_path, dark=THEMES[theme])
    bars = [each for each in seen if each["tag"] == "rect" and each["class"].split()[0] in ("side", "init", "app")]
    for each in texts(seen):
        behind = page["back"]
        if each["class"].startswith("inside") and "wait" not in each["class"]:
            (bar,) = (bar for bar in bars if holds(bar["box"], each["box"]))
            behind = mixed(bar["fill"], page["back"], bar["opacity"])
        assert contrast(each["fill"], behind) >= READABLE, (each, behind)


def holds(outer: list[float], inner: list[float]) -> bool:
    """Whether the one box lies in the other."""
    return all(outer[n] <= inner[n] and inner[n] + inner[n + 2] <= outer[n] + outer[n + 2] for n in (0, 1))


def mixed(colour: str, back: str, opacity: float) -> str:
    """Return what *colour* comes to over *back*."""
    pairs = zip(_channels(colour), _channels(back), strict=True)
    return "rgb({}, {}, {})".format(*(round(opacity * one + (1 - opacity) * other) for one, other in pairs))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG has it."""
    darker, brighter = sorted((_luminance(one), _luminance(other)))
    return (brighter + 0.05) / (darker + 0.05)


def _channels(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def _luminance(colour: str) -> float:
    parts = [part / 255 for part in _channels(colour)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_needs_no_scrolling_to_the_side(tmp_path: Path) -> None:
    subject = from_files([HERE / "recorded" / "cart.yaml"], "", "")
    page = html_of(pod_timeline(subject.states, subject.events))
    for width in (1280, 600):
        _, measured = layout(page, tmp_path, width=width)
        assert measured["width"] <= measured["window"], width
