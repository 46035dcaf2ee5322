"""The webhook's certificates, without a cluster: what is in the Secret, and what has to become of it next.

One step at a time, each of which leaves everything that works working:

1. An authority and a serving certificate are made, or an authority that is about to run out gets a successor. Both are
   in `ca.crt` then, the newest first, and the old one's certificate goes on serving.
2. Once every API server trusts the successor (the keeper has published `ca.crt` and some seconds have passed), it
   issues the serving certificate.
3. An authority that has run out leaves `ca.crt`.

The keys are those of a Secret of cert-manager (`tls.crt`, `tls.key`, `ca.crt`), and `ca.key`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS: Final = 5 * 365
SERVING_DAYS: Final = 90
USED_UP: Final = 2 / 3  # of its life: then a successor is made
CERTIFICATE, KEY, AUTHORITIES, AUTHORITY_KEY = "tls.crt", "tls.key", "ca.crt", "ca.key"
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The PEM texts of the Secret; *authorities*: one after the other, the newest first. *authority_key* is its key."""

    authorities: bytes
    authority_key: bytes
    certificate: bytes
    key: bytes


def material_of(data: Mapping[str, bytes]) -> Material:
    """Return what is in a Secret; what is missing is empty."""
    return Material(
        authorities=data.get(AUTHORITIES, b""),
        authority_key=data.get(AUTHORITY_KEY, b""),
        certificate=data.get(CERTIFICATE, b""),
        key=data.get(KEY, b""),
    )


def data_of(material: Material) -> dict[str, bytes]:
    """Return what a Secret should hold."""
    return {
        AUTHORITIES: material.authorities,
        AUTHORITY_KEY: material.authority_key,
        CERTIFICATE: material.certificate,
        KEY: material.key,
    }


def next_material(
    material: Material, hosts: Sequence[str], now: datetime, *, trusted: bool
) -> tuple[Material, str] | None:
    """Return what *material* has to become now, and why; None where it is in order.

    *hosts*: names and addresses under which the webhook is called. *trusted*: every API server has had all of the
    authorities for long enough.
    """
    authorities = [each for each in _certificates(material.authorities) if each.not_valid_after_utc > now]
    key = _key(material.authority_key)
    newest = authorities[0] if authorities and _fits(authorities[0], key) else None
    if newest is None or key is None or _is_used_up(newest, now):
        made, key = new_authority(now)
        material = replace(material, authorities=_bundle([made, *authorities]), authority_key=_private(key))
        if authorities and _serves(material, authorities, hosts, now) is not None:
            return material, "a successor of the authority, which is trusted before it issues"
        return _issued(material, made, key, hosts, now), "a new authority"
    if len(authorities) < len(_certificates(material.authorities)):
        return replace(material, authorities=_bundle(authorities)), "an authority has run out"
    serving = _serves(material, authorities, hosts, now)
    if serving is None:
        return _issued(material, newest, key, hosts, now), "a serving certificate"
    if (trusted and not _is_issued_by(serving, newest)) or (
        _is_used_up(serving, now) and _is_issued_by(serving, newest)
    ):
        return _issued(material, newest, key, hosts, now), "a successor of the serving certificate"
    return None


def new_authority(now: datetime, days: float = AUTHORITY_DAYS) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Make an authority for *days* from *now*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sidecarpolicy-webhook-ca-{now:%Y%m%d%H%M%S}")])
    builder = (
        _lasting(x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def expires(certificate: bytes) -> datetime:
    """When a PEM certificate runs out; raise ValueError where it is none."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def material_from(
    authority: x509.Certificate, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], now: datetime
) -> Material:
    """Return what a Secret holds where *authority* is the only one and issues a certificate for *hosts* *now*."""
    empty = Material(authorities=_bundle([authority]), authority_key=_private(key), certificate=b"", key=b"")
    return _issued(empty, authority, key, hosts, now)


def _issued(
    material: Material,
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    now: datetime,
) -> Material:
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sidecarpolicy-webhook")])
    builder = (
        _lasting(
            x509.CertificateBuilder().subject_name(subject).issuer_name(authority.subject).public_key(own.public_key()),
            now,
            SERVING_DAYS,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in sorted(hosts)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)  # type: ignore[arg-type]
    )
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(_PEM)
    return replace(material, certificate=certificate, key=_private(own))


def _serves(
    material: Material, authorities: Sequence[x509.Certificate], hosts: Sequence[str], now: datetime
) -> x509.Certificate | None:
    """The serving certificate, where it is in use by right: of one of *authorities*, for *hosts*, not run out."""
    found = _certificates(material.certificate)[:1]
    if not found or not _fits(found[0], _key(material.key)) or found[0].not_valid_after_utc <= now:
        return None
    try:
        alternatives = set(found[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None
    covers = {_general_name(host) for host in hosts} <= alternatives
    return found[0] if covers and any(_is_issued_by(found[0], each) for each in authorities) else None


def _certificates(text: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text) if text else []
    except ValueError:
        return []


def _key(text: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        found = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        return None
    return found if isinstance(found, ec.EllipticCurvePrivateKey) else None


def _fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> bool:
    return key is not None and certificate.public_key() == key.public_key()


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_used_up(certificate: x509.Certificate, now: datetime) -> bool:
    begun, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begun + (ends - begun) * USED_UP


def _lasting(builder: x509.CertificateBuilder, now: datetime, days: float) -> x509.CertificateBuilder:
    now = now.astimezone(UTC)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks may be a little behind
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _bundle(authorities: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(_PEM) for each in authorities)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
