"""Which language a text is in, before it is parsed."""

from __future__ import annotations

import re

CONFIG_WORDS = ("input-node", "component", "component-node", "output-node", "dim-range-node")
"""The first words of a config's lines."""

_FIRST_WORD = re.compile(r"(?:\s*#[^\n]*\n)*\s*([^\s#]*)")


def is_config(text: str) -> bool:
    """Whether a text is a config, and not an xconfig, by its first word."""
    found = _FIRST_WORD.match(text)
    return found is not None and found[1] in CONFIG_WORDS
