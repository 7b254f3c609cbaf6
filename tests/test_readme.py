"""The README's Python example runs as it is written."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example.replace("/tmp", str(tmp_path)), str(README), "exec"), {})
    assert (tmp_path / "net.raw").exists()
    assert "TimeRange(start=0, count=50, step=3)" in capsys.readouterr().out
