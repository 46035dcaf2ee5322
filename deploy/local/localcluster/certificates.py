"""Keys and certificates of one cluster: one authority, one certificate per part.

Elliptic curve keys, because they take no time to make. Everything is written readable by its owner
only, and is thrown away with the cluster.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)
_CURVE = ec.SECP256R1()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Paths of a PEM certificate and its PEM private key."""

    certificate: Path
    key: Path


class Authority:
    """The certificate authority of one cluster, in *folder*; made at first use, read again later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pair = _pair(folder, "ca")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.pair.certificate.exists():
            key = ec.generate_private_key(_CURVE)
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sidecarpolicy-local-ca")])
            public = key.public_key()
            identifier = x509.SubjectKeyIdentifier.from_public_key(public)
            builder = (
                _valid_from_now(x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public))
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .add_extension(_key_usage(signs=True), critical=True)
                .add_extension(identifier, critical=False)
            )
            _write_key(self.pair.key, key)
            _write(self.pair.certificate, builder.sign(key, hashes.SHA256()).public_bytes(_PEM))
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        loaded = serialization.load_pem_private_key(self.pair.key.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.pair.key} is not an elliptic curve key")
        self._key = loaded

    def issue(self, file: str, user: str, groups: Sequence[str] = (), *, serves: Sequence[str] = ()) -> KeyPair:
        """Write and return a certificate for the Kubernetes *user* in *groups*.

        *serves*: the host names and addresses it also proves as a server; none for a pure client.
        """
        key = ec.generate_private_key(_CURVE)
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                x509.NameAttribute(NameOID.COMMON_NAME, user),
            ]
        )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else [])]
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _valid_from_now(x509.CertificateBuilder().subject_name(subject).issuer_name(self._certificate.subject))
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(issuer_key, critical=False)
        )
        if serves:
            names = x509.SubjectAlternativeName([_general_name(name) for name in serves])
            builder = builder.add_extension(names, critical=False)
        pair = _pair(self.folder, file)
        _write_key(pair.key, key)
        _write(pair.certificate, builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        return pair


def signing_key(folder: Path, file: str) -> tuple[Path, Path]:
    """Write a key pair that is in no certificate; return the private and the public file."""
    key = ec.generate_private_key(_CURVE)
    private, public = folder / f"{file}.key", folder / f"{file}.pub"
    _write_key(private, key)
    _write(public, key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


_PEM = serialization.Encoding.PEM


def _pair(folder: Path, file: str) -> KeyPair:
    return KeyPair(certificate=folder / f"{file}.crt", key=folder / f"{file}.key")


def _valid_from_now(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of containers may be a little behind
        .not_valid_after(now + LIFETIME)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
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


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    _write(path, key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def _write(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(data)
