"""What LF-MMI needs beside the data, in a folder under the names that Kaldi's recipes use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnet.data.chain.den_graph import denominator_graph, normalization_graph
from nnet.data.chain.expansion import PhoneHmms
from nnet.errors import NnetError
from nnet.fst.compose import Composer
from nnet.modelfile.fst import Fst, read_fst_file, write_fst_file
from nnet.modelfile.loading import open_file
from nnet.modelfile.transitions import (
    TransitionModel,
    read_transition_model,
    write_transition_model,
)
from nnet.modelfile.trees import ContextDependency, read_tree, write_tree
from nnet.modelfile.writing import BinaryWriter, save_bytes

TREE, TRANSITIONS = "tree", "0.trans_mdl"
PHONE_LM, DEN, NORMALIZATION = "phone_lm.fst", "den.fst", "normalization.fst"


@dataclass(frozen=True)
class ChainGraphs:
    """A tree, a transition model and the graphs made from them and a phone language model."""

    tree: ContextDependency
    transition_model: TransitionModel
    phone_lm: Fst
    den: Fst
    normalization: Fst

    @staticmethod
    def make(
        tree: ContextDependency, transition_model: TransitionModel, phone_lm: Fst
    ) -> ChainGraphs:
        """The graphs of a phone language model.

        Raises:
            NnetError: tree, transition model and language model do not belong together.
        """
        den = denominator_graph(phone_lm, PhoneHmms(transition_model, tree))
        return ChainGraphs(tree, transition_model, phone_lm, den, normalization_graph(den))

    @staticmethod
    def read(folder: str | os.PathLike[str]) -> ChainGraphs:
        """Reads a folder that `write` has written, or one of Kaldi's with these files.

        Raises:
            NnetError: a file is missing or damaged.
        """
        path = Path(folder)
        names = (TREE, TRANSITIONS, PHONE_LM, DEN, NORMALIZATION)
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise NnetError(
                f"{path} has no {' and no '.join(missing)}; expected: a folder that "
                "'nnet chain-prepare' has made"
            )
        return ChainGraphs(
            read_tree(open_file(path / TREE)),
            read_transition_model(open_file(path / TRANSITIONS)),
            *(read_fst_file(path / name) for name in (PHONE_LM, DEN, NORMALIZATION)),
        )

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Writes all files; the folder is made if it is not there."""
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NnetError(f"{path}: cannot make this folder: {error.strerror}") from None
        tree, transitions = BinaryWriter(), BinaryWriter()
        write_tree(tree, self.tree)
        write_transition_model(transitions, self.transition_model)
        save_bytes(bytes(tree), path / TREE)
        save_bytes(bytes(transitions), path / TRANSITIONS)
        for name, fst in (
            (PHONE_LM, self.phone_lm),
            (DEN, self.den),
            (NORMALIZATION, self.normalization),
        ):
            write_fst_file(fst, path / name)

    @property
    def num_pdfs(self) -> int:
        return self.transition_model.num_pdfs

    @cached_property
    def hmms(self) -> PhoneHmms:
        return PhoneHmms(self.transition_model, self.tree)

    @cached_property
    def normalizer(self) -> Composer:
        """Composes with the normalization graph."""
        return Composer(self.normalization)
