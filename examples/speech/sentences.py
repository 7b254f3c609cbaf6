"""Sentences of a small grammar, so that every phone is met in many neighbourhoods."""

import random
from pathlib import Path

PATTERNS = (
    "The {adjective} {noun} {past} the {noun} {preposition} the {noun}.",
    "{name} {past} {number} {adjective} {plural} {time}.",
    "Did {name} {verb} the {adjective} {noun} {time}?",
    "{name} and {name} {adverb} {past} one {adjective} {noun}.",
    "Please {verb} the {noun}, then {verb} my {adjective} {noun}.",
    "My {noun} is {adjective}, but your {noun} looks {adjective}.",
    "{adverb}, the {noun} {past} {number} {plural}.",
    "They could {adverb} {verb} our {noun} {preposition} the {adjective} {noun}.",
    "Who {past} this {adjective} {noun} {preposition} the {noun}?",
    "We should {verb} every {noun}, {name}.",
    "{number} {plural} and one {noun} are {preposition} the {noun}.",
    "I was {adverb} {adjective} when {name} {past} that {noun}.",
    "How would you {verb} {number} {adjective} {plural}?",
    "The {noun} {past} us {time}, so {name} {past} the {noun}.",
)

VOCABULARY = Path(__file__).with_name("vocabulary.txt")


def sentences(count: int, seed: int) -> list[str]:
    """Returns `count` distinct sentences; the same seed gives the same list."""
    draw = _Draw(random.Random(seed), _vocabulary())
    found: dict[str, None] = {}
    while len(found) < count:
        text = draw.generator.choice(PATTERNS).format_map(draw)
        found[text[0].upper() + text[1:]] = None
    return list(found)


def plural(noun: str) -> str:
    """The plural of a regular noun."""
    if noun.endswith(("ch", "sh", "s", "x", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + "s"


def _vocabulary() -> dict[str, list[str]]:
    """The words of each category. In the file a blank line ends a category: `name: word, word`."""
    words = {}
    for block in VOCABULARY.read_text().split("\n\n"):
        category, listed = block.split(":")
        words[category] = [" ".join(word.split()) for word in listed.split(",")]
    return words | {"plural": [plural(noun) for noun in words["noun"]]}


class _Draw(dict[str, str]):
    """Answers each `{category}` of a pattern with another random word of that category."""

    def __init__(self, generator: random.Random, vocabulary: dict[str, list[str]]) -> None:
        super().__init__()
        self.generator = generator
        self._vocabulary = vocabulary

    def __missing__(self, category: str) -> str:
        return self.generator.choice(self._vocabulary[category])
