"""The webhook's certificates: every step leaves what works working."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sidecarpolicy.admission.certificates import (
    AUTHORITY_DAYS,
    SERVING_DAYS,
    Material,
    data_of,
    expires,
    material_from,
    material_of,
    new_authority,
    next_material,
)
from sidecarpolicy.admission.keeper import hosts_of
from sidecarpolicy.admission.loading import ServingCertificate

NOW = datetime.now(UTC)
HOSTS = ("127.0.0.1", "sidecarpolicy-webhook.sidecarpolicy-system.svc")
EMPTY = material_of({})


def settled(material: Material, now: datetime = NOW, *, trusted: bool = True) -> tuple[Material, list[str]]:
    """Take every step that is due at *now*; return what comes of it, and why each was taken."""
    reasons: list[str] = []
    while (step := next_material(material, HOSTS, now, trusted=trusted)) is not None:
        material, why = step
        reasons.append(why)
        assert len(reasons) < 5
    return material, reasons


@pytest.fixture(scope="module")
def material() -> Material:
    """What the first step makes of an empty Secret."""
    return settled(EMPTY)[0]


def names_of(material: Material) -> list[str]:
    """The authorities, by their names."""
    return [each.subject.rfc4514_string() for each in x509.load_pem_x509_certificates(material.authorities)]


def is_trusted(material: Material, bundle: bytes) -> bool:
    """Whether who trusts *bundle* takes the certificate that is served."""
    (serving,) = x509.load_pem_x509_certificates(material.certificate)
    for authority in x509.load_pem_x509_certificates(bundle):
        try:
            serving.verify_directly_issued_by(authority)
        except Exception:  # noqa: BLE001  # the next one, perhaps
            continue
        return True
    return False


def test_an_empty_secret_is_filled_in_one_step(material: Material) -> None:
    assert settled(EMPTY)[1] == ["a new authority"]
    assert is_trusted(material, material.authorities)
    assert settled(material) == (material, [])


def test_a_serving_certificate_is_renewed_by_the_same_authority_without_anybody_having_to_trust_a_new_one(
    material: Material,
) -> None:
    later = NOW + timedelta(days=SERVING_DAYS * 0.7)
    renewed, reasons = settled(material, later, trusted=False)
    assert reasons == ["a successor of the serving certificate"]
    assert renewed.authorities == material.authorities
    assert expires(renewed.certificate) > expires(material.certificate)


def test_an_authority_gets_a_successor_that_issues_only_once_it_is_trusted(material: Material) -> None:
    later = NOW + timedelta(days=AUTHORITY_DAYS * 0.68)
    material = replace(material, certificate=b"", key=b"")
    material = settled(material, later - timedelta(days=30))[0]
    both, reasons = settled(material, later, trusted=False)
    assert reasons[0] == "a successor of the authority, which is trusted before it issues"
    assert len(names_of(both)) == 2
    assert is_trusted(both, material.authorities), "an API server that has not seen the new one yet"
    moved, _ = settled(both, later, trusted=True)
    assert not is_trusted(moved, material.authorities)
    assert is_trusted(moved, both.authorities)
    assert moved.authorities == both.authorities, "the old one stays: who is slow still has its certificate"
    ended, reasons = settled(moved, NOW + timedelta(days=AUTHORITY_DAYS + 1))
    assert "an authority has run out" in reasons
    assert names_of(ended)[0] == names_of(both)[0]


@pytest.mark.parametrize("key", ["tls.crt", "tls.key"])
@pytest.mark.parametrize("text", [b"", b"nonsense"])
def test_a_mangled_serving_certificate_is_issued_anew(material: Material, key: str, text: bytes) -> None:
    found, reasons = settled(material_of(data_of(material) | {key: text}))
    assert reasons == ["a serving certificate"]
    assert found.authorities == material.authorities


@pytest.mark.parametrize("key", ["ca.crt", "ca.key"])
def test_a_mangled_authority_is_made_anew(material: Material, key: str) -> None:
    found, _ = settled(material_of(data_of(material) | {key: b"nonsense"}))
    assert is_trusted(found, found.authorities)
    assert settled(found) == (found, [])


def test_another_name_for_the_webhook_gets_another_certificate(material: Material) -> None:
    found = next_material(material, [*HOSTS, "elsewhere.example"], NOW, trusted=True)
    assert found is not None
    assert found[1] == "a serving certificate"


def test_names_come_from_where_the_webhook_is_called() -> None:
    service = {"clientConfig": {"service": {"name": "hook", "namespace": "sys"}}}
    url = {"clientConfig": {"url": "https://127.0.0.1:9443/mutate"}}
    assert list(hosts_of({"webhooks": [service, url]})) == ["hook.sys.svc", "hook.sys.svc.cluster.local", "127.0.0.1"]


@pytest.fixture
def files(tmp_path: Path, material: Material) -> Iterator[Path]:
    """A folder with the authorities in ca.crt."""
    (tmp_path / "ca.crt").write_bytes(material.authorities)
    yield tmp_path


def handshake(certificate: ServingCertificate, authorities: Path) -> bytes:
    """Shake hands in memory; return the certificate that was shown."""
    client = ssl.create_default_context(cafile=str(authorities))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=HOSTS[1])
    other = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one.getpeercert(binary_form=True) or b""


def test_a_context_takes_a_new_certificate_while_it_is_in_use(material: Material, files: Path) -> None:
    certificate = ServingCertificate()
    assert certificate.problem
    assert certificate.take(data_of(material))
    assert (certificate.problem, certificate.take(data_of(material))) == ("", False)
    before = handshake(certificate, files / "ca.crt")
    later, _ = settled(material, NOW + timedelta(days=SERVING_DAYS * 0.7))
    # It is from then on; OpenSSL goes by the machine's clock.
    assert certificate.take(data_of(material_of(data_of(later))))
    assert certificate.expires == expires(later.certificate).timestamp()
    assert before


def test_a_bad_pair_is_not_taken_and_the_good_one_stays(material: Material, files: Path) -> None:
    certificate = ServingCertificate()
    certificate.take(data_of(material))
    authority, key = new_authority(NOW)
    other = material_from(authority, key, HOSTS, NOW)
    with pytest.raises(ValueError, match="do not fit together"):
        certificate.take({"tls.crt": other.certificate, "tls.key": material.key})
    assert handshake(certificate, files / "ca.crt")
