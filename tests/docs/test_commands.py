"""Every command of the pages is run by a test or says why not, and none uses a verb or a flag that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sidecarpolicy.cli.main import main
from tests.docs.blocks import PAGES, POLICIES, Block, Command, blocks, commands, spans
from tests.docs.knowing import complaint
from tests.docs.scenes import NOT_RUN, SCENES

WITH_COMMANDS = [page for page in PAGES if commands(page)]


def test_every_command_is_run_or_says_why_not() -> None:
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 60
    missed = [each for each in found if each.page not in SCENES and each.text not in NOT_RUN]
    assert [f"{each.place}: {each.text}" for each in missed] == []


def test_what_is_said_of_commands_is_said_of_commands_that_are_there() -> None:
    everything = {command.text for page in PAGES for command in commands(page)}
    assert set(NOT_RUN) <= everything
    for page, scene in SCENES.items():
        assert set(scene.steps) <= {command.text for command in commands(page)}, page
        assert not set(scene.steps) & set(NOT_RUN), page


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_program_verb_and_flag_of_a_command_exists(page: str) -> None:
    wrong = []
    for command in commands(page):
        wrong += [f"{command.place}: {said}" for part in command.parts() if (said := complaint(*part))]
    assert wrong == []


@pytest.mark.parametrize("page", [page for page in PAGES if spans(page)])
def test_a_command_inside_a_sentence_exists(page: str) -> None:
    wrong = []
    for span in spans(page):
        command = Command(page=page, line=span.line, text=re.sub(r"…|\[[A-Z|/]+\]\.*", "", span.text))
        wrong += [f"{span.place}: {said}" for part in command.parts() if (said := complaint(*part))]
    assert wrong == []


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("sidecarpolicy", "statsu"), True),
        (("sidecarpolicy", "status", "web", "--wacht"), True),
        (("sidecarpolicy", "-n", "shop", "status", "--watch"), False),
        (("kubectl", "statsu"), True),
        (("kubectl", "get", "pods", "--wacht"), True),
        (("kubectl", "get", "pods", "--watch", "-n", "shop"), False),
        (("helm", "statsu"), True),
        (("helm", "install", "a", "b", "--create-namespaces"), True),
        (("helm", "install", "a", "b", "--create-namespace"), False),
        (("make", "demmo"), True),
        (("sidecarpolcy", "status"), True),
    ],
)
def test_what_does_not_exist_is_found(arguments: tuple[str, ...], wrong: bool) -> None:
    program, *rest = arguments
    assert bool(complaint(program, tuple(rest))) == wrong


@pytest.mark.parametrize("block", POLICIES, ids=lambda block: block.place)
def test_a_policy_on_a_page_is_valid_without_a_warning(block: Block, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(block.text)
    done = CliRunner().invoke(main, ["validate", "--strict", str(tmp_path / "policy.yaml")])
    assert (done.exit_code, done.output) == (0, "1 policy valid\n")


def test_every_block_of_data_can_be_read() -> None:
    assert POLICIES
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("yaml", "json"):
                assert yaml.safe_load(block.text), block.place
