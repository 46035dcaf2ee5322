"""The serving certificate of one process: taken from the Secret into one SSLContext, again whenever it changes.

New handshakes use the new certificate, connections go on, and the listener never closes. A pair that does not fit
together is not taken: what was good before stays.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sidecarpolicy import names
from sidecarpolicy.admission.certificates import CERTIFICATE, KEY, expires
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.engine.port import Api, ApiError
from sidecarpolicy.engine.resources import SECRETS

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0  # between two looks at the Secret …
FIRST_LOOK_SECONDS: Final = 1.0  # … and while there is no certificate


class ServingCertificate:
    """One SSLContext, and what is in it. *problem*: why there is nothing yet; *expires*: seconds since the epoch."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.problem = "no certificate yet"
        self.expires = 0.0
        self._loaded: tuple[bytes, bytes] | None = None

    def take(self, data: Mapping[str, bytes]) -> bool:
        """Take a certificate and its key in; return whether there was anything new. Raise ValueError for a bad pair."""
        pair = data.get(CERTIFICATE, b""), data.get(KEY, b"")
        if pair == self._loaded or not all(pair):
            return False
        with _as_file(pair[0]) as certificate, _as_file(pair[1]) as key:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            except (ssl.SSLError, OSError) as error:
                raise ValueError(f"certificate and key do not fit together: {error}") from error
            self.context.load_cert_chain(certificate, key)
        self._loaded, self.problem, self.expires = pair, "", expires(pair[0]).timestamp()
        return True


@contextmanager
def _as_file(text: bytes) -> Iterator[str]:
    """Give the path of a file that holds *text*, which OpenSSL wants: in memory where that can be, on no disk."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:  # readable by its owner only
            file.write(text)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("tls")
    try:
        os.write(descriptor, text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


async def follow(certificate: ServingCertificate, api: Api, namespace: str) -> None:
    """Take in what the Secret holds, until cancelled."""
    told = ""
    while True:
        try:
            secret = await api.get(SECRETS, namespace, names.WEBHOOK_SECRET)
            if certificate.take(decoded(secret)):
                log.info("serving with the certificate of Secret %s/%s", namespace, names.WEBHOOK_SECRET)
            problem = certificate.problem
        except (ApiError, ValueError) as error:
            problem = str(error)
            if not certificate.expires:
                certificate.problem = problem
        if problem and problem != told:
            log.warning("%s; trying until it works", problem)
        told = problem
        await asyncio.sleep(LOOK_SECONDS if certificate.expires else FIRST_LOOK_SECONDS)


def decoded(secret: Json) -> dict[str, bytes]:
    """Return what is in a Secret; raise ValueError."""
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in at(secret, "data").items()}
    except binascii.Error as error:
        raise ValueError(f"the Secret's data is not base64: {error}") from error
