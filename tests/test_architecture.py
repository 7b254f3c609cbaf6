"""docs/architecture.md shows what the package really makes of its example, and real folders."""

from __future__ import annotations

import re
from pathlib import Path

import nnet
from nnet.passes.base import run_passes
from nnet.passes.common_subexpressions import CommonSubexpressions
from nnet.passes.dead_values import DeadValues
from nnet.passes.pipeline import pipeline
from nnet.plan.dump import dump
from nnet.plan.ir import Plan
from nnet.plan.lower import lower
from nnet.xconfig import expand

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
BLOCKS = [re.sub(r"(?m)^ +", "", b) for b in re.findall(r"(?ms)^ *```\n(.*?)^ *```", PAGE)]
XCONFIG, CONFIG, LOWERED, FUSED = BLOCKS


def shown(text: str) -> set[str]:
    """The lines of a plan on the page."""
    return {line.replace("  ", " ") for line in text.splitlines()}


def dumped(plan: Plan) -> set[str]:
    """The lines of a plan's dump, without dimensions and origins."""
    lines = (line.split("  #")[0] for line in dump(plan).splitlines())
    return {re.sub(r"^(%\d+) +\d+ +", r"\1 ", line) for line in lines}


def test_the_config_lines_are_what_the_layer_makes() -> None:
    made = "\n".join(map(str, expand(nnet.parse_xconfig(XCONFIG, "net.xconfig")).final.lines))
    assert all(name in made for name in re.findall(r"type=(\w+)", CONFIG))


def test_the_plans_are_what_the_stages_make() -> None:
    network = nnet.build(XCONFIG)
    plan = lower(network, ("output",))
    first = run_passes(plan, (CommonSubexpressions(components=False), DeadValues()))
    assert shown(LOWERED) <= dumped(first)
    assert shown(FUSED) <= dumped(run_passes(plan, pipeline(test_mode=True)))


def test_the_folders_are_there() -> None:
    for folder in re.findall(r"(?m)^\| `([a-z_/]+)` \|", PAGE):
        assert (ROOT / folder).is_dir(), folder
