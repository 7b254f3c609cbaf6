"""`nnet info`: what a model consists of.

Kaldi's nnet3-info and nnet3-am-info.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument


def info(
    model: Annotated[str, Argument(help="Model file, .raw or .mdl, or - for standard input.")],
) -> None:
    """Prints what a model consists of: context, nodes, components, sizes and statistics.

    For a raw model the text of nnet3-info, for an acoustic model that of nnet3-am-info.

    Example: nnet info final.mdl
    """
    from nnet.modelfile.model import read_model

    print(read_model(model).info(), end="")
