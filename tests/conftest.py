"""Options of the whole suite."""

import pytest
from hypothesis import settings

# No test is timed, and a run that passes passes again.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write golden dumps instead of comparing"
    )


@pytest.fixture
def update_golden(request):
    return request.config.getoption("--update-golden")
