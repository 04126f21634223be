"""Fixtures every room shares."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded games and reference values; absent outside the developers' workplace."""
    if not SHARED.is_dir():
        pytest.skip("shared test data (../shared/data) is not present on this machine")
    return SHARED
