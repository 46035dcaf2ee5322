"""Which rights `sidecarpolicy check` asks about: those that the roles grant, all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecarpolicy.cli.check_rights import LEASE_RIGHTS, NAMESPACED_RIGHTS, OPERATOR_RIGHTS, SPARED_RIGHTS
from tests.api.rights import granted

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("role", "asked"),
    [
        ("deploy/base/access/operator.yaml", {*OPERATOR_RIGHTS, *SPARED_RIGHTS}),
        ("deploy/namespaced/access.yaml", {*NAMESPACED_RIGHTS, *SPARED_RIGHTS}),
    ],
)
def test_every_right_of_the_roles_is_asked_about(role: str, asked: set[tuple[str, str, str]]) -> None:
    roles = {(verb, group, resource) for group, resource, verb in granted(ROOT / role)}
    assert roles - asked == set(LEASE_RIGHTS)
