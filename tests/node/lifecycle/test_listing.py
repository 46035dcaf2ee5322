"""The page about the lifecycle leans on scenarios that exist, and all fifty of the study are there."""

from __future__ import annotations

import re

from tests.node.lifecycle.listing import PAGE, listed, with_list


def test_every_scenario_of_the_study_has_a_test() -> None:
    assert {number.partition("-")[0] for number in listed()} == {str(number) for number in range(1, 51)}


def test_the_list_on_the_page_is_the_suites() -> None:
    page = PAGE.read_text()
    assert page == with_list(page), "run: python -m tests.node.lifecycle.listing"


def test_every_reference_on_the_page_is_to_a_scenario() -> None:
    assert set(re.findall(r"\[(\d+(?:-\w+)?)\]", PAGE.read_text())) <= set(listed())
