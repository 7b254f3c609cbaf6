"""espeak-ng through ctypes: text in, samples and exact phone times out.

The library and its voices come from PyPI's `espeakng-loader`. Declarations follow espeak-ng's
`speak_lib.h`. The library keeps one global state (flutter, echo, random numbers), so what it says
depends on what it said before: whoever wants the same samples twice starts from a fresh process.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np

from nnet.errors import NnetError

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_UTF8 = 1
_END_PAUSE = 0x1000
_EVENT_END_OF_LIST = 0
_EVENT_PHONEME = 7
_PARAMETERS = {"rate": 1, "pitch": 3, "pitch_range": 4}


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT; `sample` counts samples from the start of the text."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Voice:
    """A way of speaking.

    name: an espeak-ng voice, with a variant after a plus (`en-us+f2`). rate: words a minute.
    pitch, pitch_range: 0 to 99.
    """

    name: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50


@dataclass(frozen=True)
class Speech:
    """samples: `(count,)` int16. mnemonics[i] begins at sample starts[i]."""

    samples: np.ndarray
    mnemonics: list[str]
    starts: list[int]


class Espeak:
    """The library, ready to speak. `rate` is its sampling rate in Hz. A process may hold only one.

    `seed` starts its random numbers (breath, roughness), which would otherwise differ each time.
    """

    def __init__(self, seed: int) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
        self.rate: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data.encode(), _PHONEME_EVENTS
        )
        if self.rate <= 0:
            raise NnetError(
                f"espeak-ng found no voice data in {data}: reinstall the package espeakng-loader"
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._voices = Path(data) / "voices" / "!v"
        self._blocks: list[np.ndarray] = []
        self._phonemes: list[tuple[str, int]] = []
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: Voice) -> Speech:
        """Says `text`. Raises NnetError for a voice that espeak-ng does not have."""
        variant = voice.name.partition("+")[2]  # espeak-ng ignores a variant that it does not have
        known = not variant or (self._voices / variant).is_file()
        if not known or self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise NnetError(
                f"espeak-ng has no voice named {voice.name!r}; choose one such as en-us or en-us+f2"
            )
        for name, code in _PARAMETERS.items():
            self._library.espeak_SetParameter(code, getattr(voice, name), 0)
        self._blocks.clear()
        self._phonemes.clear()
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            encoded, len(encoded), 0, 1, 0, _UTF8 | _END_PAUSE, None, None
        )
        if status != 0 or not self._blocks:
            raise NnetError(
                f"espeak-ng could not say {text!r} (status {status}); expected a sentence of words"
            )
        mnemonics, starts = zip(*self._phonemes, strict=True)
        return Speech(np.concatenate(self._blocks), list(mnemonics), list(starts))

    def _receive(self, block: Any, count: int, events: Any) -> int:
        """The callback: `block` points to `count` samples, `events` to a list of _Event."""
        if block and count > 0:
            self._blocks.append(np.ctypeslib.as_array(block, (count,)).copy())
        position = 0
        while events[position].type != _EVENT_END_OF_LIST:
            event = events[position]
            if event.type == _EVENT_PHONEME:
                self._phonemes.append((event.id.string.decode(), event.sample))
            position += 1
        return 0
