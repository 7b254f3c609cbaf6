"""`nnet compute-prob`: nnet3-compute-prob."""

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
) -> None:
    """Prints the objective and the accuracy per frame of a model on examples.

    Example: nnet compute-prob final.raw 'ark:nnet3-merge-egs ark:valid.egs ark:- |'
    """
    from nnet.commands.options import truth
    from nnet.data.example_minibatch import example_minibatch
    from nnet.data.examples import read_examples
    from nnet.modelfile.model import read_model
    from nnet.training.evaluation import evaluate_network, in_test_mode

    network = read_model(model).network
    module = in_test_mode(
        network,
        batchnorm=truth("--batchnorm-test-mode", batchnorm_test_mode),
        dropout=truth("--dropout-test-mode", dropout_test_mode),
    )
    examples = read_examples(egs)
    evaluation = evaluate_network(module, (example_minibatch(eg, network) for _, eg in examples))
    if not evaluation.objectives:
        raise NnetError(f"{egs}: there are no examples")
    print("\n".join(evaluation.report()))
