"""The serving certificate of one process: taken from the Secret into one SSLContext, again whenever it changes.

New handshakes use the new certificate, connections go on, and the listener never closes. A pair that does not fit
together is not taken: what was good before stays.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
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
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            for path, text in zip((certificate, key), pair, strict=True):
                path.touch(mode=0o600)
                path.write_bytes(text)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            except (ssl.SSLError, OSError) as error:
                raise ValueError(f"certificate and key do not fit together: {error}") from error
            self.context.load_cert_chain(certificate, key)
        self._loaded, self.problem, self.expires = pair, "", expires(pair[0]).timestamp()
        return True


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
