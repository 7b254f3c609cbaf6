"""`nnet show-progress`: how two models of a training run differ.

Kaldi's nnet3-show-progress.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from nnet.errors import NnetError
from nnet.options import Option, given


def show_progress(
    old: Annotated[str, Argument(help="The earlier model.")],
    new: Annotated[str, Argument(help="The later model.")],
    egs: Annotated[str, Argument(help="Rspecifier of examples [without: parameters only].")] = "",
    num_segments: Annotated[
        int,
        Option(
            "Points between the models at which derivatives are taken.",
            least=1,
            applies=given("egs"),
        ),
    ] = 1,
) -> None:
    """Prints how much each component changed, and what that did for the objective.

    Example: nnet show-progress 10.raw 11.raw ark:train_subset.egs
    """
    from nnet.graph.arithmetic import check_alike
    from nnet.modelfile.model import read_model

    before, after = (read_model(file).network for file in (old, new))
    check_alike(before, after)
    from nnet.training.reports.progress_report import objective_changes, parameter_changes

    if egs:
        from nnet.data.example_minibatch import example_minibatch
        from nnet.data.examples import read_examples

        minibatches = [example_minibatch(eg, before) for _, eg in read_examples(egs)]
        if not minibatches:
            raise NnetError(f"{egs}: there are no examples")
        print("\n".join(objective_changes(before, after, minibatches, num_segments)))
    print("\n".join(parameter_changes(before, after)))
