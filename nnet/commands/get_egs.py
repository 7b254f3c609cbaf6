"""`nnet get-egs`: features and targets to training examples.

Kaldi's nnet3-get-egs and nnet3-get-egs-dense-targets.
"""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Argument

from nnet.commands.options import table_dim
from nnet.data.options import (
    ALI_MODEL,
    FRAME_SUBSAMPLING_FACTOR,
    IVECTORS,
    ONLINE_IVECTOR_PERIOD,
    ONLINE_IVECTORS,
    CuttingOptions,
)
from nnet.errors import NnetError
from nnet.options import Option, frame_counts


def get_egs(
    feats: Annotated[str, Argument(help="Rspecifier of features.")],
    targets: Annotated[
        str, Argument(help="Rspecifier of targets: alignments, posteriors or matrices.")
    ],
    egs: Annotated[str, Argument(help="Wspecifier of examples.")],
    cutting: CuttingOptions,
    num_pdfs: Annotated[
        int, Option("Dimension of the network's output.", names=("--num-pdfs", "--num-targets"))
    ] = 0,
    ali_model: Annotated[str, ALI_MODEL] = "",
    ivectors: Annotated[str, IVECTORS] = "",
    online_ivectors: Annotated[str, ONLINE_IVECTORS] = "",
    online_ivector_period: Annotated[int, ONLINE_IVECTOR_PERIOD] = 10,
    num_frames: Annotated[
        tuple[int, ...],
        Option(
            "Frames per chunk: the usual width, then others for what is left.", parse=frame_counts
        ),
    ] = (1,),
    frame_subsampling_factor: Annotated[int, FRAME_SUBSAMPLING_FACTOR] = 1,
) -> None:
    """Cuts utterances into training examples.

    `nnet train` does this by itself; examples are for other programs and for keeping.

    Example: nnet get-egs scp:feats.scp ark:ali.ark ark:egs.ark --num-pdfs 42 --num-frames 8
    """
    from nnet.data.chain.alignments import target_reader
    from nnet.data.corpus import Sources, load_corpus
    from nnet.data.cutting import ExampleCutter
    from nnet.data.examples import ExampleWriter

    if num_pdfs < 1:
        raise NnetError(f"--num-pdfs is {num_pdfs}, expected at least 1")
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
        read_target=target_reader(ali_model, num_pdfs),
    )
    cutter = ExampleCutter(load_corpus(sources), num_frames, cutting.context, cutting.srand)
    count = 0
    with ExampleWriter(egs) as writer:
        for key, example in cutter.examples():
            writer.write(key, example.compressed() if cutting.compress else example)
            count += 1
    short = f"; {cutter.too_short} utterances are too short" if cutter.too_short else ""
    print(f"nnet get-egs: wrote {count} examples{short}", file=sys.stderr)
