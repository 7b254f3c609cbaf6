"""`nnet chain-get-egs`: features and alignments to training examples for LF-MMI.

Kaldi's chain-get-supervision, nnet3-chain-get-egs and nnet3-chain-e2e-get-egs.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument

from nnet.commands.options import table_dim
from nnet.data.options import (
    ALI_MODEL,
    FRAME_SUBSAMPLING_FACTOR,
    LEFT_TOLERANCE,
    ONLINE_IVECTOR_PERIOD,
    ONLINE_IVECTORS,
    RIGHT_TOLERANCE,
    CuttingOptions,
)
from nnet.errors import NnetError
from nnet.options import Applies, Option, frame_counts

ALIGNED = Applies(
    "where targets are alignments, without --transcripts and --graphs",
    lambda values: not (values["transcripts"] or values["graphs"]),
)
CHAIN_FRAMES = (140, 100, 160)
"""The usual widths of chunks, in input frames."""


def chain_get_egs(
    chain_dir: Annotated[Path, Argument(help="Folder that nnet chain-prepare has made.")],
    feats: Annotated[str, Argument(help="Rspecifier of features.")],
    targets: Annotated[
        str,
        Argument(
            help="Rspecifier of phones with lengths (ali-to-phones --write-lengths=true); with "
            "--ali-model of transition-ids; with --transcripts of phones; with --graphs of FSTs."
        ),
    ],
    egs: Annotated[str, Argument(help="Wspecifier of examples.")],
    cutting: CuttingOptions,
    ali_model: Annotated[str, dataclasses.replace(ALI_MODEL, applies=ALIGNED)] = "",
    transcripts: Annotated[bool, Option("End-to-end, from the phones of each utterance.")] = False,
    graphs: Annotated[bool, Option("End-to-end, from what compile-train-graphs makes.")] = False,
    online_ivectors: Annotated[
        str, dataclasses.replace(ONLINE_IVECTORS, names=("--online-ivectors", "--ivectors"))
    ] = "",
    online_ivector_period: Annotated[int, ONLINE_IVECTOR_PERIOD] = 10,
    num_frames: Annotated[
        tuple[int, ...],
        Option(
            "Frames per chunk: the usual width, then others for what is left "
            "[140,100,160]; end-to-end: the allowed lengths [any].",
            parse=frame_counts,
            usual=lambda values: CHAIN_FRAMES if ALIGNED.holds(values) else (),
        ),
    ] = (),
    frame_subsampling_factor: Annotated[int, FRAME_SUBSAMPLING_FACTOR] = 3,
    left_tolerance: Annotated[int, dataclasses.replace(LEFT_TOLERANCE, applies=ALIGNED)] = 5,
    right_tolerance: Annotated[int, dataclasses.replace(RIGHT_TOLERANCE, applies=ALIGNED)] = 5,
) -> None:
    """Cuts utterances into training examples for LF-MMI, with weights from normalization.fst.

    `nnet train --den-fst` does this by itself; examples are for other programs and for keeping.

    Example: nnet chain-get-egs exp/chain scp:feats.scp ark:phones.ark ark:cegs.ark
    """
    from nnet.data.chain.alignments import alignment_reader
    from nnet.data.chain.cutting import ChainExampleCutter, EndToEndCutter
    from nnet.data.chain.folder import ChainGraphs
    from nnet.data.chain.supervision import Tolerance
    from nnet.data.chain.supervisor import Supervisor
    from nnet.data.chain.transcripts import IvectorTable, transcribed
    from nnet.data.corpus import Sources, load_corpus
    from nnet.data.examples import ChainExampleWriter

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    if transcripts and graphs:
        raise NnetError("expected: at most one of --transcripts and --graphs")
    graphs_made = ChainGraphs.read(chain_dir)
    cutter: ChainExampleCutter | EndToEndCutter
    if transcripts or graphs:
        ivectors = IvectorTable(online_ivectors, online_ivector_period)
        cutter = EndToEndCutter(
            transcribed(feats, targets, ivectors, graphs_made.hmms, are_graphs=graphs),
            graphs_made,
            num_frames,
            cutting.context,
            frame_subsampling_factor,
            cutting.srand,
        )
    else:
        sources = Sources(
            feats=feats,
            targets=targets,
            feature_dim=table_dim(feats),
            output_dim=graphs_made.num_pdfs,
            online_ivectors=online_ivectors or None,
            online_ivector_period=online_ivector_period,
            ivector_dim=table_dim(online_ivectors),
            subsampling=frame_subsampling_factor,
            read_target=alignment_reader(ali_model),
        )
        tolerance = Tolerance(left_tolerance, right_tolerance, frame_subsampling_factor)
        cutter = ChainExampleCutter(
            load_corpus(sources),
            Supervisor(graphs_made, tolerance),
            num_frames,
            cutting.context,
            cutting.srand,
        )
    count = 0
    with ChainExampleWriter(egs) as writer:
        for key, example in cutter.examples():
            writer.write(key, example.compressed() if cutting.compress else example)
            count += 1
    left_out = f"; {cutter.left_out} utterances or chunks are left out" if cutter.left_out else ""
    print(f"nnet chain-get-egs: wrote {count} examples{left_out}", file=sys.stderr)
