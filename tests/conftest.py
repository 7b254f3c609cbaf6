"""Options of the whole suite."""

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write golden dumps instead of comparing"
    )


@pytest.fixture
def update_golden(request):
    return request.config.getoption("--update-golden")
