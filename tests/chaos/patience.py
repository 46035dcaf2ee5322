"""Asking an API server that may not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pykube
import requests

from localcluster.errors import ClusterError

Seen = TypeVar("Seen")

AWAY = (requests.RequestException, pykube.exceptions.PyKubeError, ClusterError, OSError)
"""What it looks like when the API server is away, or answers with an error."""


def steadily(look: Callable[[], Seen]) -> Callable[[], Seen]:
    """Return *look* for `polling.poll`: no answer means "not yet"."""

    def patient() -> Seen:
        try:
            return look()
        except AWAY as error:
            raise AssertionError(str(error)) from error

    return patient
