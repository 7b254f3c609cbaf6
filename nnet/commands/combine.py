"""`nnet combine`: the average of the last models that is best on examples.

Kaldi's nnet3-combine and nnet3-chain-combine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.commands.options import (
    BatchnormTestMode,
    Binary,
    DenominatorGraph,
    DropoutTestMode,
)
from nnet.errors import NnetError
from nnet.options import Option
from nnet.training.lfmmi.options import ChainMeasure

if TYPE_CHECKING:
    from nnet.graph.network import Network


def combine(
    files: Annotated[
        list[str],
        Argument(metavar="IN1 IN2 ... EGS OUT", help="Models, the last of the training first."),
    ],
    measure: ChainMeasure,
    max_objective_evaluations: Annotated[
        int, Option("How many numbers of models to try at most.", least=1)
    ] = 30,
    batchnorm_test_mode: BatchnormTestMode = False,
    dropout_test_mode: DropoutTestMode = True,
    binary: Binary = True,
    den_fst: DenominatorGraph = "",
) -> None:
    """Averages the first n models, for the n with the best objective on examples.

    Example: nnet combine 12.raw 11.raw 10.raw ark:valid.egs final.raw
    """
    from nnet.modelfile.model import Model, read_model, write_model
    from nnet.training.checkpoints.combination import combine as choose
    from nnet.training.checkpoints.combination import has_batchnorm, recomputed_statistics
    from nnet.training.feeds.evaluation_examples import minibatches_for

    if len(files) < 3:
        raise NnetError(f"{len(files)} arguments; expected: models, examples, where to write")
    *sources, egs, target = files
    first = read_model(sources[0])
    examples, chain = minibatches_for(first.network, egs, den_fst, measure)
    minibatches = [*examples]
    _log(f"Read {len(minibatches)} examples.")
    best = choose(
        [_reader(source) for source in sources],
        minibatches,
        chain,
        max_objective_evaluations=max_objective_evaluations,
        batchnorm_test_mode=batchnorm_test_mode,
        dropout_test_mode=dropout_test_mode,
        report=_log,
    )
    network = best.network
    if has_batchnorm(network):
        network, evaluation = recomputed_statistics(network, minibatches, chain)
        for line in evaluation.report():
            _log(line)
    first.network = network
    write_model(Model(network) if not first.is_acoustic else first, target, binary=binary)


def _reader(source: str) -> Callable[[], Network]:
    from nnet.modelfile.model import read_model

    return lambda: read_model(source).network


def _log(line: str) -> None:
    print(line, file=sys.stderr)
