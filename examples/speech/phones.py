"""The phones: ARPAbet with r-coloured vowels, and how espeak-ng's American English maps to them.

espeak-ng writes allophones. These are folded into a neighbour because they are rare or cannot be
told apart by ear:

    ;              the short glide of "new", "use"              Y
    t#             the flap of "better"                         D
    t2             a released t before a pause                  T
    r-             r between vowels                             R
    @ @2 a#        schwas of "about", "the", "a"                AX
    I I2 I#        "bit" and its unstressed forms               IH
    aa             "bath"                                       AE
    3 3:           "better", "bird"                             ER
    o@ U@          "shore", "sure", merged in many accents      AOR
    i@ i@3         "museum", "near"                             IHR
    aI@ aI3        "science", "fire"                            AY
"""

from examples.speech.utterance import SILENCE
from nnet.errors import NnetError

OF_ESPEAK = {
    "AA": "0 A:",
    "AAR": "A@",
    "AE": "a aa",
    "AH": "V",
    "AO": "O: O2",
    "AOR": "O@ o@ U@",
    "AW": "aU",
    "AX": "@ @2 a#",
    "AY": "aI aI@ aI3",
    "B": "b",
    "CH": "tS",
    "D": "d t#",
    "DH": "D",
    "EH": "E",
    "EHR": "e@",
    "EL": "@L",
    "ER": "3 3:",
    "EY": "eI",
    "F": "f",
    "G": "g",
    "HH": "h",
    "IH": "I I2 I#",
    "IHR": "i@ i@3",
    "IY": "i i:",
    "JH": "dZ",
    "K": "k",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "N",
    "OW": "oU",
    "OY": "OI",
    "P": "p",
    "R": "r r-",
    "S": "s",
    "SH": "S",
    "T": "t t2",
    "TH": "T",
    "UH": "U",
    "UW": "u:",
    "V": "v",
    "W": "w",
    "Y": "j ;",
    "Z": "z",
    "ZH": "Z",
    SILENCE: "_ _: _! _|",
}

PHONES = (SILENCE, *sorted(phone for phone in OF_ESPEAK if phone != SILENCE))

CLASSES = {
    "pause": [SILENCE],
    "stops": ["P", "B", "T", "D", "K", "G", "CH", "JH"],
    "fricatives": ["F", "V", "TH", "DH", "S", "Z", "SH", "ZH", "HH"],
    "nasals": ["M", "N", "NG"],
    "glides": ["L", "EL", "R", "W", "Y"],
    "vowels": [
        "IY",
        "IH",
        "EY",
        "EH",
        "AE",
        "AX",
        "AH",
        "ER",
        "AA",
        "AO",
        "OW",
        "UH",
        "UW",
        "AY",
        "AW",
        "OY",
    ],
    "vowels with r": ["IHR", "EHR", "AAR", "AOR"],
}

CLOSED_BEFORE_RELEASE = frozenset(CLASSES["stops"])

_PHONE = {
    mnemonic: phone for phone, mnemonics in OF_ESPEAK.items() for mnemonic in mnemonics.split()
}

_STRESS = "',%=\""


def phone_of(mnemonic: str) -> str:
    """The phone of an espeak-ng mnemonic; stress marks in front of it are ignored."""
    bare = mnemonic.lstrip(_STRESS)
    if bare not in _PHONE:
        raise NnetError(
            f"espeak-ng gave the phone {mnemonic!r}, which examples/speech/phones.py does not "
            "know: use an American English voice (en-us), or add the phone to OF_ESPEAK"
        )
    return _PHONE[bare]
