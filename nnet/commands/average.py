"""`nnet average`: the average of models.

Kaldi's nnet3-average.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from nnet.commands.options import Binary
from nnet.errors import NnetError
from nnet.options import Option


def average(
    files: Annotated[
        list[str], Argument(metavar="IN1 [IN2 ...] OUT", help="Models; the last is written.")
    ],
    weights: Annotated[
        str, Option("A weight for each input [all the same].", metavar="W1:W2:...")
    ] = "",
    binary: Binary = True,
) -> None:
    """Averages the parameters of models of one structure, and adds up their statistics.

    Example: nnet average 1.1.raw 1.2.raw 1.3.raw 2.raw --weights 1:1:2
    """
    from nnet.graph.arithmetic import weighted_sum
    from nnet.modelfile.model import read_model, write_model

    *sources, target = files
    if not sources:
        raise NnetError("one file is given; expected: models to average, then where to write")
    shares = _weights(weights, len(sources))
    models = [read_model(source) for source in sources]
    models[0].network = weighted_sum([model.network for model in models], shares)
    write_model(models[0], target, binary=binary)


def _weights(text: str, count: int) -> list[float]:
    """Weights that add up to 1, as float32 like nnet3-average's."""
    import numpy as np

    words = text.split(":") if text else ["1"] * count
    try:
        numbers = np.array([float(word) for word in words], np.float32)
    except ValueError:
        raise NnetError(f"--weights is '{text}'; expected: numbers such as 1:2:0.5") from None
    if len(numbers) != count or not numbers.sum() > 0:
        raise NnetError(
            f"--weights is '{text}'; expected: {count} numbers, one for each model, and a sum "
            "above 0"
        )
    shares: list[float] = (numbers / numbers.sum(dtype=np.float32)).tolist()
    return shares
