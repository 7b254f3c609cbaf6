"""`nnet compute-prob`: nnet3-compute-prob and nnet3-chain-compute-prob."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from nnet.commands.options import (
    BatchnormTestMode,
    DenominatorGraph,
    DropoutTestMode,
    LeakyHmmCoefficient,
    OutputPenalty,
    truth,
)
from nnet.errors import NnetError


def compute_prob(
    model: Annotated[str, Argument(help="Model, .raw or .mdl.")],
    egs: Annotated[str, Argument(help="Rspecifier of examples, merged or not.")],
    batchnorm_test_mode: BatchnormTestMode = "true",
    dropout_test_mode: DropoutTestMode = "true",
    den_fst: DenominatorGraph = "",
    leaky_hmm_coefficient: LeakyHmmCoefficient = 0.1,
    l2_regularize: OutputPenalty = 0.0,
) -> None:
    """Prints the objective of a model on examples per frame; and the accuracy, or with --den-fst
    the cross-entropy of output-xent.

    Example: nnet compute-prob final.raw 'ark:nnet3-merge-egs ark:valid.egs ark:- |'
    """
    from nnet.commands.notices import say_if_slow
    from nnet.modelfile.model import read_model
    from nnet.training.evaluation import evaluate_network, in_test_mode
    from nnet.training.feeds.evaluation_examples import minibatches_for
    from nnet.training.lfmmi.options import ChainOptions

    options = ChainOptions(leaky_hmm_coefficient=leaky_hmm_coefficient, l2_regularize=l2_regularize)
    network = read_model(model).network
    module = in_test_mode(
        network,
        batchnorm=truth("--batchnorm-test-mode", batchnorm_test_mode),
        dropout=truth("--dropout-test-mode", dropout_test_mode),
    )
    say_if_slow()
    minibatches, chain = minibatches_for(network, egs, den_fst, options)
    lines = evaluate_network(module, minibatches, chain).report()
    if not lines:
        raise NnetError(f"{egs}: there are no examples")
    print("\n".join(lines))
