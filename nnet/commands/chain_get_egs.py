"""`nnet chain-get-egs`: chain-get-supervision, nnet3-chain-get-egs and nnet3-chain-e2e-get-egs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from nnet.commands.options import (
    CHAIN_FRAMES,
    ChunkSeed,
    FrameSubsamplingFactor,
    LeftContext,
    LeftContextInitial,
    OnlineIvectorPeriod,
    RightContext,
    RightContextFinal,
    frame_counts,
    table_dim,
    truth,
)
from nnet.errors import NnetError


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
    ali_model: Annotated[
        str, Option(help="Transition model or .mdl that the alignments were made with.")
    ] = "",
    transcripts: Annotated[
        bool, Option("--transcripts", help="End-to-end, from the phones of each utterance.")
    ] = False,
    graphs: Annotated[
        bool, Option("--graphs", help="End-to-end, from what compile-train-graphs makes.")
    ] = False,
    online_ivectors: Annotated[
        str,
        Option("--online-ivectors", "--ivectors", help="Rspecifier: i-vectors, a matrix each."),
    ] = "",
    online_ivector_period: OnlineIvectorPeriod = 10,
    left_context: LeftContext = 0,
    right_context: RightContext = 0,
    left_context_initial: LeftContextInitial = -1,
    right_context_final: RightContextFinal = -1,
    num_frames: Annotated[
        str,
        Option(
            help="Frames per chunk: the usual width, then others for what is left "
            "[140,100,160]; end-to-end: the allowed lengths [any]."
        ),
    ] = "",
    frame_subsampling_factor: FrameSubsamplingFactor = 3,
    left_tolerance: Annotated[
        int, Option(help="Input frames that a phone may begin before its place.")
    ] = 5,
    right_tolerance: Annotated[
        int, Option(help="Input frames that a phone may end after its place.")
    ] = 5,
    compress: Annotated[
        str, Option(metavar="true|false", help="Store features compressed.")
    ] = "true",
    srand: ChunkSeed = 0,
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
    from nnet.data.cutting import Context
    from nnet.data.examples import ChainExampleWriter

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    least = {
        "frame-subsampling-factor": (frame_subsampling_factor, 1),
        "left-context": (left_context, 0),
        "right-context": (right_context, 0),
        "online-ivector-period": (online_ivector_period, 1),
    }
    for option, (value, limit) in least.items():
        if value < limit:
            raise NnetError(f"--{option} is {value}, expected at least {limit}")
    if bool(ali_model) + transcripts + graphs > 1:
        raise NnetError("expected: at most one of --ali-model, --transcripts and --graphs")
    context = Context(
        left_context,
        right_context,
        left_context_initial if left_context_initial >= 0 else None,
        right_context_final if right_context_final >= 0 else None,
    )
    graphs_made = ChainGraphs.read(chain_dir)
    cutter: ChainExampleCutter | EndToEndCutter
    if transcripts or graphs:
        ivectors = IvectorTable(online_ivectors, online_ivector_period)
        cutter = EndToEndCutter(
            transcribed(feats, targets, ivectors, graphs_made.hmms, are_graphs=graphs),
            graphs_made,
            frame_counts("--num-frames", num_frames) if num_frames else (),
            context,
            frame_subsampling_factor,
            srand,
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
            frame_counts("--num-frames", num_frames or CHAIN_FRAMES),
            context,
            srand,
        )
    compressed, count = truth("--compress", compress), 0
    with ChainExampleWriter(egs) as writer:
        for key, example in cutter.examples():
            writer.write(key, example.compressed() if compressed else example)
            count += 1
    left_out = f"; {cutter.left_out} utterances or chunks are left out" if cutter.left_out else ""
    print(f"nnet chain-get-egs: wrote {count} examples{left_out}", file=sys.stderr)
