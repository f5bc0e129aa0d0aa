"""What all tests share: a clean environment and the hypothesis profiles."""

import os

from hypothesis import HealthCheck, Phase, settings

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Options in the developer's shell must not decide what a test sees.
for _name in [name for name in os.environ if name.startswith("AUDITLOG_")]:
    if _name != "AUDITLOG_VECTORS":
        del os.environ[_name]

# Another tenant of the machine must not fail a property: no deadlines.
settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# `tests/mutants.py` runs the same tests many times, and is content with one failure.
settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=30,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.register_profile("nightly", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))
