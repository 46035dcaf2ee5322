"""Hundreds of Deployments on the tests' usual control plane."""

from __future__ import annotations

from tests.api.conftest import fleet as fleet
