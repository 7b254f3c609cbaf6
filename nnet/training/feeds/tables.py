"""The tables of a training run, loaded to fit a network."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.data.chain.alignments import alignment_reader, target_reader
from nnet.data.corpus import GIBIBYTE, Corpus, Sources, load_corpus
from nnet.data.example_set import ExampleSet
from nnet.data.merging import MergingRules
from nnet.data.options import IVECTORS, ONLINE_IVECTOR_PERIOD, ONLINE_IVECTORS
from nnet.data.streams import ByteReader
from nnet.data.target_tables import TargetTable
from nnet.data.targets import Target
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import read_chain_example
from nnet.modelfile.examples import read_example
from nnet.options import given, option
from nnet.training.options import TrainingOptions
from nnet.training.ports import Ports

NAMED = re.compile(r"([\w.-]+)=(.*)")
FEATS = given("feats")
VALID_FEATS = given("valid_feats")
EGS = given("egs")


def targets_by_output(option: str, given: Sequence[str]) -> dict[str, str]:
    """Rspecifiers by output of options RSPECIFIER (for '') or OUTPUT=RSPECIFIER.

    Raises:
        NnetError: there are two for one output.
    """
    found: dict[str, str] = {}
    for text in given:
        named = NAMED.fullmatch(text)
        name, rspecifier = named.groups() if named else ("", text)
        if name in found:
            output = f"output '{name}'" if name else "one output"
            raise NnetError(
                f"{option} is given twice for {output}: {found[name]} and {rspecifier}; expected: "
                "OUTPUT=RSPECIFIER, with the name of another output"
            )
        found[name] = rspecifier
    return found


@dataclass(frozen=True)
class Tables:
    """The data of a run, as rspecifiers. `memory` is in GiB, for training and validation each.

    `targets` are for the output `output`, or for several outputs by name, of which '' is that
    one. For LF-MMI they are phones with lengths. `ali_model` is a file with the transition model
    of alignments that are transition-ids.
    """

    feats: str = option("", "Rspecifier of training features.")
    targets: str | Mapping[str, str] = option(
        "",
        "Rspecifier of targets: alignments, posteriors or matrices; several times as "
        "OUTPUT=RSPECIFIER for several outputs.",
        parse=targets_by_output,
        many=True,
    )
    ali_model: str = option(
        "",
        "Transition model or .mdl that --targets were aligned with: they are its transition-ids, "
        "not pdf-ids (with --den-fst, not phones with lengths).",
        applies=FEATS,
    )
    ivectors: str | None = option(None, IVECTORS, applies=FEATS)
    online_ivectors: str | None = option(None, ONLINE_IVECTORS, applies=FEATS)
    online_ivector_period: int = option(10, ONLINE_IVECTOR_PERIOD)
    valid_feats: str | None = option(None, "Rspecifier of validation features.", applies=FEATS)
    valid_targets: str | Mapping[str, str] | None = option(
        None,
        "Rspecifier of validation targets, as --targets.",
        parse=targets_by_output,
        many=True,
        applies=FEATS,
    )
    valid_ivectors: str | None = option(
        None, "As --ivectors, for validation.", applies=VALID_FEATS & given("ivectors")
    )
    valid_online_ivectors: str | None = option(
        None, "As --online-ivectors.", applies=VALID_FEATS & given("online_ivectors")
    )
    memory: float = option(4.0, "GiB of data to hold; larger sets are streamed.", applies=FEATS)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that targets are for."""
        return tuple(_by_output(self.targets))


def _by_output(targets: str | Mapping[str, str]) -> Mapping[str, str]:
    return {"": targets} if isinstance(targets, str) else targets


@dataclass(frozen=True)
class Archives:
    """The archives of examples of a run, as rspecifiers.

    `egs_minibatch_size` has the form of nnet3-merge-egs' option; `egs_buffer_size` is how many
    examples are held for shuffling.
    """

    egs: tuple[str, ...] = option(
        (), "Rspecifier of examples instead of --feats; may be given several times.", many=True
    )
    valid_egs: str | None = option(None, "Rspecifier of validation examples.", applies=EGS)
    egs_minibatch_size: str = option(
        "128,1:64", "Examples in a minibatch, in the forms of nnet3-merge-egs.", applies=EGS
    )
    egs_buffer_size: int = option(5000, "Examples held for shuffling.", applies=EGS)


def example_sets(
    archives: Archives, options: TrainingOptions
) -> tuple[ExampleSet, ExampleSet | None]:
    """Training and validation examples.

    Raises:
        NnetError: an archive is missing or damaged, or has no minibatch.
    """
    is_chain = options.den_fst is not None
    make = functools.partial(
        ExampleSet,
        buffer_size=archives.egs_buffer_size,
        seed=options.seed,
        read=read_chain_example if is_chain else read_example,
    )
    rules = MergingRules.parse(archives.egs_minibatch_size)
    shifts = options.frame_subsampling_factor if is_chain else 1
    train = make(archives.egs, rules, shifts=shifts)
    if not archives.valid_egs:
        return train, None
    return train, make((archives.valid_egs,), MergingRules.parse("1:128"))


def load_data(
    tables: Tables, ports: Ports, options: TrainingOptions
) -> tuple[Corpus, Corpus | None]:
    """Training data, and validation data if there is any: tables of its own or a held-out share.

    Raises:
        NnetError: tables are missing, damaged, or do not fit the network.
    """
    sources = _sources(tables, ports, options)
    train = load_corpus(sources)
    if bool(tables.valid_feats) != bool(tables.valid_targets):
        raise NnetError("--valid-feats and --valid-targets come together; only one is given")
    if tables.valid_feats and tables.valid_targets:
        main, more = _target_tables(tables.valid_targets, tables, ports)
        valid = load_corpus(
            dataclasses.replace(
                sources,
                feats=tables.valid_feats,
                targets=main,
                more_targets=more,
                ivectors=tables.valid_ivectors,
                online_ivectors=tables.valid_online_ivectors,
            )
        )
        return train, valid
    if not options.valid_share:
        return train, None
    random = np.random.default_rng((options.seed, train.lengths.size))
    return train.split(options.valid_share, random)


def _target_tables(
    targets: str | Mapping[str, str], tables: Tables, ports: Ports
) -> tuple[str, dict[str, TargetTable]]:
    """The rspecifier of the main output's targets, and the tables of the others."""
    given = _by_output(targets)
    if set(given) != set(tables.outputs):
        raise NnetError(
            "--valid-targets are for other outputs than --targets; expected: the same outputs"
        )
    by_name = {name or ports.output: rspecifier for name, rspecifier in given.items()}
    main = by_name.pop(ports.output)
    return main, {name: TargetTable(text, ports.more[name]) for name, text in by_name.items()}


def _sources(tables: Tables, ports: Ports, options: TrainingOptions) -> Sources:
    given = [t for t in (tables.ivectors, tables.online_ivectors) if t]
    if len(given) == 2:
        raise NnetError("both --ivectors and --online-ivectors are given; expected: one of them")
    if given and ports.ivector_dim is None:
        raise NnetError(
            "i-vectors are given, but the network has no input named 'ivector'; leave "
            "--ivectors out, or add 'input dim=N name=ivector' to the xconfig"
        )
    if not given and ports.ivector_dim is not None:
        raise NnetError(
            f"the network has an input 'ivector' of dim {ports.ivector_dim}, but no i-vectors are "
            "given; add --ivectors or --online-ivectors"
        )
    if ports.more and tables.ali_model:
        raise NnetError(
            "--ali-model is for --targets of one output alone; give pdf-ids for several"
        )
    if ports.more and options.den_fst is not None:
        raise NnetError("LF-MMI is trained from --feats with --targets for one output alone")
    main, more = _target_tables(tables.targets, tables, ports)
    return Sources(
        feats=tables.feats,
        targets=main,
        more_targets=more,
        feature_dim=ports.feature_dim,
        output_dim=ports.output_dim,
        ivectors=tables.ivectors,
        online_ivectors=tables.online_ivectors,
        online_ivector_period=tables.online_ivector_period,
        ivector_dim=ports.ivector_dim,
        subsampling=options.frame_subsampling_factor,
        memory=int(tables.memory * GIBIBYTE),
        read_target=_reader(tables, ports, options),
    )


def _reader(
    tables: Tables, ports: Ports, options: TrainingOptions
) -> Callable[[ByteReader], Target]:
    """What reads the main output's targets."""
    if options.den_fst is None:
        return target_reader(tables.ali_model, ports.output_dim)
    return alignment_reader(tables.ali_model)
