"""python -m examples.chain: LF-MMI from sound to phone errors."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from examples.speech.__main__ import Parser, make_folder, status, timed, whole

if TYPE_CHECKING:
    from examples.chain.phones import PhoneTables
    from examples.chain.systems import System
    from examples.speech.experiment import Experiment
    from nnet.data.chain.folder import ChainGraphs


def main(arguments: list[str] | None = None) -> int:
    """Runs the example. Returns 0, or 1 after one line that says what is wrong."""
    return status("chain", lambda: run(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m examples.chain",
        description="Trains a TDNN-F with LF-MMI on speech that is made on the spot, and one "
        "towards the phone of each frame, and compares the phones that they recognise in voices "
        "never heard.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("exp/chain"),
        help="folder for everything written [%(default)s]",
    )
    parser.add_argument(
        "--flat-start",
        action="store_true",
        help="also train with LF-MMI from transcripts alone, without alignments",
    )
    parser.add_argument(
        "--epochs", type=whole(1), default=9, help="passes over the data with LF-MMI [%(default)s]"
    )
    parser.add_argument(
        "--flat-start-epochs", type=whole(1), default=16, help="the same from transcripts"
    )
    parser.add_argument(
        "--frame-epochs", type=whole(1), default=12, help="the same at the frame level"
    )
    parser.add_argument(
        "--sentences", type=whole(1), default=9, help="sentences of each voice [%(default)s]"
    )
    parser.add_argument("--jobs", type=whole(1), default=2, help="processes that speak")
    parser.add_argument("--seed", type=whole(0), default=0, help="of sentences, voices and noise")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Data, graphs, training, recognition, report; each stage is timed."""
    from rich.console import Console

    from examples.chain.networks import prepare
    from examples.chain.phones import write_phones
    from examples.chain.pictures import draw_errors, draw_utterance
    from examples.chain.report import summarize
    from examples.chain.systems import recognise
    from examples.speech import experiment as experiments

    make_folder(options.out)
    seconds: dict[str, float] = {}
    with timed(seconds, "data"):
        experiment = experiments.synthetic(
            options.out / "data", options.sentences, options.seed, options.jobs
        )
        tables = write_phones(experiment.data, options.out / "phones")
    with timed(seconds, "graphs"):
        graphs = prepare(tables, options.out / "graphs")
    trained = train(options, experiment, tables, graphs, seconds)
    with timed(seconds, "recognition"):
        results = [recognise(system, tables) for system in trained]
    pictures = [options.out / "phone_errors.png", options.out / "utterance.png"]
    with timed(seconds, "drawing"):
        draw_errors(pictures[0], results)
        draw_utterance(pictures[1], results, tables)
    summarize(Console(), experiment, results, graphs.den, seconds, pictures)


def train(
    options: argparse.Namespace,
    experiment: "Experiment",
    tables: "PhoneTables",
    graphs: "ChainGraphs",
    seconds: dict[str, float],
) -> "list[System]":
    """The systems that are compared."""
    from examples.chain import networks
    from examples.chain.systems import frame_level, lfmmi

    out, folder = options.out, options.out / "graphs"
    with timed(seconds, "training of frames"):
        systems = [frame_level(experiment, out / "frames", options.frame_epochs)]
    with timed(seconds, "training with LF-MMI"):
        model = networks.train_from_alignments(tables, folder, out / "lfmmi", options.epochs)
        systems.append(lfmmi("LF-MMI", model, graphs, tables))
    if options.flat_start:
        with timed(seconds, "training with LF-MMI from transcripts"):
            model = networks.train_from_transcripts(
                tables, folder, out / "flat_start", options.flat_start_epochs
            )
            systems.append(lfmmi("LF-MMI, transcripts alone", model, graphs, tables))
    return systems


if __name__ == "__main__":
    sys.exit(main())
