"""The program `nnet`: finds the subcommand, prints errors as one message, sets the exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from nnet.errors import NnetError, nearest
from nnet.process import settle

NO_PIPES = "--no-pipes"
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)

COMMANDS = {
    "xconfig": "an xconfig file to nnet3 config files",
    "init": "a config or xconfig to a model with initial parameters",
    "info": "what a model consists of",
    "copy": "read a model, change it, write it",
    "am-init": "a transition model and a raw model to an acoustic model",
    "features": "recordings to features: MFCC, filter banks, PLP, pitch",
    "ivectors": "features to i-vectors",
    "train-ivectors": "features to an i-vector extractor",
    "compute": "a model's outputs on features",
    "compile": "the plan of a model, before and after each pass",
    "convert": "models of nnet1 and nnet2 to nnet3, and nnet3 to other formats",
    "get-egs": "features and targets to training examples",
    "chain-prepare": "alignments to the graphs for LF-MMI: phone language model, den.fst",
    "chain-get-egs": "features and alignments to training examples for LF-MMI",
    "train": "train a network from features and targets",
    "compute-prob": "a model's objective and accuracy on examples",
    "average": "the average of models",
    "combine": "the average of the last models that is best on examples",
    "show-progress": "how two models of a training run differ",
    "graph": "lexicon, grammar, tree and transition model to a decoding graph",
    "align": "features and texts to the times of words and phones",
    "recognize": "recordings to words, with Kaldi's folders and Vosk's",
    "score": "the word error rate of recognised words, with a report",
    "adjust-priors": "priors of an acoustic model from summed posteriors",
}
"""Each lives in the module of its name and is imported only when it is called."""


def main(arguments: Sequence[str] | None = None) -> None:
    """`nnet COMMAND ...` or `nnet-COMMAND ...`. Exits with 0, or with 1 after one error."""
    settle()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if NO_PIPES in words:
        words.remove(NO_PIPES)
        os.environ["NNET_NO_PIPES"] = "1"  # for the processes that read data, too
    program = os.path.basename(sys.argv[0])
    if arguments is None and program.startswith("nnet-"):
        words.insert(0, program.removeprefix("nnet-"))
    try:
        status = _run(words)
        sys.stdout.flush()
    except NnetError as error:
        print(f"nnet: {error}", file=sys.stderr)
        status = 1
    except BrokenPipeError:
        _leave_output()
        status = 1
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        print(f"nnet: standard output: cannot write: {error.strerror}", file=sys.stderr)
        _leave_output()
        status = 1
    except KeyboardInterrupt:
        print("nnet: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def _leave_output() -> None:
    """Lets what is still to be written to standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        meant = nearest(name, COMMANDS)
        hint = f"did you mean '{meant}'?" if meant else f"commands: {', '.join(COMMANDS)}"
        raise NnetError(f"there is no command '{name}'; {hint}")
    import typer

    module = import_module(f"nnet.commands.{name.replace('-', '_')}")
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(getattr(module, name.replace("-", "_")))
    try:
        app(rest, prog_name=f"nnet {name}")
    except SystemExit as end:  # a wrong option is a user's mistake like any other
        return 1 if end.code else 0
    return 0


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        (
            "usage: nnet COMMAND ...   (nnet COMMAND --help says more; nnet-COMMAND is the same)",
            "",
            *lines,
            "",
            "nnet --no-pipes COMMAND ... (or NNET_NO_PIPES=1) runs no shell commands in the place "
            "of files: for data of others",
        )
    )


if __name__ == "__main__":
    main()
