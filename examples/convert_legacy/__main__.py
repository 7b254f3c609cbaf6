"""python -m examples.convert_legacy: an nnet1 network becomes an nnet3 one, learns, goes to ONNX.

The network is made here: a prototype with random hidden layers, whose output layer is fitted to
the data by least squares. The data are sequences of a few sounds, each a spectrum with noise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from examples.speech.__main__ import Parser, status, whole
from nnet.commands.main import main as command
from nnet.converters.nnet1.affine import AffineTransform
from nnet.converters.nnet1.model import Nnet1, build_nnet1, forward, nnet1_bytes
from nnet.data.matrices import read_vector_or_matrix
from nnet.data.tables import read_table
from nnet.data.writers import AlignmentWriter, MatrixWriter
from nnet.errors import NnetError

SOUNDS, DIM, HIDDEN = 6, 20, 48

PROTOTYPE = f"""<NnetProto>
<Splice> <InputDim> {DIM} <OutputDim> {5 * DIM} <BuildVector> -2:2 </BuildVector>
<AffineTransform> <InputDim> {5 * DIM} <OutputDim> {HIDDEN} <BiasRange> 1 <ParamStddev> 0.05
<Sigmoid> <InputDim> {HIDDEN} <OutputDim> {HIDDEN}
<AffineTransform> <InputDim> {HIDDEN} <OutputDim> {HIDDEN} <BiasMean> 0 <ParamStddev> 0.3
<Tanh> <InputDim> {HIDDEN} <OutputDim> {HIDDEN}
<AffineTransform> <InputDim> {HIDDEN} <OutputDim> {SOUNDS} <ParamStddev> 0.1
<Softmax> <InputDim> {SOUNDS} <OutputDim> {SOUNDS}
</NnetProto>
"""

Corpus = dict[str, tuple[np.ndarray, np.ndarray]]
"""Features (frames, DIM) and sounds (frames,) by utterance."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the example. Returns 0, or 1 after one line that says what is wrong."""
    return status("convert_legacy", lambda: run(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m examples.convert_legacy", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("exp/convert_legacy"), help="[%(default)s]"
    )
    parser.add_argument(
        "--epochs", type=whole(1), default=6, help="of further training [%(default)s]"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    out, epochs = options.out, options.epochs
    """All steps; writes every file to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    spectra = rng.normal(0.0, 1.0, (SOUNDS, DIM))
    training, unseen = (make_corpus(spectra, rng, count) for count in (60, 20))
    write_tables(training, out / "train")
    write_tables(unseen, out / "test")

    print("An nnet1 network, as nnet1 writes it: final.nnet")
    network = make_network(training, rng)
    (out / "final.nnet").write_bytes(nnet1_bytes(network))
    legacy = {name: forward(network, rows)[-1] for name, (rows, _) in unseen.items()}
    print(f"  nnet1's formulas, unseen utterances: {accuracy(legacy, unseen):.1%} of frames right")

    print("Converted to nnet3: 0.raw")
    call("convert", out / "final.nnet", out / "0.raw", "--log-softmax", "true")
    converted = outputs(out / "0.raw", out / "test")
    error = max(
        float(np.abs(np.exp(converted[name]) - rows).max()) for name, rows in legacy.items()
    )
    print(f"  largest difference of a posterior: {error:.1e}")

    print(f"Trained for {epochs} epochs more: trained/final.raw")
    data = "--feats", f"ark:{out}/train.feats", "--targets", f"ark:{out}/train.ali"
    call("train", out / "0.raw", out / "trained", *data, "--num-epochs", epochs)
    trained = outputs(out / "trained/final.raw", out / "test")
    print(f"  unseen utterances: {accuracy(trained, unseen):.1%} of frames right")

    print("Exported: final.onnx")
    call("convert", out / "trained/final.raw", out / "final.onnx", "--to", "onnx")
    exported = onnx_outputs(out / "final.onnx", unseen)
    if exported:
        error = max(float(np.abs(exported[name] - trained[name]).max()) for name in trained)
        print(f"  largest difference of a log-posterior in onnxruntime: {error:.1e}")


def make_corpus(spectra: np.ndarray, rng: np.random.Generator, count: int) -> Corpus:
    """Utterances of a few sounds each, every sound some frames long, in strong noise."""
    corpus = {}
    for number in range(count):
        lengths = rng.integers(4, 12, rng.integers(5, 15))
        sounds = np.repeat(rng.integers(0, SOUNDS, len(lengths)), lengths)
        rows = spectra[sounds] + rng.normal(0.0, 2.2, (len(sounds), DIM))
        corpus[f"utt{number:03}"] = rows.astype(np.float32), sounds.astype(np.int32)
    return corpus


def write_tables(corpus: Corpus, stem: Path) -> None:
    """Kaldi tables: `STEM.feats` and `STEM.ali`."""
    with MatrixWriter(f"ark:{stem}.feats") as feats, AlignmentWriter(f"ark:{stem}.ali") as ali:
        for name, (rows, sounds) in corpus.items():
            feats.write(name, rows)
            ali.write(name, sounds)


def make_network(corpus: Corpus, rng: np.random.Generator) -> Nnet1:
    """A network whose last matrix is fitted by least squares."""
    network = build_nnet1(PROTOTYPE, "prototype", rng)
    hidden = np.concatenate([forward(network[:-2], rows)[-1] for rows, _ in corpus.values()])
    sounds = np.concatenate([sounds for _, sounds in corpus.values()])
    wanted = 6.0 * np.eye(SOUNDS)[sounds]
    columns = np.column_stack((hidden, np.ones(len(hidden))))
    fitted = np.linalg.lstsq(columns, wanted, rcond=None)[0].T.astype(np.float32)
    last = network[-2]
    assert isinstance(last, AffineTransform)
    last.linear, last.bias = np.ascontiguousarray(fitted[:, :-1]), fitted[:, -1].copy()
    return network


def call(*words: object) -> None:
    """A command of nnet, as from the shell.

    Raises:
        NnetError: it has failed, and has said why.
    """
    print(f"  $ nnet {' '.join(map(str, words))}")
    try:
        command([str(word) for word in words])
    except SystemExit as end:
        if end.code:
            raise NnetError(f"nnet {words[0]} has failed") from None


def outputs(model: Path, data: Path) -> dict[str, np.ndarray]:
    """What `nnet compute` makes of a table of features."""
    target = f"ark:{model}.{data.name}.ark"
    call("compute", model, f"ark:{data}.feats", target)
    return dict(read_table(target, read_vector_or_matrix))


def onnx_outputs(model: Path, corpus: Corpus) -> dict[str, np.ndarray]:
    """What onnxruntime makes of it; nothing if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        print("  (onnxruntime is not installed: pip install onnxruntime)")
        return {}
    session = onnxruntime.InferenceSession(model)
    return {
        name: session.run(["output"], {"input": rows[None]})[0][0]
        for name, (rows, _) in corpus.items()
    }


def accuracy(results: dict[str, np.ndarray], corpus: Corpus) -> float:
    """The share of frames whose largest output is the right sound's."""
    right = [results[name].argmax(axis=1) == sounds for name, (_, sounds) in corpus.items()]
    return float(np.concatenate(right).mean())


if __name__ == "__main__":
    sys.exit(main())
