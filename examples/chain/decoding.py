"""Phones recognised from a network's outputs, with an HMM graph of a phone language model."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import kaldi_decoder
import kaldifst
import numpy as np

from nnet.data.chain.expansion import PhoneHmms, expanded
from nnet.fst.states import acceptor
from nnet.modelfile.fst import Fst, write_fst_file
from nnet.modelfile.transitions import TransitionModel
from nnet.modelfile.trees import ContextDependency

BEAM = 14.0
EDGE = 0  # before the first phone and after the last
DISCOUNT = 0.5


def smoothed_bigrams(
    sequences: Iterable[Sequence[int]], phones: Sequence[int], scale: float
) -> Fst:
    """An acceptor of all phone sequences, with costs of bigrams times `scale`.

    Absolute discounting, interpolated with the frequencies of phones (Ney et al. 1994): unlike the
    language model of the denominator graph it accepts what was never seen.
    """
    pairs = Counter(
        pair for each in sequences for pair in zip((EDGE, *each), (*each, EDGE), strict=True)
    )
    symbols = [EDGE, *phones]
    counts = np.array([[pairs[a, b] for b in symbols] for a in symbols], np.float64)
    unigrams = (counts.sum(axis=0) + 1) / (counts.sum() + len(symbols))
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    freed = DISCOUNT * (counts > 0).sum(axis=1, keepdims=True)
    freed[freed == 0] = totals[freed == 0]
    costs = -scale * np.log((np.maximum(counts - DISCOUNT, 0) + freed * unigrams) / totals)
    states, count = np.arange(len(symbols)), len(phones)
    return acceptor(
        0,
        np.append(np.inf, costs[1:, 0]),
        np.repeat(states, count),
        np.tile(phones, len(symbols)),
        costs[:, 1:].reshape(-1),
        np.tile(states[1:], len(symbols)),
    )


@dataclass(frozen=True)
class Recogniser:
    """Finds the best phones for the outputs of a network.

    graph: its input labels are pdfs + 1, its output labels phones, where they begin.
    """

    graph: kaldifst.StdVectorFst

    @staticmethod
    def of(phone_lm: Fst, model: TransitionModel, tree: ContextDependency) -> "Recogniser":
        """A recogniser of the HMMs of a transition model and a tree."""
        hmms = PhoneHmms(model, tree)
        ids = hmms.ids
        enters = [state >= 0 and model.tuples[state][1] == 0 for state in ids.states.tolist()]
        phones = np.where(np.array(enters) & ~ids.is_self_loop, ids.phones, 0)
        graph = expanded(phone_lm, hmms, transition_scale=1.0)
        labels = graph.ilabels
        return Recogniser(
            openfst(replace(graph, ilabels=ids.pdfs[labels] + 1, olabels=phones[labels]))
        )

    def phones(self, log_likelihoods: np.ndarray) -> list[int]:
        """The best phones for `(frames, pdfs)`."""
        options = kaldi_decoder.FasterDecoderOptions(beam=BEAM)
        decoder = kaldi_decoder.FasterDecoder(self.graph, options)
        decoder.decode(kaldi_decoder.DecodableCtc(np.ascontiguousarray(log_likelihoods)))
        found, best = decoder.get_best_path()
        return kaldifst.get_linear_symbol_sequence(best)[2] if found else []


def openfst(fst: Fst) -> kaldifst.StdVectorFst:
    """The FST for OpenFst's functions."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "graph.fst")
        write_fst_file(fst, path)
        return kaldifst.StdVectorFst.read(path)
