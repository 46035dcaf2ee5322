"""What `check` says of the webhook's certificate."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from sidecarpolicy.admission.certificates import SERVING_DAYS, data_of, material_from, new_authority
from sidecarpolicy.cli.certificate import CERT_MANAGERS, certificate_finding
from sidecarpolicy.cli.findings import Result
from sidecarpolicy.core.tree import Json

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def a_secret(days: float, **annotations: str) -> Json:
    """The webhook's Secret, whose certificate expires *days* after NOW."""
    issued = NOW + timedelta(days=days - SERVING_DAYS)
    authority, key = new_authority(issued)
    data = data_of(material_from(authority, key, ["webhook.test"], issued))
    return {
        "metadata": {"namespace": "system", "annotations": annotations},
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


@pytest.mark.parametrize(
    ("days", "result", "words"),
    [
        (40, Result.OK, "is good for 40 more days (2027-01-08 12:00 UTC)"),
        (7, Result.OK, "is good for 7 more days (2026-12-06 12:00 UTC)"),
        (6.9, Result.WARNING, "expires in 6 days (2026-12-06 09:36 UTC): it is overdue"),
        (1.5, Result.WARNING, "expires in 1 day ("),
        (0.1, Result.WARNING, "expires in 0 days ("),
        (-0.1, Result.FAILED, "has expired (2026-11-29 09:36 UTC): the API server does not trust it any more"),
    ],
)
def test_it_says_how_long_the_certificate_is_good(days: float, result: Result, words: str) -> None:
    found = certificate_finding("admission", a_secret(days), NOW.timestamp())
    assert (found.result, words in found.message) == (result, True), found.message
    assert bool(found.hint) == (result is not Result.OK)


def test_the_hint_says_who_renews_it_and_where_they_tell() -> None:
    ours = certificate_finding("admission", a_secret(2), NOW.timestamp())
    assert ours.hint.startswith("the operator that leads renews it: kubectl logs -n system -l ")
    theirs = certificate_finding("admission", a_secret(2, **{CERT_MANAGERS: "hook"}), NOW.timestamp())
    assert theirs.hint.startswith("cert-manager renews it: kubectl describe certificate hook -n system")
    assert ours.hint.endswith("(docs/admission.md#certificates)")


@pytest.mark.parametrize("data", [{}, {"tls.crt": ""}, {"tls.crt": "bm9uZQ=="}, {"tls.crt": "%"}])
def test_a_secret_without_a_certificate_is_a_failure(data: dict[str, str]) -> None:
    found = certificate_finding("admission", {"metadata": {"namespace": "system"}, "data": data}, NOW.timestamp())
    assert found.result is Result.FAILED
    assert "Secret system/sidecarpolicy-webhook-certificate holds none" in found.message
