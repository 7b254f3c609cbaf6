"""The transition model in front of an acoustic model: HMM topology, states and probabilities.

Written by Kaldi's hmm/transition-model.cc and hmm/hmm-topology.cc; kept intact here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.limits import LARGEST_PDF, LARGEST_PDF_CLASS, LARGEST_PHONE
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import Writer

NO_PDF = -1
LARGEST_LOG_PROB = 0.01  # more than 0, for rounding


@dataclass(frozen=True)
class HmmState:
    """A state: its pdf-classes (-1 for a non-emitting state) and (destination, probability)s."""

    forward_pdf_class: int
    self_loop_pdf_class: int
    transitions: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Topology:
    """HMMs of the phones.

    Args:
        phones: the phones, sorted.
        phone_to_entry: for every integer from 0 the index of its entry, or -1.
        entries: the HMMs, each a tuple of states.
    """

    phones: tuple[int, ...]
    phone_to_entry: tuple[int, ...]
    entries: tuple[tuple[HmmState, ...], ...]

    @property
    def is_hmm(self) -> bool:
        """Whether self-loops and other transitions of every state have the same pdf."""
        return all(
            state.forward_pdf_class == state.self_loop_pdf_class
            for phone in self.phones
            for state in self.entries[self.phone_to_entry[phone]]
        )


@dataclass(frozen=True, eq=False)
class TransitionModel:
    """Topology, transition-states and transition log-probabilities.

    Args:
        topology: the HMMs.
        tuples: a transition-state each: phone, HMM-state, forward pdf, self-loop pdf.
        log_probs: log-probability of each transition-id; the first element is unused.
    """

    topology: Topology
    tuples: tuple[tuple[int, int, int, int], ...]
    log_probs: np.ndarray

    @property
    def num_pdfs(self) -> int:
        """One more than the largest pdf."""
        return 1 + max((max(t[2], t[3]) for t in self.tuples), default=-1)

    @property
    def num_transition_ids(self) -> int:
        entries, to_entry = self.topology.entries, self.topology.phone_to_entry
        return sum(len(entries[to_entry[t[0]]][t[1]].transitions) for t in self.tuples)


def read_transition_model(reader: Reader) -> TransitionModel:
    """The transition model that begins here."""
    reader.expect("<TransitionModel>")
    topology = read_topology(reader)
    start = reader.position
    kind = reader.expect("<Triples>", "<Tuples>")
    count = _count(reader, "the number of transition-states")
    width = 4 if kind == "<Tuples>" else 3
    numbers = reader.integer_list(width * count)
    columns = [numbers[i::width] for i in range(width)]
    tuples = tuple(zip(*columns[:3], columns[-1], strict=True))
    reader.expect("</Triples>", "</Tuples>")
    for phone, state, pdf, self_loop_pdf in tuples:
        entry = _entry_of(topology, phone)
        is_pdf = 0 <= pdf <= LARGEST_PDF and 0 <= self_loop_pdf <= LARGEST_PDF
        if entry is None or not 0 <= state < len(entry) or not is_pdf:
            reader.fail(
                "transition-states of the topology",
                f"phone {phone}, state {state}, pdfs {pdf} and {self_loop_pdf}",
                at=start,
            )
    reader.expect("<LogProbs>")
    start = reader.position
    model = TransitionModel(topology, tuples, reader.vector())
    if model.log_probs.size != model.num_transition_ids + 1:
        reader.fail(
            f"{model.num_transition_ids + 1} log-probabilities", str(model.log_probs.size), at=start
        )
    wrong = model.log_probs[~(model.log_probs <= LARGEST_LOG_PROB)]
    if wrong.size:
        reader.fail("log-probabilities, 0 at most", str(wrong[0]), at=start)
    reader.expect("</LogProbs>")
    reader.expect("</TransitionModel>")
    return model


def _entry_of(topology: Topology, phone: int) -> tuple[HmmState, ...] | None:
    if not 0 <= phone < len(topology.phone_to_entry) or topology.phone_to_entry[phone] < 0:
        return None
    return topology.entries[topology.phone_to_entry[phone]]


def _count(reader: Reader, what: str) -> int:
    """A number of things that follow; each takes at least a byte."""
    start = reader.position
    count = reader.integer()
    if not 0 <= count <= reader.remaining:
        reader.fail(what, str(count), at=start)
    return count


def read_topology(reader: Reader) -> Topology:
    """The topology that begins here.

    Raises:
        NnetError: it is damaged.
    """
    reader.expect("<Topology>")
    start = reader.position
    topology = _read_binary(reader) if reader.binary else _read_text(reader)
    for phone in topology.phones:
        if _entry_of(topology, phone) is None:
            reader.fail("an HMM for every phone", f"none for phone {phone}", at=start)
    if any(not -1 <= e < len(topology.entries) for e in topology.phone_to_entry):
        reader.fail("a map of phones to HMMs", "one with too large numbers", at=start)
    if topology.phones and not 0 < min(topology.phones) <= max(topology.phones) <= LARGEST_PHONE:
        reader.fail(f"phones from 1 to {LARGEST_PHONE}", str(topology.phones[0]), at=start)
    for entry in topology.entries:
        _check_entry(reader, entry, start)
    return topology


def _check_entry(reader: Reader, entry: tuple[HmmState, ...], start: int) -> None:
    """Fails unless transitions lead to states, and pdf-classes are few."""
    for state in entry:
        for pdf_class in (state.forward_pdf_class, state.self_loop_pdf_class):
            if not NO_PDF <= pdf_class < LARGEST_PDF_CLASS:
                reader.fail(
                    f"pdf-classes from 0 to {LARGEST_PDF_CLASS - 1}", str(pdf_class), at=start
                )
        for destination, probability in state.transitions:
            if not 0 <= destination < len(entry) or not 0 <= probability < np.inf:
                reader.fail(
                    f"transitions to states below {len(entry)}, with probabilities",
                    f"one to {destination} with {probability:g}",
                    at=start,
                )


def _read_binary(reader: Reader) -> Topology:
    start = reader.position
    phones, to_entry = reader.integers(), reader.integers()
    size = reader.integer()
    is_hmm = size != -1
    count = size if is_hmm else reader.integer()
    if not 0 <= count <= reader.remaining:
        reader.fail("the number of HMMs", str(count), at=start)
    entries = []
    for _ in range(count):
        states = [
            _read_binary_state(reader, is_hmm) for _ in range(_count(reader, "a number of states"))
        ]
        entries.append(tuple(states))
    reader.expect("</Topology>")
    if any(not -1 <= e < count for e in to_entry):
        reader.fail("a map of phones to HMMs", "one with other numbers", at=start)
    return Topology(phones, to_entry, tuple(entries))


def _read_binary_state(reader: Reader, is_hmm: bool) -> HmmState:
    forward = reader.integer()
    self_loop = forward if is_hmm else reader.integer()
    count = _count(reader, "a number of transitions")
    return HmmState(
        forward, self_loop, tuple((reader.integer(), reader.real()) for _ in range(count))
    )


def _read_text(reader: Reader) -> Topology:
    to_entry: dict[int, int] = {}
    entries: list[tuple[HmmState, ...]] = []
    while reader.expect("<TopologyEntry>", "</Topology>") == "<TopologyEntry>":
        states: list[HmmState] = []
        reader.expect("<ForPhones>")
        while reader.peek_token() != "</ForPhones>":
            start = reader.position
            phone = reader.integer()
            if not 0 < phone <= LARGEST_PHONE or phone in to_entry:
                reader.fail("a phone (a positive integer) in one entry only", str(phone), at=start)
            to_entry[phone] = len(entries)
        reader.expect("</ForPhones>")
        while reader.expect("<State>", "</TopologyEntry>") == "<State>":
            states.append(_read_text_state(reader, len(states)))
        entries.append(tuple(states))
    if not to_entry:
        reader.fail("a topology with phones", "none")
    table = tuple(to_entry.get(phone, -1) for phone in range(max(to_entry) + 1))
    return Topology(tuple(sorted(to_entry)), table, tuple(entries))


def _read_text_state(reader: Reader, number: int) -> HmmState:
    start = reader.position
    found = reader.integer()
    if found != number:
        reader.fail(f"state {number}", f"state {found}", at=start)
    forward = self_loop = NO_PDF
    if reader.peek_token() == "<PdfClass>":
        reader.expect("<PdfClass>")
        forward = self_loop = reader.integer()
    elif reader.peek_token() == "<ForwardPdfClass>":
        reader.expect("<ForwardPdfClass>")
        forward = reader.integer()
        reader.expect("<SelfLoopPdfClass>")
        self_loop = reader.integer()
    transitions = []
    while reader.expect("<Transition>", "</State>") == "<Transition>":
        transitions.append((reader.integer(), reader.real()))
    return HmmState(forward, self_loop, tuple(transitions))


def write_transition_model(writer: Writer, model: TransitionModel) -> None:
    """Writes a transition model."""
    is_hmm = model.topology.is_hmm
    _write_token_line(writer, "<TransitionModel>")
    writer.token("<Topology>")
    if writer.binary:
        _write_binary(writer, model.topology, is_hmm)
    else:
        _write_text(writer, model.topology, is_hmm)
    _write_token_line(writer, "</Topology>")
    writer.token("<Triples>" if is_hmm else "<Tuples>")
    writer.integer(len(model.tuples))
    writer.text_newline()
    for numbers in model.tuples:
        for number in numbers[: 3 if is_hmm else 4]:
            writer.integer(number)
        writer.text_newline()
    _write_token_line(writer, "</Triples>" if is_hmm else "</Tuples>")
    _write_token_line(writer, "<LogProbs>")
    writer.vector(model.log_probs)
    _write_token_line(writer, "</LogProbs>")
    _write_token_line(writer, "</TransitionModel>")


def _write_token_line(writer: Writer, token: str) -> None:
    writer.token(token)
    writer.text_newline()


def _write_binary(writer: Writer, topology: Topology, is_hmm: bool) -> None:
    writer.integers(topology.phones)
    writer.integers(topology.phone_to_entry)
    if not is_hmm:
        writer.integer(-1)
    writer.integer(len(topology.entries))
    for entry in topology.entries:
        writer.integer(len(entry))
        for state in entry:
            writer.integer(state.forward_pdf_class)
            if not is_hmm:
                writer.integer(state.self_loop_pdf_class)
            writer.integer(len(state.transitions))
            for destination, probability in state.transitions:
                writer.integer(destination)
                writer.real(probability)


def _write_text(writer: Writer, topology: Topology, is_hmm: bool) -> None:
    writer.text_newline()
    for index, entry in enumerate(topology.entries):
        _write_token_line(writer, "<TopologyEntry>")
        _write_token_line(writer, "<ForPhones>")
        for phone, entry_index in enumerate(topology.phone_to_entry):
            if entry_index == index:
                writer.integer(phone)
        writer.text_newline()
        _write_token_line(writer, "</ForPhones>")
        for number, state in enumerate(entry):
            _write_text_state(writer, number, state, is_hmm)
        _write_token_line(writer, "</TopologyEntry>")


def _write_text_state(writer: Writer, number: int, state: HmmState, is_hmm: bool) -> None:
    writer.token("<State>")
    writer.integer(number)
    if state.forward_pdf_class != NO_PDF and is_hmm:
        writer.token("<PdfClass>")
        writer.integer(state.forward_pdf_class)
    elif state.forward_pdf_class != NO_PDF:
        writer.token("<ForwardPdfClass>")
        writer.integer(state.forward_pdf_class)
        writer.token("<SelfLoopPdfClass>")
        writer.integer(state.self_loop_pdf_class)
    for destination, probability in state.transitions:
        writer.token("<Transition>")
        writer.integer(destination)
        writer.real(probability)
    _write_token_line(writer, "</State>")
