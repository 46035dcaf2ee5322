"""The few questions that the cluster itself asks its API server, over plain HTTPS.

Not a Kubernetes client: what a cluster's user wants to know goes through kubectl or a real client.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from localcluster.certificates import KeyPair
from localcluster.errors import ClusterError


class ApiServer:
    """Asks one API server as its administrator."""

    def __init__(self, host: str, port: int, authority: Path, admin: KeyPair) -> None:
        self.host, self.port = host, port
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._tls.load_cert_chain(admin.certificate, admin.key)

    def answers(self, path: str, *, port: int | None = None) -> bool:
        """Return whether GET *path* is answered with 200 within two seconds (optionally another port)."""
        try:
            return self._ask("GET", path, None, port=port or self.port)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def read(self, path: str) -> Any:
        """Return the decoded object at *path*, or None if there is none.

        :raises ClusterError: if the server says anything but 200 or 404, or does not answer.
        """
        return self._decoded("GET", path, None)

    def create(self, path: str, body: Any) -> None:
        """Create *body* in the collection at *path*; an object that is there already will do.

        :raises ClusterError: if the server refuses it or does not answer.
        """
        self._decoded("POST", path, body)

    def _decoded(self, method: str, path: str, body: Any) -> Any:
        try:
            status, data = self._ask(method, path, body, port=self.port)
        except (OSError, http.client.HTTPException) as error:
            raise ClusterError(f"{method} {path}: the API server did not answer: {error}") from error
        if status == 404:
            return None
        if status >= 300 and not (method == "POST" and status == 409):
            raise ClusterError(f"{method} {path}: the API server answered {status}: {data.decode()[:500]}")
        return json.loads(data)

    def _ask(self, method: str, path: str, body: Any, *, port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self.host, port, timeout=10 if body else 2, context=self._tls)
        try:
            encoded = json.dumps(body) if body is not None else None
            connection.request(method, path, encoded, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
