"""`nnet show-progress`: nnet3-show-progress."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from nnet.errors import NnetError


def show_progress(
    old: Annotated[str, Argument(help="The earlier model.")],
    new: Annotated[str, Argument(help="The later model.")],
    egs: Annotated[str, Argument(help="Rspecifier of examples [without: parameters only].")] = "",
    num_segments: Annotated[
        int, Option(help="Points between the models at which derivatives are taken.")
    ] = 1,
) -> None:
    """Prints how much each component changed, and what that did for the objective.

    Example: nnet show-progress 10.raw 11.raw ark:train_subset.egs
    """
    from nnet.graph.arithmetic import check_alike
    from nnet.modelfile.model import read_model

    before, after = (read_model(file).network for file in (old, new))
    check_alike(before, after)
    if num_segments < 1:
        raise NnetError(f"--num-segments is {num_segments}; expected: 1 or more")
    from nnet.training.reports.progress_report import objective_changes, parameter_changes

    if egs:
        from nnet.data.example_minibatch import example_minibatch
        from nnet.data.examples import read_examples

        minibatches = [example_minibatch(eg, before) for _, eg in read_examples(egs)]
        if not minibatches:
            raise NnetError(f"{egs}: there are no examples")
        print("\n".join(objective_changes(before, after, minibatches, num_segments)))
    print("\n".join(parameter_changes(before, after)))
