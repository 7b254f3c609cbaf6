"""`nnet compute`: a model's outputs on features.

Kaldi's nnet3-compute and nnet3-xvector-compute.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.data.options import IVECTORS, ONLINE_IVECTOR_PERIOD, ONLINE_IVECTORS
from nnet.errors import NnetError
from nnet.inference.options import ChunkOptions, VectorOptions
from nnet.options import Option
from nnet.runtime.options import DEVICE, KERNELS, NUM_THREADS

if TYPE_CHECKING:
    import numpy as np

    from nnet.commands.progress import Progress
    from nnet.inference.chunks import Utterance
    from nnet.inference.options import SegmentOptions
    from nnet.modelfile.model import Model


def compute(
    model: Annotated[str, Argument(help="Model file, .raw or .mdl.")],
    feats: Annotated[str, Argument(help="Features, an rspecifier such as scp:feats.scp.")],
    out: Annotated[str, Argument(help="Outputs, a wspecifier such as ark:out.ark.")],
    chunks: ChunkOptions,
    vectors: VectorOptions,
    ivectors: Annotated[str, IVECTORS] = "",
    online_ivectors: Annotated[str, ONLINE_IVECTORS] = "",
    online_ivector_period: Annotated[int, ONLINE_IVECTOR_PERIOD] = 0,
    apply_exp: Annotated[bool, Option("Write exp(output).")] = False,
    use_priors: Annotated[
        bool, Option("Subtract the logs of the priors stored in the .mdl.")
    ] = False,
    output_name: Annotated[str, Option("Which output node.")] = "output",
    device: Annotated[str, DEVICE] = "cpu",
    kernels: Annotated[str, KERNELS] = "auto",
    cuda_graph: Annotated[bool, Option("Launch each shape of chunk as one CUDA graph.")] = False,
    bf16: Annotated[
        bool, Option("Matrix products in bfloat16, if there is hardware for it.")
    ] = False,
    num_threads: Annotated[int, NUM_THREADS] = 0,
    allow_nan: Annotated[
        bool, Option("Go on with NaN and infinity in parameters, input and output.")
    ] = False,
) -> None:
    """Computes a network's output on utterances, as nnet3-compute does.

    Outputs come in the order of the features. Chunks are batched across utterances, which changes
    no result. Utterances without frames or without an i-vector are left out with a warning.

    With --chunk-size or --min-chunk-size, one vector an utterance (an x-vector), as
    nnet3-xvector-compute makes it: the average of the outputs of its chunks, weighted by length.

    Example: nnet compute final.raw scp:feats.scp ark:out.ark --frames-per-chunk 150
    """
    import numpy as np
    import torch

    from nnet.commands.progress import Progress
    from nnet.data.targets import check_features
    from nnet.data.writers import MatrixWriter, VectorWriter
    from nnet.graph.check import check_finite
    from nnet.inference.chunks import ChunkedInference
    from nnet.inference.segments import SegmentInference
    from nnet.modelfile.model import read_model
    from nnet.runtime.compiled import compile_network
    from nnet.runtime.device import select_device

    segments = vectors.segments
    loaded = read_model(model)
    if not allow_nan:
        check_finite(loaded.network)
    log_priors = _log_priors(loaded, model) if use_priors else None
    if num_threads:
        torch.set_num_threads(num_threads)
    module = compile_network(
        loaded.network,
        test_mode=True,
        outputs=(output_name,),
        kernels=kernels,
        cuda_graph=cuda_graph,
        bf16=bf16,
    )
    module = module.to(select_device(device))
    given = utterances(feats, ivectors, online_ivectors, online_ivector_period)
    if not allow_nan:
        given = _finite(given, feats, ivectors or online_ivectors)
    inference: ChunkedInference | SegmentInference
    if segments is None:
        inference = ChunkedInference(module, chunks, output_name)
    else:
        inference = SegmentInference(module, segments, output_name)
        given = _long_enough(given, segments)
    written = 0
    writer = MatrixWriter(out) if segments is None else VectorWriter(out)
    with writer, Progress("compute", "frames") as progress:
        for name, rows in inference.run(_counted(given, progress)):
            if not allow_nan:
                check_features(f"output '{output_name}'", name, np.atleast_2d(rows), "value")
            result = rows if log_priors is None else rows - log_priors
            writer.write(name, np.exp(result) if apply_exp else result)
            written += 1
        if written == 0:
            raise NnetError(f"{feats}: no utterance could be computed; nothing is written")


def _finite(given: Iterator[Utterance], feats: str, ivectors: str) -> Iterator[Utterance]:
    """The utterances.

    Raises:
        TableError: one has a feature or an i-vector that is NaN or infinite.
    """
    import numpy as np

    from nnet.data.targets import check_features

    for utterance in given:
        check_features(feats, utterance.name, utterance.features)
        if utterance.ivectors is not None:
            check_features(ivectors, utterance.name, np.atleast_2d(utterance.ivectors), "i-vector")
        yield utterance


def _long_enough(utterances: Iterator[Utterance], options: SegmentOptions) -> Iterator[Utterance]:
    from nnet.inference.segments import segments

    for utterance in utterances:
        frames = len(utterance.features)
        if segments(frames, options):
            yield utterance
        else:
            _warn(
                f"utterance '{utterance.name}' has {frames} frames, fewer than --min-chunk-size "
                f"({options.min_chunk_size}); left out"
            )


def utterances(feats: str, ivectors: str, online_ivectors: str, period: int) -> Iterator[Utterance]:
    from nnet.data.matrices import read_vector_or_matrix
    from nnet.data.tables import RandomAccess, read_matrices
    from nnet.inference.chunks import Utterance

    if ivectors and online_ivectors:
        raise NnetError("give --ivectors or --online-ivectors, not both")
    if online_ivectors and period <= 0:
        raise NnetError("--online-ivectors needs --online-ivector-period (frames, above 0)")
    table = ivectors or online_ivectors
    vectors = RandomAccess(table, read_vector_or_matrix) if table else None
    for name, features in read_matrices(feats):
        if len(features) == 0:
            _warn(f"utterance '{name}' has no frames; left out")
        elif vectors is not None and name not in vectors:
            _warn(f"utterance '{name}' has no i-vector in {table}; left out")
        else:
            own = None if vectors is None else vectors[name]
            if ivectors and own is not None:
                if len(own) != 1:
                    raise NnetError(
                        f"{table}: utterance '{name}' has {len(own)} i-vectors, expected one; "
                        "use --online-ivectors"
                    )
                own = own[0]
            yield Utterance(name, features, own, period)


def _counted(utterances: Iterator[Utterance], progress: Progress) -> Iterator[Utterance]:
    for utterance in utterances:
        yield utterance
        progress.advance(len(utterance.features))


def _log_priors(model: Model, path: str) -> np.ndarray:
    import numpy as np

    if model.priors is None or len(model.priors) == 0:
        raise NnetError(f"{path}: --use-priors needs a .mdl with priors; this model has none")
    return np.log(model.priors)


def _warn(message: str) -> None:
    print(f"nnet: warning: {message}", file=sys.stderr)
