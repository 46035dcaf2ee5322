"""A hook of mkdocs: pages are written for code hosts, and read on the site as well.

On a code host `../deploy/README.md` is a file and `results/scale` a folder; the site has neither. REPO_URL says
where the code is (`https://…/sidecarpolicy`), and such links lead there; where it is not set, they become their text. A
link to a file that does not exist is a warning, and warnings end a strict build.

In tables a code host wants `a\\|b` where Python-Markdown wants `a|b`.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = "docs"
LINK = re.compile(r"(?<!!)\[([^]\n]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
DEFINITION = re.compile(r"^\[([^]\n]+)\]: +([^\s#:]+)(#\S*)?$", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks.links")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Rewrite the links of one page that lead out of docs/ or to a folder, and the bars in its tables."""
    source = page.file.src_uri

    def in_text(match: re.Match[str]) -> str:
        target = _hosted(source, match[2], match[3] or "")
        return match[0] if target is None else f"[{match[1]}]({target})" if target else match[1]

    def in_definition(match: re.Match[str]) -> str:
        target = _hosted(source, match[2], match[3] or "")
        return match[0] if target is None else f"[{match[1]}]: {target}" if target else ""

    linked = DEFINITION.sub(in_definition, LINK.sub(in_text, markdown))
    return ROW.sub(lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), linked)


def _hosted(source: str, link: str, anchor: str) -> str | None:
    """Return the URL of what *link* leads to; empty where nobody knows it; None where it is the site's own."""
    path = os.path.normpath(PurePosixPath(DOCS, source).parent / link)
    is_folder = (ROOT / path).is_dir()
    if path.startswith(f"{DOCS}/") and not is_folder:
        return None
    if not (ROOT / path).exists():
        log.warning("%s links to %s, which does not exist", source, path)
    host = os.environ.get("REPO_URL", "").rstrip("/")
    return f"{host}/{'tree' if is_folder else 'blob'}/main/{path}{anchor}" if host else ""
