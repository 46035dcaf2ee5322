"""A headless Chromium: screenshots, and where it has put every element of a picture.

Debian's package is installed by its name where that is possible (root, apt-get); without a browser the tests are
skipped and say why. Fonts differ from machine to machine, so nothing here compares text as pixels.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--force-color-profile=srgb",
)
TIMEOUT = 90

Box = dict[str, Any]

LAYOUT = """
const tell = () => {
  const seen = [...document.querySelectorAll('svg.tl text, svg.tl rect, svg.tl path, svg.tl circle')]
    .filter(each => !each.closest('defs'))
    .map(each => {
      const box = each.getBoundingClientRect(), style = getComputedStyle(each);
      return {tag: each.tagName, class: each.getAttribute('class') || '',
              text: each.tagName === 'text' ? each.textContent : '',
              at: each.tagName === 'text' ? [+each.getAttribute('x'), +each.getAttribute('y')] : [],
              box: [box.left, box.top, box.width, box.height].map(n => Math.round(n * 10) / 10),
              fill: style.fill, opacity: +style.fillOpacity};
    });
  const page = {width: document.documentElement.scrollWidth, window: innerWidth,
                back: getComputedStyle(document.querySelector('svg.tl .back')).fill, also: also()};
  document.body.innerHTML = '<pre id="told"></pre>';
  document.getElementById('told').textContent = JSON.stringify({seen, page});
};
tell();
"""

COMPARE = """
const pixels = id => {
  const image = document.getElementById(id);
  const canvas = document.createElement('canvas');
  canvas.width = image.width; canvas.height = image.height;
  const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
};
addEventListener('load', () => {
  const [one, other] = [pixels('one'), pixels('other')];
  let different = one.width === other.width && one.height === other.height ? 0 : one.width * one.height, counted = 1;
  if (!different) {
    const masked = new Uint8Array(one.width * one.height);
    for (const [left, top, width, height] of MASKS)
      for (let y = Math.max(0, Math.floor(top)); y < Math.min(one.height, top + height); y++)
        masked.fill(1, y * one.width + Math.max(0, Math.floor(left)),
                    y * one.width + Math.min(one.width, Math.ceil(left + width)));
    counted = 0;
    for (let n = 0; n < masked.length; n++) {
      if (masked[n]) continue;
      counted++;
      let most = 0;
      for (let c = 0; c < 3; c++) most = Math.max(most, Math.abs(one.data[4 * n + c] - other.data[4 * n + c]));
      if (most > 40) different++;
    }
  }
  document.body.innerHTML = '<pre id="told"></pre>';
  document.getElementById('told').textContent = JSON.stringify({different, counted});
});
"""


@cache
def chromium() -> str:
    """Return the browser's path; install it or skip the test where there is none."""
    if found := next((path for name in NAMES if (path := shutil.which(name))), None):
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("there is no Chromium; as root on Debian this installs it, otherwise: apt-get install chromium")
    print("installing Debian's package chromium, to look at pages", flush=True)
    subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)
    done = subprocess.run(
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium", "fonts-liberation"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode:
        pytest.skip(f"Chromium could not be installed: {done.stderr.strip().splitlines()[-1:]}")
    return shutil.which("chromium") or pytest.fail("chromium is installed and not to be found")


def screenshot(page: Path, picture: Path, *, width: int, height: int, dark: bool = False) -> None:
    """Write what *page* looks like in a window of that size."""
    _run(page, f"--screenshot={picture}", f"--window-size={width},{height}", dark=dark)


def layout(
    svg_or_html: str, folder: Path, *, width: int = 980, dark: bool = False, also: str = "[]"
) -> tuple[list[Box], Box]:
    """Return tag, class, text, place and colour of every element of the picture, and what the page measures.

    *also*: an expression of JavaScript, whose value is under that name among what the page measures.
    """
    page = folder / "layout.html"
    body = svg_or_html.replace("</body>", "") if "<body>" in svg_or_html else f"<body style='margin:0'>{svg_or_html}"
    script = f"const also = () => {also};{LAYOUT}"
    page.write_text(f"{'' if '<body>' in svg_or_html else '<!doctype html>'}{body}<script>{script}</script>")
    told = _told(_run(page, "--dump-dom", f"--window-size={width},900", dark=dark))
    return told["seen"], told["page"]


def difference(one: Path, other: Path, masks: list[list[float]], folder: Path) -> float:
    """Return the share of pixels that differ clearly, outside of *masks* (left, top, width, height)."""
    sources = [f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in (one, other)]
    page = folder / "compare.html"
    images = "".join(f'<img id="{name}" src="{data}">' for name, data in zip(("one", "other"), sources, strict=True))
    page.write_text(f"<!doctype html><body>{images}<script>const MASKS = {json.dumps(masks)};{COMPARE}</script>")
    told = _told(_run(page, "--dump-dom"))
    return float(told["different"]) / max(1, int(told["counted"]))


def _told(dom: str) -> Any:
    found = re.search(r'<pre id="told">([^<]+)</pre>', dom)
    assert found, f"the page has told nothing:\n{dom[:2000]}"
    return json.loads(html.unescape(found[1]))


def _run(page: Path, *options: str, dark: bool = False) -> str:
    program = chromium()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                program,
                *FLAGS,
                f"--user-data-dir={profile}",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                *options,
                page.as_uri(),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
