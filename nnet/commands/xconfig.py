"""`nnet xconfig`: an xconfig file to nnet3 config files.

Kaldi's xconfig_to_configs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit

from nnet.errors import NnetError
from nnet.options import Option, given

if TYPE_CHECKING:
    from nnet.graph.network import Network
    from nnet.text.syntax import File
    from nnet.xconfig import Expansion


def xconfig(
    xconfig_file: Annotated[
        str, Argument(metavar="NET.xconfig", help="The xconfig; - for standard input.")
    ] = "",
    config_dir: Annotated[
        str, Option("Directory for the files; made if need be.", names=("--config-dir", "-o"))
    ] = "",
    existing_model: Annotated[
        str, Option("A model, .raw or .mdl, whose nodes the new layers may read.")
    ] = "",
    nnet_edits: Annotated[
        str,
        Option(
            "Edits of the network before its context is worked out, for a network without "
            "an output called 'output': 'rename-node old-name=xxx new-name=output'.",
            applies=given("config_dir"),
        ),
    ] = "",
    check: Annotated[
        bool, Option("Only print all mistakes; exit status 1 if there are any.")
    ] = False,
    format: Annotated[bool, Option("Only print the xconfig in the canonical layout.")] = False,
    list_types: Annotated[bool, Option("Only print all layer types.", names=("--list",))] = False,
    describe: Annotated[
        str, Option("Only print the options of a layer type.", metavar="LAYER")
    ] = "",
) -> None:
    """Writes the nnet3 config files of an xconfig, as Kaldi's xconfig_to_configs.py does.

    The directory gets final.config (the network), ref.config (the same with random numbers in
    place of an LDA-like transform that is yet to be estimated), init.config (the input of that
    transform, where there is one), vars (the network's context in frames), and
    xconfig.expanded.1 and .2 (all options of all layers). Nothing is written if the xconfig has
    a mistake.

    Example: nnet xconfig network.xconfig -o exp/tdnn/configs
    """
    if list_types or describe:
        _print_reference(describe)
    elif not xconfig_file:
        raise NnetError("no xconfig is given\nusage: nnet xconfig NET.xconfig -o DIR")
    elif format:
        _print_formatted(xconfig_file)
    elif check:
        _print_mistakes(xconfig_file, _existing(existing_model))
    elif config_dir:
        _convert(xconfig_file, config_dir, _existing(existing_model), nnet_edits)
    else:
        raise NnetError(
            "no directory is given\n"
            "usage: nnet xconfig NET.xconfig -o DIR, or with --check or --format in place of -o DIR"
        )


def _print_reference(layer_type: str) -> None:
    from nnet.xconfig.reference import describe, overview

    print(describe(layer_type) if layer_type else overview())


def _print_formatted(xconfig_file: str) -> None:
    from nnet.text.files import read_text, shown
    from nnet.xconfig.formatting import formatted

    print(formatted(read_text(xconfig_file), shown(xconfig_file)), end="")


def _print_mistakes(xconfig_file: str, base: Network | None) -> None:
    from nnet.text.files import read_text, shown

    found = _mistakes(read_text(xconfig_file), shown(xconfig_file), base)
    if found:
        print("\n\n".join(map(str, found)))
        raise Exit(1)


def _mistakes(text: str, name: str, base: Network | None) -> Sequence[NnetError]:
    """All mistakes of the xconfig, or else the first one that its components report."""
    from nnet.modelfile.networks import config_network, expand_over, readable_nodes
    from nnet.text.parse import parse_xconfig
    from nnet.xconfig.checking import mistakes

    found = mistakes(text, name, readable_nodes(base))
    if found:
        return found
    try:
        expansion = expand_over(base, parse_xconfig(text, name))
        config_network(expansion.ref, base, None, expansion)
    except NnetError as error:
        return [error]
    return []


def _convert(xconfig_file: str, directory: str, base: Network | None, edits: str) -> None:
    from nnet.modelfile.networks import expand_over
    from nnet.text.parse import read_xconfig
    from nnet.xconfig.texts import config_texts, matrix_text

    expansion = expand_over(base, read_xconfig(xconfig_file))
    texts = config_texts(expansion)
    texts["vars"] = _vars(expansion, base, edits)
    matrices = {path: matrix_text(matrix) for path, matrix in expansion.matrices.items()}
    _write(Path(directory), texts, matrices)


def _existing(model: str) -> Network | None:
    if not model:
        return None
    from nnet.modelfile.model import read_model

    return read_model(model).network


def _vars(expansion: Expansion, base: Network | None, edits: str) -> str:
    """The text of `vars`: the context of ref.config in frames.

    Raises:
        NnetError: init.config reads frames that ref.config does not.
    """
    left, right = _context(expansion, expansion.ref, base, edits)
    if expansion.init is not None:
        init_left, init_right = _context(expansion, expansion.init, base, "")
        if init_left > left or init_right > right:
            raise NnetError(
                f"init.config needs {init_left} frames of left and {init_right} of right context, "
                f"more than the {left} and {right} of ref.config\n"
                "if the output has output-delay=N, give the fixed-affine-layer delay=N"
            )
    return f"model_left_context={left}\nmodel_right_context={right}\n"


def _context(
    expansion: Expansion, config: File, base: Network | None, edits: str
) -> tuple[int, int]:
    from nnet.graph.context import context
    from nnet.modelfile.networks import config_network

    network = config_network(config, base, None, expansion)
    return context(_edited(network, edits) if edits else network)


def _edited(network: Network, edits: str) -> Network:
    from nnet.graph.edits import edit

    return edit(network, edits, "<nnet-edits>")


def _write(directory: Path, texts: dict[str, str], matrices: dict[str, str]) -> None:
    """Writes the config files to the directory, and the matrices where the xconfig says."""
    from nnet.atomic import atomic_write

    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NnetError(f"cannot make the directory '{directory}': {error.strerror}") from None
    files = matrices | {str(directory / name): text for name, text in texts.items()}
    for path, text in files.items():
        with atomic_write(path) as file:
            file.write(text.encode())
    if "init.config" not in texts:
        (directory / "init.config").unlink(missing_ok=True)
