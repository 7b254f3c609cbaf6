"""`nnet copy`: read a model, change it, write it.

Kaldi's nnet3-copy and nnet3-am-copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.commands.options import BinaryOrText, NetworkSeed, Text
from nnet.options import Option, given

if TYPE_CHECKING:
    from nnet.graph.network import Network


def copy(
    source: Annotated[str, Argument(metavar="IN", help="Model file, .raw or .mdl, or -.")],
    target: Annotated[str, Argument(metavar="OUT", help="Where the copy goes, or -.")],
    text: Text = False,
    binary: BinaryOrText = True,
    raw: Annotated[bool, Option("Write the network only, as a .raw file.")] = False,
    nnet_config: Annotated[
        str, Option("Config file with nodes and components to add.", metavar="FILE")
    ] = "",
    learning_rate: Annotated[
        float, Option("Set all learning rates to this times the component's factor [as they are].")
    ] = -1.0,
    scale: Annotated[float, Option("Multiply parameters and counts by this.")] = 1.0,
    edits_config: Annotated[str, Option("File with edits, one a line.", metavar="FILE")] = "",
    edits: Annotated[
        str, Option("Edits, separated by ';', such as 'rename-node old-name=a new-name=b'.")
    ] = "",
    prepare_for_test: Annotated[
        bool, Option("Set test mode in batch-norm and dropout components, and --collapse.")
    ] = False,
    collapse: Annotated[
        str,
        Option(
            "What --prepare-for-test merges into affine components next to it: "
            "dropout, batchnorm, affine, scale.",
            metavar="KINDS",
            applies=given("prepare_for_test"),
        ),
    ] = "affine,scale",
    srand: NetworkSeed = 0,
) -> None:
    """Copies a model, with changes in the order of the options above.

    A copy without changes in the form of its source has the same bytes. Edits are those of
    nnet3-copy (see ReadEditConfig in Kaldi); what they did is printed to standard error.

    Example: nnet copy final.mdl final.txt --text --edits 'remove-output-nodes name=output-xent'
    """
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.model import Model, parse_model, write_model

    as_text = text or not binary
    kinds = _kinds(collapse) if prepare_for_test else None
    reader = open_file(source)
    model = parse_model(reader)
    if nnet_config:
        from nnet.commands.init import network_from_file

        model.network = network_from_file(nnet_config, model.network, srand)
    _set_rate_and_scale(model.network, learning_rate, scale)
    if edits_config or edits:
        model.network = _edited(model.network, edits_config, edits)
    if kinds is not None:
        from nnet.graph.collapse import prepare_for_test as prepared

        model.network = prepared(model.network, kinds)
    changed = any(
        (nnet_config, learning_rate >= 0, scale != 1.0, edits_config, edits, prepare_for_test)
    )
    if changed:
        model.left_context = model.right_context = None
    if changed or as_text == reader.binary:
        for component in model.network.components.values():
            component.recount()
    write_model(Model(model.network) if raw else model, target, binary=not as_text)


def _set_rate_and_scale(network: Network, learning_rate: float, scale: float) -> None:
    from nnet.components.base import Updatable

    for component in network.components.values():
        if learning_rate >= 0 and isinstance(component, Updatable):
            component.set_learning_rate(learning_rate)
        if scale != 1.0:
            component.scale(scale)


def _edited(network: Network, edits_config: str, edits: str) -> Network:
    """The network after the edits of a file and then of an option, what they did on the log."""
    import logging

    from nnet.graph.edits import apply_edits, edit
    from nnet.text.files import read_text
    from nnet.text.parse import parse_config

    logging.basicConfig(format="nnet: %(message)s", level=logging.INFO)
    if edits_config:
        network = apply_edits(network, parse_config(read_text(edits_config), edits_config))
    return edit(network, edits) if edits else network


def _kinds(text: str) -> tuple[str, ...]:
    from nnet.errors import NnetError, nearest
    from nnet.graph.collapse import RULES

    kinds = tuple(text.split(",")) if text else ()
    for kind in kinds:
        if kind not in RULES:
            meant = nearest(kind, RULES)
            hint = f"; did you mean '{meant}'?" if meant else ""
            raise NnetError(
                f"wrong value '{kind}' for '--collapse', expected some of {','.join(RULES)}{hint}"
            )
    return kinds
