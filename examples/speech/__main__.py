"""python -m examples.speech: speech to a trained acoustic model, measured and drawn."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from nnet.errors import NnetError


class Parser(argparse.ArgumentParser):
    """Wrong options are one line like any other mistake."""

    def error(self, message: str) -> NoReturn:
        raise NnetError(f"{message}; see {self.prog} --help")


def main(arguments: list[str] | None = None) -> int:
    """Runs the example. Returns 0, or 1 after one line that says what is wrong."""
    return status("speech", lambda: run(parse(arguments)))


def status(name: str, run: Callable[[], None]) -> int:
    """Runs an example. Returns 0, or 1 after one line that says what is wrong."""
    try:
        run()
    except NnetError as error:
        print(f"{name}: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"{name}: {error}; install it: pip install -e '.[demo]'", file=sys.stderr)
    else:
        return 0
    return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m examples.speech",
        description="Trains a TDNN-F and a linear model on speech that is made on the spot, or on "
        "a folder of recorded words, and compares them on what neither has heard.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("exp/speech"),
        help="folder for everything written [%(default)s]",
    )
    parser.add_argument(
        "--epochs", type=whole(1), help="passes over the training data [12; 2 for recordings]"
    )
    parser.add_argument(
        "--seed", type=whole(0), default=0, help="of sentences, voices and noise [%(default)s]"
    )
    made = parser.add_argument_group("speech made on the spot")
    made.add_argument(
        "--sentences",
        type=whole(1),
        default=9,
        help="sentences from each of 50 voices [%(default)s]",
    )
    made.add_argument("--jobs", type=whole(1), default=2, help="processes that speak [%(default)s]")
    recorded = parser.add_argument_group("recorded words")
    recorded.add_argument(
        "--recordings", type=Path, help="folder of LABEL_SPEAKER_INDEX.wav, 16-bit mono"
    )
    recorded.add_argument("--held-out", help="the speaker to test on [the alphabetically last]")
    options = parser.parse_args(arguments)
    if options.held_out and not options.recordings:
        parser.error("--held-out names a speaker of --recordings, which is not given")
    return options


def whole(least: int) -> Callable[[str], int]:
    """Reads a whole number that is at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return read


def run(options: argparse.Namespace) -> None:
    """Data, training, evaluation, report; each stage is timed."""
    from rich.console import Console

    from examples.speech import experiment as experiments
    from examples.speech.evaluation import evaluate
    from examples.speech.networks import LINEAR, TDNNF, compute, train
    from examples.speech.report import draw, summarize

    make_folder(options.out)
    seconds: dict[str, float] = {}
    with timed(seconds, "data"):
        folder = options.out / "data"
        if options.recordings:
            experiment = experiments.recorded(
                folder, options.recordings, options.held_out, options.seed
            )
        else:
            experiment = experiments.synthetic(
                folder, options.sentences, options.seed, options.jobs
            )
    schedule = experiment.schedule
    if options.epochs:
        schedule = replace(schedule, epochs=options.epochs)
    results, files = [], []
    for recipe in (LINEAR, TDNNF):
        with timed(seconds, f"training {recipe.title}"):
            model = train(recipe, experiment.data, options.out / recipe.name, schedule)
        with timed(seconds, f"computing {recipe.title}"):
            posteriors = compute(model, experiment.data, "test")
        results.append(evaluate(experiment, recipe.title, posteriors))
        files.append(model)
    with timed(seconds, "drawing"):
        files += draw(experiment, results, options.out)
    summarize(Console(), experiment, results, seconds, files)


def make_folder(path: Path) -> None:
    """Makes the folder for everything written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NnetError(f"{path}: {error.strerror}; choose another folder with --out") from None


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Notes how long a stage took."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
