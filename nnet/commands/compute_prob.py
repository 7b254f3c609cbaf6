"""`nnet compute-prob`: nnet3-compute-prob and nnet3-chain-compute-prob."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from nnet.errors import NnetError


def compute_prob(
    model: Annotated[str, Argument(help="Model, .raw or .mdl.")],
    egs: Annotated[str, Argument(help="Rspecifier of examples, merged or not.")],
    batchnorm_test_mode: Annotated[
        str, Option(metavar="true|false", help="Use stored batch-norm statistics.")
    ] = "true",
    dropout_test_mode: Annotated[
        str, Option(metavar="true|false", help="Switch dropout off.")
    ] = "true",
    den_fst: Annotated[
        str, Option(help="Denominator graph: the examples are for LF-MMI (nnet3-chain-egs).")
    ] = "",
    leaky_hmm_coefficient: Annotated[
        float, Option(help="LF-MMI: share that leaks from all states to all states.")
    ] = 0.1,
    l2_regularize: Annotated[float, Option(help="LF-MMI: penalty on squared outputs.")] = 0.0,
) -> None:
    """Prints the objective of a model on examples per frame; and the accuracy, or with --den-fst
    the cross-entropy of output-xent.

    Example: nnet compute-prob final.raw 'ark:nnet3-merge-egs ark:valid.egs ark:- |'
    """
    from nnet.commands.options import truth
    from nnet.modelfile.model import read_model
    from nnet.training.evaluation import evaluate_network, in_test_mode
    from nnet.training.evaluation_examples import minibatches_for
    from nnet.training.lfmmi.options import ChainOptions

    options = ChainOptions(leaky_hmm_coefficient=leaky_hmm_coefficient, l2_regularize=l2_regularize)
    network = read_model(model).network
    module = in_test_mode(
        network,
        batchnorm=truth("--batchnorm-test-mode", batchnorm_test_mode),
        dropout=truth("--dropout-test-mode", dropout_test_mode),
    )
    minibatches, chain = minibatches_for(network, egs, den_fst, options)
    lines = evaluate_network(module, minibatches, chain).report()
    if not lines:
        raise NnetError(f"{egs}: there are no examples")
    print("\n".join(lines))
