"""The networks that are compared, each trained and run by nnet's commands."""

import shutil
from pathlib import Path

import kaldiio
import numpy as np

import nnet
from examples.chain.phones import PhoneTables
from examples.speech.networks import run_nnet, with_output_dim
from nnet.data.chain.folder import DEN, ChainGraphs
from nnet.graph.context import context

XCONFIG = Path(__file__).parents[2] / "configs" / "tdnnf_chain_small.xconfig"
SUBSAMPLING = 3
MINIBATCH = "8"
LEARNING_RATES = ("--initial-effective-lrate", "0.002", "--final-effective-lrate", "2e-5")


def prepare(tables: PhoneTables, folder: Path) -> ChainGraphs:
    """The graphs for LF-MMI: of bigrams, because with few data most trigrams are never seen."""
    run_nnet(
        "chain-prepare", str(folder), "--phones", tables.of_all_but_test("phones"),
        "--ngram-order", "3", "--no-prune-ngram-order", "2", "--num-extra-lm-states", "500",
    )  # fmt: skip
    return ChainGraphs.read(folder)


def train_from_alignments(tables: PhoneTables, graphs: Path, folder: Path, epochs: int) -> Path:
    """Trains on chunks, whose supervision lets phones move a little; returns the model file."""
    return _train(
        folder, graphs, epochs,
        "--feats", tables.data.features("train"), "--targets", tables.aligned("train"),
        "--valid-feats", tables.data.features("valid"), "--valid-targets", tables.aligned("valid"),
        "--minibatch-size", MINIBATCH, "--apply-deriv-weights",
    )  # fmt: skip


def train_from_transcripts(tables: PhoneTables, graphs: Path, folder: Path, epochs: int) -> Path:
    """Trains on whole utterances of which only the phones are known, not when they were spoken
    (Hadian et al. 2018, "End-to-end speech recognition using lattice-free MMI")."""
    folder.mkdir(parents=True, exist_ok=True)
    left, right = context(nnet.build(xconfig(graphs), rng=np.random.default_rng(0)))
    egs = {split: folder / f"{split}.egs" for split in ("train", "valid")}
    for split, path in egs.items():
        run_nnet(
            "chain-get-egs", str(graphs), tables.data.features(split), tables.transcripts(split),
            f"ark:{path}", "--transcripts",
            "--left-context", str(left), "--right-context", str(right),
        )  # fmt: skip
    return _train(
        folder, graphs, epochs,
        "--egs", f"ark:{egs['train']}", "--valid-egs", f"ark:{egs['valid']}",
        "--egs-minibatch-size", "1:8", "--optimizer", "adamw",
    )  # fmt: skip


def _train(folder: Path, graphs: Path, epochs: int, *data: str) -> Path:
    """Trains the recipe; what an earlier run of the example left in `folder` is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    network = folder / "network.xconfig"
    network.write_text(xconfig(graphs))
    run_nnet(
        "train", str(network), str(folder), "--den-fst", str(graphs / DEN),
        "--num-epochs", str(epochs), *LEARNING_RATES, *data,
    )  # fmt: skip
    return folder / "final.raw"


def xconfig(graphs: Path) -> str:
    """The recipe for the pdfs of the graphs."""
    return with_output_dim(XCONFIG.read_text(), ChainGraphs.read(graphs).num_pdfs)


def outputs(model: Path, tables: PhoneTables, split: str) -> dict[str, np.ndarray]:
    """The outputs `(output frames, pdfs)` of each utterance, which need no priors."""
    path = model.parent / f"{split}.ark"
    run_nnet(
        "compute", str(model), tables.data.features(split), f"ark:{path}",
        "--frames-per-chunk", "150", "--frame-subsampling-factor", str(SUBSAMPLING),
    )  # fmt: skip
    return dict(kaldiio.load_ark(str(path)))
