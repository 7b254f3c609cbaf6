"""`nnet get-egs`: nnet3-get-egs and nnet3-get-egs-dense-targets."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Argument, Option

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
    ivectors: Annotated[str, Option(help="Rspecifier: one i-vector per utterance.")] = "",
    online_ivectors: Annotated[
        str, Option(help="Rspecifier: i-vectors estimated online, a matrix per utterance.")
    ] = "",
    online_ivector_period: Annotated[
        int, Option(help="Frames from one online i-vector to the next.")
    ] = 10,
    left_context: Annotated[int, Option(help="Input frames before each chunk.")] = 0,
    right_context: Annotated[int, Option(help="Input frames after each chunk.")] = 0,
    left_context_initial: Annotated[
        int, Option(help="At the start of an utterance; -1: as elsewhere.")
    ] = -1,
    right_context_final: Annotated[
        int, Option(help="At the end of an utterance; -1: as elsewhere.")
    ] = -1,
    num_frames: Annotated[
        str, Option(help="Frames per chunk: the usual width, then others for what is left.")
    ] = "1",
    frame_subsampling_factor: Annotated[int, Option(help="Input frames per output frame.")] = 1,
    compress: Annotated[
        str, Option(metavar="true|false", help="Store matrices compressed.")
    ] = "true",
    srand: Annotated[int, Option(help="Seed of the chunks' places.")] = 0,
) -> None:
    """Cuts utterances into training examples.

    `nnet train` does this by itself; examples are for other programs and for keeping.

    Example: nnet get-egs scp:feats.scp ark:ali.ark ark:egs.ark --num-pdfs 42 --num-frames 8
    """
    from nnet.commands.options import frame_counts, table_dim, truth
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
