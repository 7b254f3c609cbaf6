"""Values of options that several commands share."""

from __future__ import annotations

from nnet.errors import NnetError


def truth(option: str, text: str) -> bool:
    """A boolean in Kaldi's spelling, `--binary=false`."""
    from nnet.text.values import BadValue, boolean

    try:
        return boolean(text)
    except BadValue as error:
        raise NnetError(f"wrong value '{text}' for '{option}', expected {error}") from None
