"""`nnet convert`: models of nnet1 and nnet2 to nnet3, and models of nnet3 to other formats."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nnet.commands.options import truth
from nnet.errors import NnetError

if TYPE_CHECKING:
    from nnet.converters.convert import Converted


def convert(
    source: Annotated[str, Argument(metavar="IN", help="Model, prototype or config, or -.")],
    target: Annotated[str, Argument(metavar="OUT", help="Where the result goes, or -.")],
    from_: Annotated[str, Option("--from", help="auto, nnet1, nnet2 or nnet3.")] = "auto",
    to: Annotated[
        str, Option(help="nnet3, nnet3-config (a folder), onnx or torch-export.")
    ] = "nnet3",
    feature_transform: Annotated[
        str, Option(metavar="FILE", help="nnet1: network to put in front, such as a splice.")
    ] = "",
    class_frame_counts: Annotated[
        str, Option(metavar="FILE", help="nnet1: frames of each pdf; they become the priors.")
    ] = "",
    transition_model: Annotated[
        str, Option(metavar="FILE", help="File that begins with a transition model; makes a .mdl.")
    ] = "",
    log_softmax: Annotated[
        str, Option(metavar="auto|true|false", help="Put out log-posteriors; auto: in a .mdl.")
    ] = "auto",
    ivector_input: Annotated[
        str,
        Option(
            metavar="true|false",
            help="nnet2: constant columns of the first splice become an input 'ivector'.",
        ),
    ] = "true",
    clamp_splices: Annotated[
        bool, Option("--clamp-splices", help="nnet1: repeat edge frames in each layer.")
    ] = False,
    kaldi_compatible: Annotated[
        bool, Option("--kaldi-compatible", help="Refuse results that Kaldi cannot load.")
    ] = False,
    frame_subsampling_factor: Annotated[
        int, Option(help="onnx, torch-export: input frames per output frame.")
    ] = 1,
    frames_per_chunk: Annotated[int, Option(help="torch-export: frames of a chunk.")] = 50,
    verify: Annotated[
        str, Option(metavar="FEATS", help="Rspecifier: compare on these features as well.")
    ] = "",
    dry_run: Annotated[bool, Option("--dry-run", help="Only report.")] = False,
    text: Annotated[bool, Option("--text", help="Write nnet3 in text form.")] = False,
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
            ivector_input=truth("--ivector-input", ivector_input),
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
