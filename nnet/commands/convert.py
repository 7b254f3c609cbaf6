"""`nnet convert`: models of nnet1 and nnet2 to nnet3, and nnet3 to other formats."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.commands.declare import truth
from nnet.errors import NnetError
from nnet.options import Applies, Option, Values

if TYPE_CHECKING:
    from nnet.converters.convert import Converted


def writes(*formats: str) -> Applies:
    """Applies where the result has one of some formats."""

    def holds(values: Values) -> bool:
        return values["to"] in formats

    return Applies(f"with --to {' or '.join(formats)}", holds)


def convert(
    source: Annotated[str, Argument(metavar="IN", help="Model, prototype or config, or -.")],
    target: Annotated[str, Argument(metavar="OUT", help="Where the result goes, or -.")],
    from_: Annotated[str, Option("auto, nnet1, nnet2 or nnet3.", names=("--from",))] = "auto",
    to: Annotated[str, Option("nnet3, nnet3-config (a folder), onnx or torch-export.")] = "nnet3",
    feature_transform: Annotated[
        str, Option("nnet1: network to put in front, such as a splice.", metavar="FILE")
    ] = "",
    class_frame_counts: Annotated[
        str, Option("nnet1: frames of each pdf; they become the priors.", metavar="FILE")
    ] = "",
    transition_model: Annotated[
        str, Option("File that begins with a transition model; makes a .mdl.", metavar="FILE")
    ] = "",
    log_softmax: Annotated[
        str, Option("Put out log-posteriors; auto: in a .mdl.", metavar="auto|true|false")
    ] = "auto",
    ivector_input: Annotated[
        bool, Option("nnet2: constant columns of the first splice become an input 'ivector'.")
    ] = True,
    clamp_splices: Annotated[bool, Option("nnet1: repeat edge frames in each layer.")] = False,
    kaldi_compatible: Annotated[bool, Option("Refuse results that Kaldi cannot load.")] = False,
    frame_subsampling_factor: Annotated[
        int, Option("Input frames per output frame.", applies=writes("onnx", "torch-export"))
    ] = 1,
    frames_per_chunk: Annotated[
        int, Option("Frames of a chunk.", least=1, applies=writes("torch-export"))
    ] = 50,
    verify: Annotated[
        str, Option("Rspecifier: compare on these features as well.", metavar="FEATS")
    ] = "",
    dry_run: Annotated[bool, Option("Only report.")] = False,
    text: Annotated[
        bool, Option("Write nnet3 in text form.", applies=writes("nnet3", "nnet3-config"))
    ] = False,
) -> None:
    """Converts a model. Results have the outputs of their source, which is checked.

    Prints what each component became to standard error.

    Example: nnet convert final.nnet final.mdl --feature-transform final.feature_transform
    --class-frame-counts ali_train_pdf.counts --transition-model final.mdl
    """
    from nnet.converters.convert import ConvertOptions, convert_legacy
    from nnet.converters.sources import Source, read_source
    from nnet.converters.targets.registry import TargetOptions, check_target, write_target

    check_target(to)
    found = read_source(source, from_)
    if isinstance(found, Source):
        wanted = None if log_softmax == "auto" else truth("--log-softmax", log_softmax)
        options = ConvertOptions(
            feature_transform=feature_transform or None,
            class_frame_counts=class_frame_counts or None,
            transition_model=transition_model or None,
            log_softmax=wanted,
            clamp_splices=clamp_splices,
            ivector_input=ivector_input,
            kaldi_compatible=kaldi_compatible,
        )
        converted = convert_legacy(found, options)
        _check(converted, verify)
        model = converted.model
    else:
        model = found
        if to == "nnet3":
            raise NnetError(f"{source}: is a model of nnet3 already; --to says what else")
    if not dry_run:
        how = TargetOptions(not text, frame_subsampling_factor, frames_per_chunk)
        for remark in write_target(model, to, target, how):
            print(f"nnet: {remark}", file=sys.stderr)


def _check(converted: Converted, feats: str) -> None:
    """Reports and checks; a wrong result is never written.

    Raises:
        NnetError: the result does not compute what its source does.
    """
    from nnet.converters.checking import part_errors
    from nnet.converters.report import LARGEST_ERROR, report

    errors = part_errors(converted)
    print(report(converted, errors), end="", file=sys.stderr)
    if feats:
        from nnet.data.tables import read_matrices

        for name, features in read_matrices(feats):
            found = part_errors(converted, features)
            print(f"{name}: {len(features)} frames, error {found[-1]:.1e}", file=sys.stderr)
            errors.append(found[-1])
    if not max(errors) < LARGEST_ERROR:
        raise NnetError(
            f"the result differs from its source by {max(errors):.1e} (relative); it is not "
            "written. Please report this as a defect"
        )
