"""What all tests share: a clean environment, hypothesis profiles, foreign vectors."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
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
settings.register_profile("nightly", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@pytest.fixture(scope="session")
def public_vectors() -> Path:
    """The folder of third-party vectors; a missing one fails in CI, else skips."""
    base = Path(os.environ.get("AUDITLOG_VECTORS", ROOT.parent / "shared" / "vectors"))
    folder = base / "public"
    if not folder.is_dir():
        message = f"no public vectors in {base}: set AUDITLOG_VECTORS to their folder"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return folder
