"""`nnet combine`: nnet3-combine and nnet3-chain-combine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nnet.commands.options import (
    BatchnormTestMode,
    Binary,
    DenominatorGraph,
    DropoutTestMode,
    LeakyHmmCoefficient,
    OutputPenalty,
    truth,
)
from nnet.errors import NnetError

if TYPE_CHECKING:
    from nnet.graph.network import Network


def combine(
    files: Annotated[
        list[str],
        Argument(metavar="IN1 IN2 ... EGS OUT", help="Models, the last of the training first."),
    ],
    max_objective_evaluations: Annotated[
        int, Option(help="How many numbers of models to try at most.")
    ] = 30,
    batchnorm_test_mode: BatchnormTestMode = "false",
    dropout_test_mode: DropoutTestMode = "true",
    binary: Binary = "true",
    den_fst: DenominatorGraph = "",
    leaky_hmm_coefficient: LeakyHmmCoefficient = 0.1,
    l2_regularize: OutputPenalty = 0.0,
) -> None:
    """Averages the first n models, for the n with the best objective on examples.

    Example: nnet combine 12.raw 11.raw 10.raw ark:valid.egs final.raw
    """
    from nnet.commands.notices import say_if_slow
    from nnet.modelfile.model import Model, read_model, write_model
    from nnet.training.checkpoints.combination import combine as choose
    from nnet.training.checkpoints.combination import has_batchnorm, recomputed_statistics
    from nnet.training.feeds.evaluation_examples import minibatches_for
    from nnet.training.lfmmi.options import ChainOptions

    if len(files) < 3:
        raise NnetError(f"{len(files)} arguments; expected: models, examples, where to write")
    *sources, egs, target = files
    first = read_model(sources[0])
    options = ChainOptions(leaky_hmm_coefficient=leaky_hmm_coefficient, l2_regularize=l2_regularize)
    examples, chain = minibatches_for(first.network, egs, den_fst, options)
    say_if_slow()
    minibatches = [*examples]
    _log(f"Read {len(minibatches)} examples.")
    best = choose(
        [_reader(source) for source in sources],
        minibatches,
        chain,
        max_objective_evaluations=max_objective_evaluations,
        batchnorm_test_mode=truth("--batchnorm-test-mode", batchnorm_test_mode),
        dropout_test_mode=truth("--dropout-test-mode", dropout_test_mode),
        report=_log,
    )
    network = best.network
    if has_batchnorm(network):
        network, evaluation = recomputed_statistics(network, minibatches, chain)
        for line in evaluation.report():
            _log(line)
    first.network = network
    write_model(
        Model(network) if not first.is_acoustic else first, target, binary=truth("--binary", binary)
    )


def _reader(source: str) -> Callable[[], Network]:
    from nnet.modelfile.model import read_model

    return lambda: read_model(source).network


def _log(line: str) -> None:
    print(line, file=sys.stderr)
