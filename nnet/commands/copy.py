"""`nnet copy`: nnet3-copy and nnet3-am-copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

if TYPE_CHECKING:
    from nnet.modelfile.model import Model


def copy(
    source: Annotated[str, Argument(metavar="IN", help="Model file, .raw or .mdl, or -.")],
    target: Annotated[str, Argument(metavar="OUT", help="Where the copy goes, or -.")],
    text: Annotated[bool, Option("--text", help="Write in text form.")] = False,
    binary: Annotated[
        str, Option(metavar="true|false", help="Kaldi's spelling: false is --text.")
    ] = "true",
    raw: Annotated[bool, Option("--raw", help="Write the network only, as a .raw file.")] = False,
    nnet_config: Annotated[
        str, Option(metavar="FILE", help="Config file with nodes and components to add.")
    ] = "",
    learning_rate: Annotated[
        float, Option(help="Set all learning rates to this times the component's factor.")
    ] = -1.0,
    scale: Annotated[float, Option(help="Multiply parameters and counts by this.")] = 1.0,
    edits_config: Annotated[str, Option(metavar="FILE", help="File with edits, one a line.")] = "",
    edits: Annotated[
        str, Option(help="Edits, separated by ';', such as 'rename-node old-name=a new-name=b'.")
    ] = "",
    srand: Annotated[int, Option(help="Seed of the random numbers for --nnet-config.")] = 0,
) -> None:
    """Copies a model, with changes in the order of the options above.

    A copy without changes in the form of its source has the same bytes.

    Example: nnet copy final.mdl final.txt --text --edits 'remove-output-nodes name=output-xent'
    """
    from nnet.commands.options import truth
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.model import Model, parse_model, write_model

    as_text = text or not truth("--binary", binary)
    reader = open_file(source)
    model = parse_model(reader)
    changed = _change(model, nnet_config, learning_rate, scale, edits_config, edits, srand)
    if changed:
        model.left_context = model.right_context = None
    if changed or as_text == reader.binary:
        for component in model.network.components.values():
            component.recount()
    write_model(Model(model.network) if raw else model, target, binary=not as_text)


def _change(
    model: Model,
    nnet_config: str,
    learning_rate: float,
    scale: float,
    edits_config: str,
    edits: str,
    seed: int,
) -> bool:
    """Changes the model's network as the options say; whether any of them was given."""
    if nnet_config:
        from nnet.commands.init import network_from_file

        model.network = network_from_file(nnet_config, model.network, seed)
    if learning_rate >= 0:
        from nnet.components.base import Updatable

        for component in model.network.components.values():
            if isinstance(component, Updatable):
                component.set_learning_rate(learning_rate)
    if scale != 1.0:
        for component in model.network.components.values():
            component.scale(scale)
    if edits_config or edits:
        from nnet.graph.edits import edit
        from nnet.text.files import read_text

        if edits_config:
            model.network = edit(model.network, read_text(edits_config), edits_config)
        if edits:
            model.network = edit(model.network, edits)
    return bool(nnet_config or learning_rate >= 0 or scale != 1.0 or edits_config or edits)
