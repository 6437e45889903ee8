"""Settings of all tests. A failing property prints what reproduces it."""

import os

from hypothesis import HealthCheck, settings

# Machines are noisy: a deadline would fail tests that are right.
settings.register_profile("all", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", settings.get_profile("all"), max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "all"))
