"""`nnet adjust-priors`: priors of an acoustic model from summed posteriors.

Kaldi's nnet3-am-adjust-priors.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.commands.options import Binary
from nnet.errors import NnetError

if TYPE_CHECKING:
    import numpy as np


def adjust_priors(
    model: Annotated[str, Argument(help="Acoustic model, .mdl.")],
    posteriors: Annotated[str, Argument(help="Vector file: summed posteriors by pdf, above 0.")],
    target: Annotated[str, Argument(metavar="OUT", help="Where the model goes.")],
    binary: Binary = True,
) -> None:
    """Sets the priors of an acoustic model to a summed posterior, divided by its sum.

    Example: nnet adjust-priors final.mdl counts.vec final.mdl
    """
    import numpy as np

    from nnet.graph.dims import node_dim
    from nnet.modelfile.loading import read_vector
    from nnet.modelfile.model import read_model, write_model

    found = read_model(model)
    if not found.is_acoustic:
        raise NnetError(f"{model} has no transition model; expected: an .mdl (see nnet am-init)")
    counts = read_vector(posteriors)
    dim = node_dim(found.network, "output")
    total = counts.sum(dtype=np.float32)
    if counts.size != dim or not total > 0:
        raise NnetError(
            f"{posteriors}: {counts.size} numbers with the sum {total:.6g}; expected: {dim} "
            "numbers, one for each pdf, with a sum above 0"
        )
    priors = counts * np.float32(1.0 / total)
    print("\n".join(_report(found.priors, priors)), file=sys.stderr)
    found.priors = priors
    write_model(found, target, binary=binary)


def _report(old: np.ndarray | None, new: np.ndarray) -> list[str]:
    """nnet3-am-adjust-priors' lines about the change."""
    import numpy as np

    if old is None:
        return ["Model did not previously have priors attached."]
    largest = int(np.abs(new - old).argmax())
    p, q = (v.astype(np.float64) / v.sum(dtype=np.float64) for v in (old, new))
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = float(np.where(p > 0, p * np.log(p / q), 0.0).sum())
    return [
        f"Adjusting priors: largest absolute difference was for pdf {largest}, "
        f"{old[largest]:.6g} -> {new[largest]:.6g}",
        f"Adjusting priors: K-L divergence from old to new is {divergence:.6g}",
    ]
