"""`nnet am-init`: a transition model and a raw model to an acoustic model.

Kaldi's nnet3-am-init.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from nnet.commands.options import BinaryOrText, Text


def am_init(
    transitions: Annotated[
        str, Argument(help="Transition model, or an acoustic model (.mdl) that has one.")
    ],
    raw: Annotated[str, Argument(help="Raw model.")],
    out: Annotated[str, Argument(help="Acoustic model (.mdl) to write, without priors.")],
    text: Text = False,
    binary: BinaryOrText = True,
) -> None:
    """Puts a transition model in front of a raw model, which makes an acoustic model.

    Example: nnet am-init tri5/final.mdl final.raw final.mdl
    """
    from nnet.errors import NnetError
    from nnet.graph.dims import node_dim
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.model import Model, read_model, write_model
    from nnet.modelfile.transitions import read_transition_model

    reader = open_file(transitions)
    if reader.peek_token() == "ContextDependency":
        raise NnetError(
            f"'{transitions}' is a tree; give a transition model, such as the .mdl of the "
            "system that the tree was built for"
        )
    transition_model = read_transition_model(reader)
    network = read_model(raw).network
    if "output" not in network.nodes:
        raise NnetError(f"the network of '{raw}' has no output-node 'output'")
    dim = node_dim(network, "output")
    if dim < transition_model.num_pdfs:
        raise NnetError(
            f"the network's output has dimension {dim}, but '{transitions}' has "
            f"{transition_model.num_pdfs} pdfs"
        )
    write_model(Model(network, transition_model), out, binary=binary and not text)
