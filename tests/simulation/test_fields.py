"""Every field of the policy's spec is taken there and back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.fields import Walk, fields, schema_of

QUICK = ("rollout", "priority", "deletionPolicy", "revisionHistoryLimit")
LONG = ("sidecars", "volumes", "application")


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("field", [*QUICK, *(pytest.param(each, marks=pytest.mark.long) for each in LONG)])
def test_any_field_can_be_taken_to_any_value_and_back(field: str) -> None:
    walk = Walk()
    wrong = [each for path, schema in fields((field,), schema_of(field)) for each in walk.visit(path, schema)]
    assert not wrong, "\n".join(wrong)
