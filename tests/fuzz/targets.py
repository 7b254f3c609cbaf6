"""What is fuzzed: a reader, or a stage after it, by the kind of file that it takes."""

from __future__ import annotations

import functools
import io
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnet.errors import NnetError

Target = Callable[[bytes], object]
TARGETS: dict[str, Target] = {}
GOLDEN = Path(__file__).parents[1] / "golden"

logging.getLogger("nnet").addHandler(logging.NullHandler())


def target(*kinds: str) -> Callable[[Target], Target]:
    """Registers what is done with files of these kinds."""

    def register(function: Target) -> Target:
        TARGETS.update(dict.fromkeys(kinds, function))
        return function

    return register


@functools.cache
def folder() -> Path:
    """Where inputs lie that are read by name; it is deleted at the end of the process."""
    made = tempfile.TemporaryDirectory(prefix="nnet-fuzz-")
    _FOLDERS.append(made)
    return Path(made.name)


_FOLDERS: list[Any] = []


def as_file(data: bytes, name: str) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


# Models


@target("raw_bin", "raw_bin_fields", "raw_text", "mdl_bin", "mdl_text")
def model(data: bytes) -> None:
    from nnet.modelfile.model import model_bytes, read_model

    read = read_model(data)
    model_bytes(read)
    model_bytes(read, binary=False)
    read.info()


@target("sem_compute", "sem_c_comp", "sem_n_comp")
def compute(data: bytes) -> None:
    """Compiled for test mode and for training, and computed in chunks and as a whole."""
    from nnet.inference.chunks import ChunkedInference, ChunkOptions, Utterance
    from nnet.modelfile.model import read_model
    from nnet.runtime.compiled import compile_network

    network = read_model(data).network
    check_parameters(network)
    dims = {node.name: node.dim for node in network.inputs()}
    rng = np.random.default_rng(0)
    feats = rng.standard_normal((12, dims.get("input", 1))).astype(np.float32)
    ivector = rng.standard_normal(dims["ivector"]).astype(np.float32) if "ivector" in dims else None
    name = next(network.outputs()).name
    module = compile_network(network, test_mode=True, outputs=(name,))
    for frames in (5, 50):
        inference = ChunkedInference(module, ChunkOptions(frames_per_chunk=frames), name)
        for _ in inference.run([Utterance("u", feats, ivector)]):
            pass


@target("sem_train", "sem_c_train", "sem_n_train")
def train(data: bytes) -> None:
    """One step of natural gradient on a random minibatch."""
    import torch

    from nnet.modelfile.model import model_bytes, read_model
    from nnet.runtime.compiled import compile_network
    from nnet.training.optimizers import OPTIMIZERS
    from nnet.training.options import TrainingOptions

    network = read_model(data).network
    check_parameters(network)
    module = compile_network(network).train()
    request = module.chunk_request(6)
    rng = np.random.default_rng(0)
    dims = {node.name: node.dim for node in network.inputs()}
    inputs = {
        name: torch.from_numpy(rng.standard_normal((2, times.count, dims[name])).astype(np.float32))
        for name, times in request.inputs
    }
    if not list(module.parameters()):
        module(inputs, request)
        return
    optimizer = OPTIMIZERS["natural-gradient"].make(module, TrainingOptions())

    def closure() -> None:
        loss = sum((value.float() ** 2).sum() for value in module(inputs, request).values())
        assert isinstance(loss, torch.Tensor)
        if loss.requires_grad:
            loss.backward()

    optimizer.step(closure, sequences=2)
    model_bytes(module.to_network())


def check_parameters(network: Any) -> None:
    from nnet.graph.check import check_finite

    check_finite(network)


@target("config", "xconfig")
def config(data: bytes) -> None:
    from nnet.modelfile.model import model_bytes
    from nnet.modelfile.networks import build

    model_bytes(build(text(data)))


def text(data: bytes) -> str:
    from nnet.text.files import read_text

    return read_text(str(as_file(data, "text")))


@functools.cache
def _edited() -> bytes:
    return (GOLDEN / "nets/lstm/init.raw").read_bytes()


@target("edits")
def edits(data: bytes) -> None:
    from nnet.graph.edits import edit
    from nnet.modelfile.model import model_bytes, read_model

    model_bytes(edit(read_model(_edited()).network, text(data)))


@target("nnet1_bin", "nnet1_text", "nnet1_proto", "nnet2_bin", "nnet2_text", "nnet2_config")
def legacy(data: bytes) -> None:
    from nnet.converters.convert import convert_legacy
    from nnet.converters.sources import Source, read_source
    from nnet.modelfile.model import model_bytes

    source = read_source(data)
    if isinstance(source, Source):
        model_bytes(convert_legacy(source).model)


# What is around models


@target("trans_bin", "trans_text")
def transitions(data: bytes) -> None:
    from nnet.modelfile.loading import open_bytes
    from nnet.modelfile.transition_ids import TransitionIds, pdf_class_counts
    from nnet.modelfile.transitions import read_transition_model, write_transition_model
    from nnet.modelfile.trees import monophone_tree
    from nnet.modelfile.writing import BinaryWriter, TextWriter

    read = read_transition_model(open_bytes(data, "trans"))
    TransitionIds(read)
    monophone_tree(pdf_class_counts(read.topology))
    for writer in (BinaryWriter(), TextWriter()):
        write_transition_model(writer, read)


@target("tree_bin", "tree_text")
def tree(data: bytes) -> None:
    from nnet.modelfile.loading import open_bytes
    from nnet.modelfile.transition_ids import chain_topology, make_transition_model
    from nnet.modelfile.trees import read_tree, write_tree
    from nnet.modelfile.writing import BinaryWriter

    read = read_tree(open_bytes(data, "tree"))
    make_transition_model(chain_topology([1, 2]), read)
    write_tree(BinaryWriter(), read)


@target("fst")
def fst(data: bytes) -> None:
    from nnet.modelfile.fst import compact_acceptor_bytes, read_fst_file, vector_bytes

    read = read_fst_file(as_file(data, "fst"))
    vector_bytes(read)
    if read.is_acceptor:
        compact_acceptor_bytes(read)


@target("acceptor")
def acceptor(data: bytes) -> None:
    from nnet.modelfile.fst import read_acceptor, write_acceptor
    from nnet.modelfile.loading import open_bytes
    from nnet.modelfile.writing import BinaryWriter, TextWriter

    read = read_acceptor(open_bytes(data, "acceptor"))
    for writer in (BinaryWriter(), TextWriter()):
        write_acceptor(writer, read)


@target("den_fst")
def den_fst(data: bytes) -> None:
    from nnet.data.chain.den_graph import normalization_graph
    from nnet.modelfile.fst import read_fst_file
    from nnet.training.lfmmi.graph import denominator_transitions

    read = read_fst_file(as_file(data, "den.fst"))
    denominator_transitions(read, 1000)
    normalization_graph(read)


@functools.cache
def _hmms() -> Any:
    from nnet.data.chain.expansion import PhoneHmms
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.transitions import read_transition_model
    from nnet.modelfile.trees import read_tree

    path = GOLDEN / "legacy/mdl"
    return PhoneHmms(
        read_transition_model(open_file(path / "mono_chain.mdl")),
        read_tree(open_file(path / "tree_chain")),
    )


@target("phone_lm_fst")
def phone_lm_fst(data: bytes) -> None:
    from nnet.data.chain.den_graph import denominator_graph
    from nnet.modelfile.fst import read_fst_file

    denominator_graph(read_fst_file(as_file(data, "phone_lm.fst")), _hmms())


@target("checkpoint", "checkpoint_every_bit")
def checkpoint(data: bytes) -> None:
    from nnet.training.checkpoints.checkpoint import read_checkpoint

    read_checkpoint(as_file(data, "step-000000001.safetensors"))


# Tables


def _table(data: bytes, read: Callable[..., Any]) -> None:
    """In order, by name, and in order with option `p`."""
    from nnet.data.tables import RandomAccess, read_table

    path = as_file(data, "table.ark")
    for rspecifier in (f"ark,p:{path}", f"ark:{path}"):
        for _ in read_table(rspecifier, read):
            pass
    everything = RandomAccess(f"ark:{path}", read)
    for name in everything:
        assert everything[name] is not None


@target("ark_mat_bin", "ark_mat_text")
def matrices(data: bytes) -> None:
    from nnet.data.matrices import read_matrix

    _table(data, read_matrix)


@target("ark_vec_bin", "ark_vec_text")
def vectors(data: bytes) -> None:
    from nnet.data.matrices import read_vector_or_matrix

    _table(data, read_vector_or_matrix)


@target("ark_target_bin", "ark_target_text")
def targets(data: bytes) -> None:
    from nnet.data.target_tables import OpenTargets, TargetTable
    from nnet.data.targets import read_target

    _table(data, read_target)
    table = OpenTargets(TargetTable(f"ark:{folder() / 'table.ark'}", 4))
    for name in ("u1", "u2", "p", "v"):
        assert table[name] is not None


@target("ark_phones_bin", "ark_phones_text")
def phones(data: bytes) -> None:
    from nnet.data.phone_alignments import read_phone_alignment

    _table(data, read_phone_alignment)


@target("ark_ids_bin", "ark_ids_text")
def transition_alignments(data: bytes) -> None:
    from nnet.data.phone_alignments import TransitionAlignmentReader, read_integers

    _table(data, read_integers)
    _table(data, TransitionAlignmentReader(_hmms().ids))


@functools.cache
def _archive() -> Path:
    from nnet.data.writers import MatrixWriter

    path = folder() / "matrices.archive"
    with MatrixWriter(f"ark:{path}") as writer:
        for name in ("u1", "u2", "u3"):
            writer.write(name, np.ones((4, 3), np.float32))
    return path


@target("scp")
def script(data: bytes) -> None:
    from nnet.data.matrices import read_matrix
    from nnet.data.tables import RandomAccess, read_table

    if b"|" in data:
        return
    archive = str(_archive()).encode()
    data = data.replace(b"/dev/shm/fuzz/x.ark", archive).replace(b"a.ark", archive)
    path = as_file(data, "table.scp")
    for rspecifier in (f"scp,p:{path}", f"scp:{path}"):
        table = RandomAccess(rspecifier, read_matrix)
        for name in table:
            table.shape(name)
            assert table[name] is not None
        for _ in read_table(rspecifier, read_matrix):
            pass


@target("strings")
def strings(data: bytes) -> None:
    """What is given on a command line or stands inside of other files."""
    from nnet.data.locations import parse_location
    from nnet.data.merging import MergingRules
    from nnet.data.specifiers import parse_rspecifier, parse_wspecifier
    from nnet.text.parse import parse_descriptor

    string = data.decode("utf-8", "replace")
    for parse in (
        parse_rspecifier,
        parse_wspecifier,
        lambda s: parse_location(s, "here"),
        lambda s: parse_descriptor(s, short_forms=True),
        parse_descriptor,
        MergingRules.parse,
    ):
        try:
            parse(string)
        except NnetError as error:
            last = error
    raise last


@target("egs_bin", "egs_bin2", "egs_text")
def examples(data: bytes) -> None:
    from nnet.data.examples import read_examples, write_one_example

    read = [example for _, example in read_examples(f"ark:{as_file(data, 'egs.ark')}")]
    for example in read:
        for binary in (True, False):
            write_one_example(io.BytesIO(), example, binary)
        example.shifted(1)
        example.compressed()
        example.merge([example])


@target("cegs_bin", "cegs_text")
def chain_examples(data: bytes) -> None:
    from nnet.data.chain.minibatch import chain_targets
    from nnet.data.examples import read_objects, write_one_chain_example
    from nnet.modelfile.chain_examples import read_chain_example

    path = as_file(data, "cegs.ark")
    read = [example for _, example in read_objects(f"ark:{path}", read_chain_example)]
    for example in read:
        for binary in (True, False):
            write_one_chain_example(io.BytesIO(), example, binary)
        example.shifted(1)
        for output in example.merge([example]).outputs:
            chain_targets(output)


@target("topo_text")
def topology(data: bytes) -> None:
    from nnet.modelfile.loading import open_bytes
    from nnet.modelfile.transition_ids import make_transition_model, pdf_class_counts
    from nnet.modelfile.transitions import read_topology
    from nnet.modelfile.trees import left_biphone_tree, monophone_tree

    read = read_topology(open_bytes(data, "topo"))
    counts = pdf_class_counts(read)
    make_transition_model(read, monophone_tree(counts))
    left_biphone_tree(counts)
