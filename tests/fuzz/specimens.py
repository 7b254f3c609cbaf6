"""Undamaged files of every kind, from the golden data, from which damaged ones are made."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
LARGEST = 40_000  # bytes

NETS = ("lstm", "gru_family", "attention", "resnet_image", "cnn_tdnnf", "stats_moving")


@functools.cache
def specimens(kind: str) -> Sequence[bytes]:
    """The specimens of a kind, at least one."""
    found = tuple(_FINDERS[kind]())
    assert found, f"there are no specimens of {kind}"
    return found


def kinds() -> list[str]:
    """All kinds that are fuzzed."""
    return list(_FINDERS)


def _files(*patterns: str) -> Callable[[], Sequence[bytes]]:
    def find() -> Sequence[bytes]:
        paths = sorted({path for pattern in patterns for path in GOLDEN.glob(pattern)})
        return [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST]

    return find


def _texts(*texts: str) -> Callable[[], Sequence[bytes]]:
    return lambda: [text.encode() for text in texts]


def _small_nets() -> Sequence[bytes]:
    """The golden recipes made small, so that a case takes little time."""
    from nnet.modelfile.model import model_bytes
    from nnet.modelfile.networks import build

    return [
        model_bytes(build((GOLDEN / "nets" / name / "net.xconfig").read_text()))
        for name in NETS
        if (GOLDEN / "nets" / name / "net.xconfig").exists()
    ]


def _models() -> Sequence[bytes]:
    return [
        *_files("components/*/init.raw", "components/*__trained/trained.raw")(),
        *(m for m in _small_nets() if len(m) <= 200_000),
    ]


def _as_text() -> Sequence[bytes]:
    from nnet.modelfile.model import model_bytes, read_model

    return [model_bytes(read_model(m), binary=False) for m in _models() if len(m) <= 10_000]


def _transitions(binary: bool) -> Callable[[], Sequence[bytes]]:
    def make() -> Sequence[bytes]:
        from nnet.modelfile.loading import open_file
        from nnet.modelfile.transitions import read_transition_model, write_transition_model
        from nnet.modelfile.writing import BinaryWriter, TextWriter

        made = []
        for name in ("mono.mdl", "mono_chain.mdl"):
            writer = BinaryWriter() if binary else TextWriter()
            model = read_transition_model(open_file(GOLDEN / "legacy/mdl" / name))
            write_transition_model(writer, model)
            made.append(bytes(writer))
        return made

    return make


def _trees(binary: bool) -> Callable[[], Sequence[bytes]]:
    def make() -> Sequence[bytes]:
        from nnet.modelfile.loading import open_file
        from nnet.modelfile.trees import left_biphone_tree, read_tree, write_tree
        from nnet.modelfile.writing import BinaryWriter, TextWriter

        trees = [read_tree(open_file(GOLDEN / "legacy/mdl/tree_chain"))]
        trees.append(left_biphone_tree({1: 2, 2: 2, 3: 2}, [1]))
        made = []
        for tree in trees:
            writer = BinaryWriter() if binary else TextWriter()
            write_tree(writer, tree)
            made.append(bytes(writer))
        return made

    return make


def _acceptors() -> Sequence[bytes]:
    from nnet.modelfile.fst import Fst, write_acceptor
    from nnet.modelfile.writing import BinaryWriter, TextWriter

    fst = Fst.of(4, [(0, 1, 0.5, 1), (0, 2, 0.0, 1), (1, 1, 0.0, 2), (2, 3, 1.5, 3)], {3: 0.25})
    made = []
    for writer in (BinaryWriter(), TextWriter()):
        write_acceptor(writer, fst)
        made.append(bytes(writer))
    return made


def _graph() -> Sequence[bytes]:
    from nnet.modelfile.fst import Fst, vector_bytes

    arcs = [(s, label, 0.7 + 0.1 * label, (s + label) % 4) for s in range(4) for label in (1, 2, 3)]
    return [vector_bytes(Fst.of(4, arcs, {0: 0.0, 2: 1.0}))]


def _tables(kind: str, binary: bool) -> Callable[[], Sequence[bytes]]:
    def make() -> Sequence[bytes]:
        from nnet.data.matrices import write_matrix, write_vector
        from nnet.data.posteriors import Posterior, write_alignment, write_posterior

        rng = np.random.default_rng(0)
        matrix = rng.standard_normal((5, 4)).astype(np.float32)
        ids = np.array([0, 1, 1, 3, 2], np.int32)
        posterior = Posterior.of([[(1, 0.5), (2, 0.5)], [], [(3, 1.0)]])
        makers: dict[str, list[Callable[[io.BytesIO], None]]] = {
            "mat": [lambda s: write_matrix(s, matrix, binary)],
            "vec": [lambda s: write_vector(s, matrix[0], binary)],
            "ids": [lambda s: write_alignment(s, ids + 1, binary)],
            "target": [
                lambda s: write_alignment(s, ids, binary),
                lambda s: write_posterior(s, posterior, binary),
                lambda s: write_matrix(s, matrix, binary),
            ],
        }
        made = []
        for write in makers[kind]:
            stream = io.BytesIO()
            for name in ("u1 ", "u2 "):
                stream.write(name.encode())
                write(stream)
            made.append(stream.getvalue())
        if kind == "mat" and binary:
            made.append(_compressed(matrix))
        return made

    return make


def _compressed(matrix: np.ndarray) -> bytes:
    from nnet.modelfile.compressed import compress

    parts = []
    for token in ("CM", "CM2", "CM3"):
        name, content = compress(np.tile(matrix, (3, 1)), token)
        parts.append(f"{token} ".encode() + b"\0B" + f"{name} ".encode() + content)
    return b"".join(parts)


def _phones(binary: bool) -> Callable[[], Sequence[bytes]]:
    def make() -> Sequence[bytes]:
        from nnet.data.phone_alignments import PhoneAlignment, _write_phone_alignment

        stream = io.BytesIO()
        for name in ("u ", "v "):
            stream.write(name.encode())
            alignment = PhoneAlignment(np.array([1, 4, 2]), np.array([6, 13, 1]))
            _write_phone_alignment(stream, alignment, binary)
        return [stream.getvalue()]

    return make


def _egs(binary: bool) -> Callable[[], Sequence[bytes]]:
    def make() -> Sequence[bytes]:
        from nnet.data.examples import write_one_example
        from nnet.data.posteriors import Posterior
        from nnet.modelfile.examples import Example, NnetIo, frame_indexes
        from nnet.modelfile.general_matrix import CompressedMatrix, FullMatrix, SparseMatrix

        values = np.arange(24, dtype=np.float32).reshape(6, 4)
        pdfs = Posterior.of([[(k % 3, 1.0)] for k in range(4)])
        sparse = SparseMatrix(5, pdfs.offsets, pdfs.ids, pdfs.weights)
        inputs = FullMatrix(values), CompressedMatrix.of(values)
        made = []
        for features in inputs:
            stream = io.BytesIO()
            for key in ("a ", "b "):
                example = Example(
                    (
                        NnetIo("input", frame_indexes(-1, 6), features),
                        NnetIo("output", frame_indexes(0, 4), sparse),
                    )
                )
                stream.write(key.encode())
                write_one_example(stream, example, binary)
            made.append(stream.getvalue())
        return made

    return make


def _cegs(binary: bool) -> Callable[[], Sequence[bytes]]:
    def make() -> Sequence[bytes]:
        from nnet.data.examples import read_objects, write_one_chain_example
        from nnet.modelfile.chain_examples import read_chain_example

        made = []
        for path in sorted(GOLDEN.glob("training/chain*/*egs*.ark"))[:2]:
            stream = io.BytesIO()
            for count, (key, example) in enumerate(read_objects(f"ark:{path}", read_chain_example)):
                stream.write(f"{key} ".encode())
                write_one_chain_example(stream, example, binary)
                if count:
                    break
            made.append(stream.getvalue())
        return made

    return make


STRINGS = _texts(
    "ark:foo.ark",
    "scp,p:foo.scp",
    "ark,scp:foo.ark,foo.scp",
    "ark:gunzip -c foo.gz |",
    "foo.ark:1234[0:9,3:5]",
    "Append(Offset(input, -2), ReplaceIndex(ivector, t, 0), input@-1, [-1])",
    "256=128,64:32/128=64:1",
)
SCRIPT = _texts("u1 a.ark:3\nu2 a.ark:3[0:2]\nu3 a.ark:3[0:1,1:2]\nu4 a.ark:3[:,1:2]\n")
EDITS = _texts(
    "set-learning-rate name=l* learning-rate=0.1; rename-node old-name=output new-name=o\n"
    "remove-orphans; apply-svd name=lstm1* bottleneck-dim=3\nreduce-rank name=* rank=2\n"
    "set-dropout-proportion name=* proportion=0.2; add-output-nodes name=x input=input\n"
)
CONFIGS = _files("components/*/net.config")
XCONFIGS = _files("nets/*/net.xconfig")

_FINDERS: dict[str, Callable[[], Sequence[bytes]]] = {
    "raw_bin": _models,
    "raw_text": _as_text,
    "mdl_bin": _files("legacy/mdl/nnet3*.mdl"),
    "mdl_text": _files("legacy/mdl/nnet3*_mdl.txt"),
    "sem_compute": _models,
    "sem_train": _models,
    "config": CONFIGS,
    "xconfig": XCONFIGS,
    "edits": EDITS,
    "nnet1_bin": _files("legacy/nnet1/*/final.nnet"),
    "nnet1_text": _files("legacy/nnet1/*/final.txt"),
    "nnet1_proto": _files("legacy/nnet1/*/net.proto"),
    "nnet2_bin": _files("legacy/nnet2/*/final.raw", "legacy/mdl/nnet2.mdl"),
    "nnet2_text": _files("legacy/nnet2/*/final.txt", "legacy/mdl/nnet2_mdl.txt"),
    "nnet2_config": _files("legacy/nnet2/*/*.config", "legacy/mdl/nnet2.config"),
    "trans_bin": _transitions(binary=True),
    "trans_text": _transitions(binary=False),
    "topo_text": _files("legacy/mdl/topo*"),
    "tree_bin": _trees(binary=True),
    "tree_text": _trees(binary=False),
    "fst": _graph,
    "acceptor": _acceptors,
    "den_fst": _graph,
    "phone_lm_fst": _graph,
    "ark_mat_bin": _tables("mat", binary=True),
    "ark_mat_text": _tables("mat", binary=False),
    "ark_vec_bin": _tables("vec", binary=True),
    "ark_vec_text": _tables("vec", binary=False),
    "ark_ids_bin": _tables("ids", binary=True),
    "ark_ids_text": _tables("ids", binary=False),
    "ark_target_bin": _tables("target", binary=True),
    "ark_target_text": _tables("target", binary=False),
    "ark_phones_bin": _phones(binary=True),
    "ark_phones_text": _phones(binary=False),
    "scp": SCRIPT,
    "strings": STRINGS,
    "egs_bin": _egs(binary=True),
    "egs_text": _egs(binary=False),
    "cegs_bin": _cegs(binary=True),
    "cegs_text": _cegs(binary=False),
}
