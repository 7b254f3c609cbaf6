"""`nnet get-egs`: nnet3-get-egs and nnet3-get-egs-dense-targets."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Argument, Option

from nnet.commands.options import (
    ChunkSeed,
    FrameSubsamplingFactor,
    Ivectors,
    LeftContext,
    LeftContextInitial,
    OnlineIvectorPeriod,
    OnlineIvectors,
    RightContext,
    RightContextFinal,
    frame_counts,
    table_dim,
    truth,
)
from nnet.errors import NnetError


def get_egs(
    feats: Annotated[str, Argument(help="Rspecifier of features.")],
    targets: Annotated[
        str, Argument(help="Rspecifier of targets: alignments, posteriors or matrices.")
    ],
    egs: Annotated[str, Argument(help="Wspecifier of examples.")],
    num_pdfs: Annotated[
        int, Option("--num-pdfs", "--num-targets", help="Dimension of the network's output.")
    ] = 0,
    ivectors: Ivectors = "",
    online_ivectors: OnlineIvectors = "",
    online_ivector_period: OnlineIvectorPeriod = 10,
    left_context: LeftContext = 0,
    right_context: RightContext = 0,
    left_context_initial: LeftContextInitial = -1,
    right_context_final: RightContextFinal = -1,
    num_frames: Annotated[
        str, Option(help="Frames per chunk: the usual width, then others for what is left.")
    ] = "1",
    frame_subsampling_factor: FrameSubsamplingFactor = 1,
    compress: Annotated[
        str, Option(metavar="true|false", help="Store matrices compressed.")
    ] = "true",
    srand: ChunkSeed = 0,
) -> None:
    """Cuts utterances into training examples.

    `nnet train` does this by itself; examples are for other programs and for keeping.

    Example: nnet get-egs scp:feats.scp ark:ali.ark ark:egs.ark --num-pdfs 42 --num-frames 8
    """
    from nnet.data.corpus import Sources, load_corpus
    from nnet.data.cutting import Context, ExampleCutter
    from nnet.data.examples import ExampleWriter

    least = {
        "num-pdfs": (num_pdfs, 1),
        "frame-subsampling-factor": (frame_subsampling_factor, 1),
        "left-context": (left_context, 0),
        "right-context": (right_context, 0),
    }
    for option, (value, limit) in least.items():
        if value < limit:
            raise NnetError(f"--{option} is {value}, expected at least {limit}")
    sources = Sources(
        feats=feats,
        targets=targets,
        feature_dim=table_dim(feats),
        output_dim=num_pdfs,
        ivectors=ivectors or None,
        online_ivectors=online_ivectors or None,
        online_ivector_period=online_ivector_period,
        ivector_dim=table_dim(ivectors or online_ivectors),
        subsampling=frame_subsampling_factor,
    )
    context = Context(
        left_context,
        right_context,
        left_context_initial if left_context_initial >= 0 else None,
        right_context_final if right_context_final >= 0 else None,
    )
    cutter = ExampleCutter(
        load_corpus(sources), frame_counts("--num-frames", num_frames), context, srand
    )
    compressed, count = truth("--compress", compress), 0
    with ExampleWriter(egs) as writer:
        for key, example in cutter.examples():
            writer.write(key, example.compressed() if compressed else example)
            count += 1
    short = f"; {cutter.too_short} utterances are too short" if cutter.too_short else ""
    print(f"nnet get-egs: wrote {count} examples{short}", file=sys.stderr)
