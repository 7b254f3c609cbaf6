"""Who speaks: variants of espeak-ng's American voice, each with a pitch and a rate of its own.

No variant is in two splits. Those with an echo are left out, because their pauses are not silent,
and so are whispers and robots.
"""

from dataclasses import dataclass

import numpy as np

from examples.speech.espeak import Voice

VARIANTS = {
    "train": "Alex Andrea Annie Diogo Gene Hugo Lee Mario Mike Nguyen Storm anika antonio boris "
    "croak ed f1 grandma gustave ian iven john linda m1 m4 m6 m7 m8 max miguel norbert paul pedro "
    "plain quincy rob robert sandro travis victor zac",
    "valid": "Denis belinda m5",
    "test": "Michael aunty m3 marcelo shelby steph",
}

_LANGUAGE = "en-us"
_WITHOUT_VARIANT = "plain"


@dataclass(frozen=True)
class Speaker:
    name: str
    split: str
    voice: Voice


def speakers(seed: int) -> list[Speaker]:
    """Every speaker of every split; pitch and rate (words a minute) are drawn from `seed`."""
    generator = np.random.default_rng(seed)
    return [
        Speaker(variant.lower(), split, _voice(variant, generator))
        for split, variants in VARIANTS.items()
        for variant in variants.split()
    ]


def _voice(variant: str, generator: np.random.Generator) -> Voice:
    return Voice(
        name=_LANGUAGE if variant == _WITHOUT_VARIANT else f"{_LANGUAGE}+{variant}",
        rate=int(generator.integers(150, 206)),
        pitch=int(generator.integers(30, 71)),
        pitch_range=int(generator.integers(40, 71)),
    )
