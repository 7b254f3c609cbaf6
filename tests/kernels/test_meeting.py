"""How programs of a recurrence wait for each other, as it is compiled: what one has written before
it comes is what the others read after they have met."""

import re
import subprocess
import sys

import pytest

from nnet.kernels.recurrence.gpu.text import KernelText
from tools.recurrence_layers import composed_lstm, gru, lstm

SCRIPT = """
import sys
from tools.ahead_of_time import assembly
print(assembly("recurrence.gru_forward", int(sys.argv[1])))
"""


@pytest.fixture(scope="module", params=[80, 90])
def text(request):
    """PTX; made by a process where nothing is interpreted."""
    command = [sys.executable, "-c", SCRIPT, str(request.param)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def memory_operations(text):
    """Instructions of barriers and of global memory, in order."""
    lines = (line.strip() for line in text.splitlines())
    wanted = re.compile(r"(@%p\d+ )?(bar\.sync|atom\.|ld\.global|st\.global|red\.)")
    return [line for line in lines if wanted.match(line)]


def test_a_program_counts_itself_when_all_its_threads_have_written(text):
    found = memory_operations(text)
    counts = [n for n, line in enumerate(found) if "atom." in line]
    assert len(counts) == 3  # a stage each
    for n in counts:
        assert "atom.global.gpu.acq_rel.add" in found[n]
        assert found[n - 1].startswith("bar.sync")


def test_waiting_is_reading_for_the_whole_device(text):
    found = memory_operations(text)
    polls = [n for n, line in enumerate(found) if "acquire" in line]
    assert len(polls) == 3
    for n in polls:
        assert "ld.global.gpu.acquire" in found[n]
        assert all(line.startswith("bar.sync") for line in (found[n - 1], found[n + 1]))
        after = found[n + 1 :]
        others = [i for i, line in enumerate(after) if not line.startswith("bar.sync")]
        assert others[:1] >= [2] or not others  # all know what was read, and then all go on


def test_what_others_have_written_is_read_past_the_first_cache(text):
    assert any("ld.global.cg" in line for line in memory_operations(text))
    for layer in (lstm(8, 4, 4), gru(8, 4, 4, normalized=True), composed_lstm(8, 4, 4)):
        both = layer.both()
        for way in (both.forward, both.backward):
            lines = KernelText(way.program, 2).make().splitlines()
            reads = [line for line in lines if re.search(r"\b[bp]\d+ \+ at", line)]
            allowed = ("tile(", "numbers(", "summed(", "put(", "tl.store(")
            assert reads
            assert all(any(name in line for name in allowed) for line in reads)


def test_nothing_waits_that_is_alone(text):
    """Programs that have a row to themselves skip the meeting: the branch is around all of it."""
    before = text[: text.index("atom.global")]
    assert re.search(r"@%p\d+ bra", before)
