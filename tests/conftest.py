"""What all tests share: a clean environment, a place, and the hypothesis profiles."""

import os
import shutil

from hypothesis import HealthCheck, Phase, settings

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Options in the developer's shell must not decide what a test sees.
for _name in [name for name in os.environ if name.startswith("AUDITLOG_")]:
    if _name != "AUDITLOG_VECTORS":
        del os.environ[_name]

# Where a sync costs nothing, if there is room: most tests wait for little else. That
# what must be synced is, traces of system calls say (`tests/faults/test_power.py`).
_MEMORY, _ROOM = "/dev/shm", 4 << 30
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)

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
