"""What the example found, as tables on the screen."""

from pathlib import Path

from rich.console import Console

from examples.chain.systems import Recognised
from examples.speech.experiment import Experiment
from examples.speech.report import plain_table, time_table
from nnet.modelfile.fst import Fst


def summarize(
    console: Console,
    experiment: Experiment,
    results: list[Recognised],
    den: Fst,
    seconds: dict[str, float],
    pictures: list[Path],
) -> None:
    """Prints error rates, times and where files are."""
    speakers = list(results[0].speakers)
    table = plain_table("Phone error rate on the test split, %", "", "all", *speakers)
    for result in results:
        rates = [result.errors, *(result.speakers[speaker] for speaker in speakers)]
        table.add_row(result.system.title, *(f"{rate.percent:.1f}" for rate in rates))
    console.print(table)
    console.print(time_table(seconds))
    minutes = experiment.minutes
    console.print(
        f"Trained on {minutes['train']:.0f} minutes; the test split is {experiment.unseen}, "
        f"{minutes['test']:.0f} minutes with {results[0].errors.said} phones. The denominator "
        f"graph has {den.num_states} states and {den.num_arcs} arcs.",
        highlight=False,
        soft_wrap=True,
    )
    for path in [*(result.system.model for result in results), *pictures]:
        console.print(f"  {path}", highlight=False, soft_wrap=True)
