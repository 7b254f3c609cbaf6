"""Every kernel compiles for every architecture in every configuration, and within its bounds.

`python -m tools.ahead_of_time --write tests/kernels/resources.json` writes the bounds again.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.ahead_of_time import read_table

BOUNDS = Path(__file__).parent / "resources.json"
SHARED = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}
"""Bytes of shared memory that a program may use at most (CUDA C++ Programming Guide)."""
REGISTERS = 8
"""How many more a thread may use than the table says: the assembler's choices vary a little."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The table as this machine compiles it; in processes where nothing is interpreted."""
    file = tmp_path_factory.mktemp("resources") / "table.json"
    command = [sys.executable, "-m", "tools.ahead_of_time", "--write", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_table(file)


def test_the_table_has_every_kernel(compiled):
    assert compiled.keys() == read_table(BOUNDS).keys()


def test_nothing_needs_more_than_its_bound(compiled):
    bounds = read_table(BOUNDS)
    for key, found in compiled.items():
        assert found.registers <= bounds[key].registers + REGISTERS, key
        assert found.stack <= bounds[key].stack, key
        assert found.shared <= bounds[key].shared, key


def test_the_bounds_are_what_devices_have():
    for key, bound in read_table(BOUNDS).items():
        assert bound.shared <= SHARED[key.rpartition(" / ")[2]], key
        assert bound.stack == 0, f"{key} spills registers"
