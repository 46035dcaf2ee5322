"""Files that hold what the code under test is expected to say; UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"
UPDATE = "UPDATE_GOLDEN"


def check(path: Path, text: str) -> None:
    """Compare *text* with the file, where an empty text stands for no file."""
    if os.environ.get(UPDATE) == "1":
        if text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    where = path.relative_to(GOLDEN.parent.parent)
    assert text == expected, f"{where} differs; where the new text is right: {UPDATE}=1 pytest tests/core"
