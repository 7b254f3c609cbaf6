"""Systems that recognise phones: outputs of a network, and the HMMs that they are the pdfs of."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from examples.chain.decoding import Recogniser, smoothed_bigrams
from examples.chain.errors import Errors, errors
from examples.chain.networks import SUBSAMPLING
from examples.chain.networks import outputs as chain_outputs
from examples.chain.phones import PhoneTables
from examples.speech.experiment import Experiment
from examples.speech.networks import TDNNF, compute, train
from nnet.data.chain.folder import ChainGraphs
from nnet.data.phone_alignments import read_integers
from nnet.data.tables import read_table
from nnet.modelfile.transition_ids import make_transition_model
from nnet.modelfile.transitions import NO_PDF, HmmState, Topology, TransitionModel
from nnet.modelfile.trees import ContextDependency, monophone_tree

SHORTEST_PHONE = 3  # frames, at the rate of the features
LM_SCALES = (0.3, 0.6, 1.0)
ACOUSTIC_SCALES = (0.2, 0.35, 0.6, 1.0, 1.5)
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class System:
    """A trained network. `outputs` gives log-likelihoods, up to what all pdfs of a frame share."""

    title: str
    model: Path
    transition_model: TransitionModel
    tree: ContextDependency
    outputs: Callable[[str], Outputs]
    frames_per_output: int


@dataclass(frozen=True)
class Recognised:
    """What a system recognised in the test split, with the scales that were best in validation."""

    system: System
    lm_scale: float
    acoustic_scale: float
    phones: dict[str, list[int]]
    outputs: Outputs
    speakers: dict[str, Errors]

    @property
    def errors(self) -> Errors:
        return sum(self.speakers.values(), Errors())


def lfmmi(title: str, model: Path, graphs: ChainGraphs, tables: PhoneTables) -> System:
    """A network trained with LF-MMI: two pdfs a phone, its first output frame and all others."""
    outputs = partial(chain_outputs, model, tables)
    return System(title, model, graphs.transition_model, graphs.tree, outputs, SUBSAMPLING)


def frame_hmms(count: int) -> tuple[TransitionModel, ContextDependency]:
    """One pdf a phone, which lasts at least three frames; phone p has the pdf p - 1."""
    states = tuple(HmmState(0, 0, ((n, 0.5), (n + 1, 0.5))) for n in range(SHORTEST_PHONE))
    phones = tuple(range(1, count + 1))
    topology = Topology(
        phones, (-1, *(0 for _ in phones)), ((*states, HmmState(NO_PDF, NO_PDF, ())),)
    )
    tree = monophone_tree(dict.fromkeys(phones, 1))
    return make_transition_model(topology, tree), tree


def frame_level(experiment: Experiment, folder: Path, epochs: int) -> System:
    """Trains a TDNN-F towards the phone of each frame, as examples.speech does."""
    data = experiment.data
    model = train(TDNNF, data, folder, replace(experiment.schedule, epochs=epochs))

    def outputs(split: str) -> Outputs:
        return less_priors(compute(model, data, split), data.alignments("train"))

    hmms = frame_hmms(len(data.labels))
    return System("cross-entropy of frames", model, *hmms, outputs, 1)


def less_priors(log_posteriors: Outputs, alignments: Outputs) -> Outputs:
    """Log-likelihoods from log posteriors: less the log of how often each label occurs."""
    labels = np.concatenate(list(alignments.values()))
    count = next(iter(log_posteriors.values())).shape[1]
    priors = (np.bincount(labels, minlength=count) + 1) / (len(labels) + count)
    return {name: each - np.log(priors) for name, each in log_posteriors.items()}


def recognise(system: System, tables: PhoneTables) -> Recognised:
    """Chooses the scales of language model and outputs on the validation split, then recognises
    the test split."""
    count = len(tables.data.labels)
    sequences = [s.tolist() for _, s in read_table(tables.of_all_but_test("phones"), read_integers)]

    def recogniser(lm_scale: float) -> Recogniser:
        lm = smoothed_bigrams(sequences, range(1, count + 1), lm_scale)
        return Recogniser.of(lm, system.transition_model, system.tree)

    valid, said = system.outputs("valid"), spoken(tables, "valid")
    recognisers = {scale: recogniser(scale) for scale in LM_SCALES}

    def valid_errors(scales: tuple[float, float]) -> float:
        found = {n: recognisers[scales[0]].phones(scales[1] * each) for n, each in valid.items()}
        return sum((errors(said[n], found[n], tables.silence) for n in said), Errors()).percent

    lm_scale, acoustic_scale = min(product(LM_SCALES, ACOUSTIC_SCALES), key=valid_errors)
    outputs = system.outputs("test")
    best = recognisers[lm_scale]
    phones = {name: best.phones(acoustic_scale * each) for name, each in outputs.items()}
    by_speaker: dict[str, Errors] = defaultdict(Errors)
    said = spoken(tables, "test")
    for name, speaker in tables.data.speakers("test").items():
        by_speaker[speaker] += errors(said[name], phones[name], tables.silence)
    return Recognised(system, lm_scale, acoustic_scale, phones, outputs, dict(by_speaker))


def spoken(tables: PhoneTables, split: str) -> dict[str, list[int]]:
    """The phones that were spoken in each utterance."""
    return {n: s.tolist() for n, s in read_table(tables.transcripts(split), read_integers)}
