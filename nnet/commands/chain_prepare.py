"""`nnet chain-prepare`: alignments to the graphs for LF-MMI: phone language model, den.fst.

Kaldi's chain-est-phone-lm, chain-make-den-fst, and trees without a GMM system.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.data.chain.phone_lm import PhoneLmOptions
from nnet.data.options import ALI_MODEL
from nnet.errors import NnetError
from nnet.options import Applies, Option, given, missing

if TYPE_CHECKING:
    from nnet.modelfile.transitions import Topology, TransitionModel
    from nnet.modelfile.trees import ContextDependency


class Context(StrEnum):
    """Of which phones a pdf depends where there is no tree."""

    MONOPHONE = "monophone"
    LEFT_BIPHONE = "left-biphone"


def chain_prepare(
    out_dir: Annotated[Path, Argument(help="Folder for tree, transition model and graphs.")],
    lm: PhoneLmOptions,
    phones: Annotated[
        str, Option("Rspecifier of phone sequences, for the phone language model.")
    ] = "",
    alignments: Annotated[
        str,
        Option(
            "The same of phones with lengths (ali-to-phones --write-lengths=true), or with "
            "--ali-model of transition-ids."
        ),
    ] = "",
    ali_model: Annotated[str, dataclasses.replace(ALI_MODEL, applies=given("alignments"))] = "",
    phone_lm: Annotated[
        str, Option("A phone language model to take instead of estimating one.")
    ] = "",
    tree: Annotated[str, Option("Tree; with --model.")] = "",
    model: Annotated[str, Option("Transition model or .mdl of the tree.")] = "",
    topo: Annotated[
        str,
        Option(
            "Topology, without a tree [the chain topology of the phones that occur].",
            applies=missing("tree"),
        ),
    ] = "",
    context: Annotated[
        Context,
        Option("Without a tree: on which phones a pdf depends.", applies=missing("tree")),
    ] = Context.MONOPHONE,
    silence_phones: Annotated[
        str,
        Option(
            "Phones that left-biphone leaves without context, such as 1:2.",
            applies=Applies(
                "with --context left-biphone",
                lambda values: values["context"] is Context.LEFT_BIPHONE,
            ),
        ),
    ] = "",
) -> None:
    """Makes the graphs for LF-MMI: phone_lm.fst, den.fst and normalization.fst in OUT_DIR.

    OUT_DIR also gets the tree and the transition model (0.trans_mdl), given or made.

    Example: nnet chain-prepare exp/chain --alignments ark:phones.ark --context left-biphone
    """
    from nnet.data.chain.folder import ChainGraphs
    from nnet.data.chain.phone_lm import estimate_phone_lm
    from nnet.modelfile.fst import read_fst_file

    if bool(tree) != bool(model):
        raise NnetError("--tree and --model come together; only one is given")
    if sum(map(bool, (phones, alignments, phone_lm))) != 1:
        raise NnetError("expected: one of --phones, --alignments and --phone-lm")
    if phone_lm:
        language_model = read_fst_file(phone_lm)
    else:
        language_model = estimate_phone_lm(_sequences(phones, alignments, ali_model), lm)
    found = sorted(set(language_model.ilabels.tolist()) - {0})
    made = _given(tree, model) if tree else _made(topo, found, context, silence_phones)
    graphs = ChainGraphs.make(*made, language_model)
    graphs.write(out_dir)
    print(
        f"nnet chain-prepare: {len(found)} phones, {graphs.num_pdfs} pdfs; phone_lm.fst with "
        f"{language_model.num_states} states and {language_model.num_arcs} arcs; den.fst with "
        f"{graphs.den.num_states} states and {graphs.den.num_arcs} arcs",
        file=sys.stderr,
    )


def _sequences(phones: str, alignments: str, ali_model: str) -> Iterable[Sequence[int]]:
    """The phones of each utterance."""
    from nnet.data.chain.alignments import alignment_reader
    from nnet.data.phone_alignments import read_integers
    from nnet.data.tables import read_table

    if phones:
        for _, sequence in read_table(phones, read_integers):
            yield sequence.tolist()
        return
    for _, alignment in read_table(alignments, alignment_reader(ali_model)):
        yield alignment.phones.tolist()


def _given(tree: str, model: str) -> tuple[ContextDependency, TransitionModel]:
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.transitions import read_transition_model
    from nnet.modelfile.trees import read_tree

    return read_tree(open_file(tree)), read_transition_model(open_file(model))


def _made(
    topo: str, phones: Sequence[int], context: Context, silence_phones: str
) -> tuple[ContextDependency, TransitionModel]:
    """A tree in which pdfs are not shared, and its transition model."""
    from nnet.modelfile.transition_ids import make_transition_model, pdf_class_counts
    from nnet.modelfile.trees import left_biphone_tree, monophone_tree

    topology = _topology(topo, phones)
    classes = pdf_class_counts(topology)
    if context is Context.MONOPHONE:
        tree = monophone_tree(classes)
    else:
        tree = left_biphone_tree(classes, _silences(silence_phones, classes))
    return tree, make_transition_model(topology, tree)


def _topology(topo: str, phones: Sequence[int]) -> Topology:
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.transition_ids import chain_topology
    from nnet.modelfile.transitions import read_topology

    return read_topology(open_file(topo)) if topo else chain_topology(phones)


def _silences(text: str, phones: Iterable[int]) -> list[int]:
    try:
        silences = [int(word) for word in text.split(":") if word]
    except ValueError:
        raise NnetError(f"--silence-phones is '{text}'; expected: phones such as 1:2") from None
    unknown = set(silences) - set(phones)
    if unknown:
        raise NnetError(f"--silence-phones has {min(unknown)}, which is no phone of the topology")
    return silences
