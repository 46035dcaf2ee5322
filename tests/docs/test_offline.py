"""The commands of pages that need no cluster, and exactly what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.scenes import SCENES
from tests.docs.stage import Shell
from tests.docs.walking import walk_offline


@pytest.mark.parametrize("page", [page for page, scene in SCENES.items() if scene.begin is None])
def test_the_commands_of_a_page_print_what_it_shows(page: str, tmp_path: Path) -> None:
    walk_offline(Shell(folder=tmp_path), page)
