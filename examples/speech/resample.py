"""Change of sampling rate by a polyphase windowed-sinc filter."""

from functools import lru_cache
from math import ceil, gcd

import numpy as np

_ZERO_CROSSINGS = 24
_ROLLOFF = 0.94
_KAISER_BETA = 9.0


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns `samples` `(count,)`, taken at `rate` Hz, as float64 at `new_rate` Hz.

    The result has ceil(count * new_rate / rate) samples. Band-limited interpolation (J. O. Smith,
    "Digital Audio Resampling"): output n is the input around time n / new_rate, weighted by a
    Kaiser-windowed sinc whose cutoff is 94 % of the lower Nyquist frequency; its stop band lies
    about 90 dB down.
    """
    common = gcd(rate, new_rate)
    down, up = rate // common, new_rate // common
    filters = _filters(up, down)
    width = filters.shape[1]
    positions = np.arange(ceil(len(samples) * up / down)) * down
    padded = np.pad(np.asarray(samples, dtype=np.float64), width // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    return np.einsum("nw,nw->n", windows[positions // up], filters[positions % up])


@lru_cache
def _filters(up: int, down: int) -> np.ndarray:
    """`(up, width)`: a filter for each place of an output sample between two input samples."""
    cutoff = _ROLLOFF * min(1.0, up / down)  # in units of the input's Nyquist frequency
    half = ceil(_ZERO_CROSSINGS / cutoff)
    offsets = (
        np.arange(-half, half + 1)[None, :] - np.arange(up)[:, None] / up
    )  # [up, width], in input samples
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offsets / (half + 1)) ** 2, 0, 1))) / np.i0(
        _KAISER_BETA
    )
    filters = cutoff * np.sinc(cutoff * offsets) * window
    return filters / filters.sum(axis=1, keepdims=True)
