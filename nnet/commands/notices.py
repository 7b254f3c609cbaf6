"""What commands say of where they run, in one line on standard error."""

from __future__ import annotations

import sys


def say_if_slow(device: str = "cpu") -> None:
    """Says that plain torch computes where native code is not at hand, and what it costs."""
    from nnet.kernels.implementation import native_is_available

    if device == "cpu" and not native_is_available():
        print(
            "nnet: warning: native code is not at hand here, so plain torch computes: inference "
            "takes up to twice, training of recurrent networks up to five times as long",
            file=sys.stderr,
        )
