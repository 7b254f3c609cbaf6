"""The tables of a training run, loaded to fit a network."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.data.chain.alignments import alignment_reader
from nnet.data.corpus import GIBIBYTE, Corpus, Sources, load_corpus
from nnet.data.example_set import ExampleSet
from nnet.data.merging import MergingRules
from nnet.data.target_tables import TargetTable
from nnet.data.targets import read_target
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import read_chain_example
from nnet.modelfile.examples import read_example
from nnet.training.feeds.ports import Ports
from nnet.training.options import TrainingOptions


@dataclass(frozen=True)
class Tables:
    """The data of a run, as rspecifiers. `memory` is in GiB, for training and validation each.

    `targets` are for the output `output`, or for several outputs by name, of which '' is that
    one. For LF-MMI they are phones with lengths, or transition-ids of the model in the
    file `ali_model`.
    """

    feats: str
    targets: str | Mapping[str, str]
    ivectors: str | None = None
    online_ivectors: str | None = None
    online_ivector_period: int = 10
    valid_feats: str | None = None
    valid_targets: str | Mapping[str, str] | None = None
    valid_ivectors: str | None = None
    valid_online_ivectors: str | None = None
    memory: float = 4.0
    ali_model: str = ""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that targets are for."""
        return tuple(_by_output(self.targets))


NAMED = re.compile(r"([\w.-]+)=(.*)")


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


def _by_output(targets: str | Mapping[str, str]) -> Mapping[str, str]:
    return {"": targets} if isinstance(targets, str) else targets


@dataclass(frozen=True)
class Archives:
    """The archives of examples of a run, as rspecifiers.

    `minibatch_size` has the form of nnet3-merge-egs' option; `buffer_size` is how many examples are
    held for shuffling.
    """

    egs: tuple[str, ...]
    valid_egs: str | None = None
    minibatch_size: str = "128,1:64"
    buffer_size: int = 5000


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
        buffer_size=archives.buffer_size,
        seed=options.seed,
        read=read_chain_example if is_chain else read_example,
    )
    rules = MergingRules.parse(archives.minibatch_size)
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
        read_target=read_target if options.den_fst is None else alignment_reader(tables.ali_model),
    )
