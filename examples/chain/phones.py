"""Phones of a data folder as tables: from 1 on, with their lengths or without."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.speech.tables import SPLITS, DataFolder
from examples.speech.utterance import SILENCE
from nnet.data.phone_alignments import PhoneAlignment, PhoneAlignmentWriter
from nnet.data.writers import AlignmentWriter


@dataclass(frozen=True)
class PhoneTables:
    """Where the tables of phones are; names of tables are Kaldi rspecifiers."""

    data: DataFolder
    path: Path

    @property
    def silence(self) -> int:
        """The phone of silence."""
        return self.data.labels.index(SILENCE) + 1

    def aligned(self, split: str) -> str:
        """Phones with lengths."""
        return f"ark:{self.path / split}.aligned"

    def transcripts(self, split: str) -> str:
        """Phones alone."""
        return f"ark:{self.path / split}.phones"

    def of_all_but_test(self, kind: str) -> str:
        """The phones of training and validation, `aligned` or `phones`, for the language model."""
        files = " ".join(str(self.path / f"{split}.{kind}") for split in ("train", "valid"))
        return f"ark:cat {files} |"


def write_phones(data: DataFolder, path: Path) -> PhoneTables:
    """Writes the tables of all splits: each stretch of frames with one label is a phone."""
    path.mkdir(parents=True, exist_ok=True)
    tables = PhoneTables(data, path)
    for split in SPLITS:
        with (
            PhoneAlignmentWriter(tables.aligned(split).replace("ark:", "ark,t:")) as aligned,
            AlignmentWriter(tables.transcripts(split).replace("ark:", "ark,t:")) as transcripts,
        ):
            for name, labels in data.alignments(split).items():
                alignment = alignment_of(labels)
                aligned.write(name, alignment)
                transcripts.write(name, alignment.phones.astype(np.int32))
    return tables


def alignment_of(labels: np.ndarray) -> PhoneAlignment:
    """The phones of frame labels `(frames,)` from 0."""
    ends = np.flatnonzero(np.append(np.diff(labels) != 0, True))
    return PhoneAlignment(labels[ends].astype(np.int64) + 1, np.diff(ends, prepend=-1))
