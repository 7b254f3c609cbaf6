"""docs/performance.md is what the committed results say."""

import json
from pathlib import Path

from benchmarks.report import PAGE, page

FOLDER = Path(__file__).parents[2] / "benchmarks"

PROGRAM = '''"""Speed of a thing.

Against another thing.

    python -m benchmarks.thing
"""
if __name__ == "__main__":
    pass
'''


def test_the_page_is_current():
    assert PAGE.read_text() == page(FOLDER), "run python -m benchmarks.report"


def test_rows_of_times_have_ratio_and_bound(tmp_path):
    (tmp_path / "thing.py").write_text(PROGRAM)
    (tmp_path / "results").mkdir()
    names = ("subject", "shape", "threads", "ours", "peer", "theirs", "ratio", "bound")
    values = ("x", "3 x 4", 1, 0.25, "y", 0.5, 2.0, "memory")
    row = dict(zip(names, values, strict=True)) | {"bound_seconds": 0.0125}
    content = {"machine": {"cpu": "C"}, "share": {"a": {"of_peak": 0.51234}}, "rows": [row]}
    (tmp_path / "results" / "thing_1.json").write_text(json.dumps(content))
    text = page(tmp_path)
    assert "## Speed of a thing\n\n`python -m benchmarks.thing`\n\nAgainst another thing." in text
    assert "| x | 3 x 4 | 1 | 250 ms | y | 500 ms | **2.00** | memory, 12.5 ms |" in text
    assert "| share | of peak |\n| --- | --- |\n| a | 0.512 |" in text


def test_what_has_no_results_was_not_measured(tmp_path):
    (tmp_path / "thing.py").write_text(PROGRAM)
    (tmp_path / "shared.py").write_text('"""No program."""\n')
    text = page(tmp_path)
    assert text.endswith("Against another thing.\n\nNot measured.\n")
    assert "shared" not in text
