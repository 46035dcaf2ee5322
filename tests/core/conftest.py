"""Property tests are kept small here, so that the whole directory runs in seconds.

HYPOTHESIS_PROFILE=long looks harder.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("core", max_examples=50, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("long", max_examples=500, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "core"))
