"""`nnet compute-prob`: a model's objective and accuracy on examples.

Kaldi's nnet3-compute-prob and nnet3-chain-compute-prob.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from nnet.commands.options import (
    BatchnormTestMode,
    DenominatorGraph,
    DropoutTestMode,
)
from nnet.errors import NnetError
from nnet.training.lfmmi.options import ChainMeasure


def compute_prob(
    model: Annotated[str, Argument(help="Model, .raw or .mdl.")],
    egs: Annotated[str, Argument(help="Rspecifier of examples, merged or not.")],
    measure: ChainMeasure,
    batchnorm_test_mode: BatchnormTestMode = True,
    dropout_test_mode: DropoutTestMode = True,
    den_fst: DenominatorGraph = "",
) -> None:
    """Prints the objective of a model on examples per frame; and the accuracy, or with --den-fst
    the cross-entropy of output-xent.

    Example: nnet compute-prob final.raw 'ark:nnet3-merge-egs ark:valid.egs ark:- |'
    """
    from nnet.modelfile.model import read_model
    from nnet.training.evaluation import evaluate_network, in_test_mode
    from nnet.training.feeds.evaluation_examples import minibatches_for

    network = read_model(model).network
    module = in_test_mode(network, batchnorm=batchnorm_test_mode, dropout=dropout_test_mode)
    minibatches, chain = minibatches_for(network, egs, den_fst, measure)
    lines = evaluate_network(module, minibatches, chain).report()
    if not lines:
        raise NnetError(f"{egs}: there are no examples")
    print("\n".join(lines))
