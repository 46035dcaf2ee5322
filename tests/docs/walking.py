"""Going through a page: what its reader has, and then one command after the other."""

from __future__ import annotations

import re

from tests.docs.blocks import Command, blocks, commands
from tests.docs.scenes import NOT_RUN, SCENES, Step, policy_files
from tests.docs.stage import Shell, Stage


def prepared(shell: Shell, page: str) -> None:
    """Write down what the reader of *page* has: files of their own, and the policies that the page shows."""
    scene = SCENES[page]
    shell.prepare(checkout=scene.checkout)
    for path, text in scene.files.items():
        shell.write(path, text)
    for block in blocks(page):
        if block.language == "yaml":
            for path, text in policy_files(block.text).items():
                shell.write(path, text)


def walk_offline(shell: Shell, page: str) -> None:
    """Run the commands of *page*, without a cluster."""
    prepared(shell, page)
    for command in commands(page):
        assert command.text not in NOT_RUN
        _expect(shell, command, SCENES[page].steps.get(command.text, Step()))


def walk(stage: Stage, page: str) -> None:
    """Run the commands of *page*."""
    scene = SCENES[page]
    prepared(stage, page)
    assert scene.begin is not None
    scene.begin(stage)
    for command in commands(page):
        if command.text in NOT_RUN:
            continue
        step = scene.steps.get(command.text, Step())
        step.before(stage)
        _expect(stage, command, step)
        step.after(stage)


def _expect(shell: Shell, command: Command, step: Step) -> None:
    """Run one command, and see that it goes as the page lets its reader expect."""
    ran = shell.run(command, until=step.until, answers=step.answers)
    assert ran.code in (step.code, None), f"{command.place}: {command.text}\n{ran.output}"
    assert re.search(step.says, ran.output), f"{command.place}: {command.text}\n{ran.output}"
    if step.shows:
        assert ran.output.splitlines() == command.shown.splitlines(), command.place
