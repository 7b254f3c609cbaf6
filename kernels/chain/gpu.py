"""Kernels of `nnet.kernels.chain.denominator`: a program for each state (row, pdf) and some
sequences.

Sequences lie next to each other in memory, so that what a transition reads of its state is read
together for all of them; transitions of a state are taken several at a time. One launch makes one
frame, for which every state of the frame before is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.chain.transitions import LIMIT, Denominator, Transitions, is_right
from nnet.kernels.gpu import (
    Configuration,
    Specimen,
    device_function,
    kernel,
    operator,
    tl,
    triton,
)

GATHERING = (
    Configuration({"ARCS": 16, "SEQUENCES": 64}, warps=4),
    Configuration({"ARCS": 8, "SEQUENCES": 128}, warps=4),
)
"""Bound by the latency of reads: enough transitions in flight, and enough programs."""
MAPPING = (Configuration({"ROWS": 16, "SEQUENCES": 64}, warps=4),)

_LISTS = {
    "begins": torch.int32, "places": torch.int32, "sequences": 128, "frame_of_values": 768_000,
}  # fmt: skip
FORWARD = {
    "alpha": torch.float32, "target": torch.float32, "rows": torch.float32,
    "likelihoods": torch.float32, "total": torch.float32, "row_leak": torch.float32,
    "probs": torch.float32, "sources": torch.int32, "row_begins": torch.int32,
    "row_pdfs": torch.int64, "state_begins": torch.int32, "sequences": 128, "KEPT": True,
}  # fmt: skip
ROWS = {
    "beta": torch.float32, "leaked": torch.float32, "likelihoods": torch.float32,
    "total": torch.float32, "rows": torch.float32, "onward": torch.float32,
    "row_states": torch.int64, "row_pdfs": torch.int64, "posteriors": torch.float32,
    "count": 6000, "sequences": 128,
}  # fmt: skip
STATES = {"values": torch.float32, "weights": torch.float32, "target": torch.float32, **_LISTS}
PDFS = {**STATES, "weights": None}


@device_function
def _weighted_sum(
    values, weights, places, begin, end, column, inside, sequences,
    ARCS: tl.constexpr, SEQUENCES: tl.constexpr,
):  # fmt: skip
    """The sum over `begin` .. `end` of weight times the values at a place, [SEQUENCES]."""
    total = tl.zeros([ARCS, SEQUENCES], tl.float32)
    for first in range(begin, end, ARCS):
        arc = first + tl.arange(0, ARCS)  # [ARCS]
        place = tl.load(places + arc, mask=arc < end, other=0)
        used = (arc < end)[:, None] & inside[None, :]  # [ARCS, SEQUENCES]
        weighted = tl.load(values + place[:, None] * sequences + column[None, :], used, other=0.0)
        if weights is not None:
            weighted *= tl.load(weights + arc, mask=arc < end, other=0.0)[:, None]
        total += weighted
    return tl.sum(total, 0)


@kernel(
    configurations=GATHERING,
    interpreted={"ARCS": 2, "SEQUENCES": 4},
    specimens=[Specimen("fp32", FORWARD)],
)
def _next_states(
    alpha,  # (states, sequences), as all below that are not (states,), (rows,) or (transitions,)
    target,
    rows,  # (rows, sequences)
    likelihoods,  # (pdfs, sequences)
    total,  # (sequences,), the sum of alpha
    row_leak,
    probs,
    sources,
    row_begins,
    row_pdfs,
    state_begins,
    sequences,
    KEPT: tl.constexpr,
    ARCS: tl.constexpr,
    SEQUENCES: tl.constexpr,
):
    """alpha of the next frame, (states, sequences): what reaches each of a state's rows over its
    arcs, and what leaks, times the likelihood of the row's pdf."""
    state = tl.program_id(0)
    column = tl.program_id(1) * SEQUENCES + tl.arange(0, SEQUENCES)  # [SEQUENCES]
    inside = column < sequences
    scale = 1.0 / tl.load(total + column, mask=inside, other=1.0)
    result = tl.zeros([SEQUENCES], tl.float32)
    for row in range(tl.load(state_begins + state), tl.load(state_begins + state + 1)):
        begin, end = tl.load(row_begins + row), tl.load(row_begins + row + 1)
        reached = _weighted_sum(
            alpha, probs, sources, begin, end, column, inside, sequences, ARCS, SEQUENCES
        )
        likelihood = likelihoods + tl.load(row_pdfs + row) * sequences
        reached = reached * scale + tl.load(row_leak + row)
        reached *= tl.load(likelihood + column, mask=inside, other=0.0)
        if KEPT:
            tl.store(rows + row * sequences + column, reached, mask=inside)
        result += reached
    tl.store(target + state * sequences + column, result, mask=inside)


@kernel(
    configurations=MAPPING,
    interpreted={"ROWS": 2, "SEQUENCES": 4},
    specimens=[Specimen("fp32", ROWS)],
)
def _row_posteriors(
    beta,  # (states, sequences), of the next frame without what leaks
    leaked,  # (sequences,), what leaks into each of them
    likelihoods,  # (pdfs, sequences)
    total,  # (sequences,)
    rows,  # (rows, sequences), from the forward recursion
    onward,  # (rows, sequences), likelihood times beta
    row_states,
    row_pdfs,
    count,
    sequences,
    posteriors,  # (rows, sequences)
    ROWS: tl.constexpr,
    SEQUENCES: tl.constexpr,
):
    """For each row, (rows, sequences): its posterior, and likelihood times beta, which the states
    before it add up."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    column = tl.program_id(1) * SEQUENCES + tl.arange(0, SEQUENCES)[None, :]
    valid = row < count
    inside = valid[:, None] & (column < sequences)  # [ROWS, SEQUENCES]
    state = tl.load(row_states + row, mask=valid, other=0)[:, None]
    pdf = tl.load(row_pdfs + row, mask=valid, other=0)[:, None]
    following = tl.load(beta + state * sequences + column, mask=inside, other=0.0)
    following += tl.load(leaked + column, mask=column < sequences, other=0.0)
    scale = 1.0 / tl.load(total + column, mask=column < sequences, other=1.0)
    likelihood = tl.load(likelihoods + pdf * sequences + column, mask=inside, other=0.0) * scale
    place = row[:, None] * sequences + column
    reached = tl.load(rows + place, mask=inside, other=0.0)
    tl.store(posteriors + place, reached * following, mask=inside)
    tl.store(onward + place, likelihood * following, mask=inside)


@kernel(
    configurations=GATHERING,
    interpreted={"ARCS": 2, "SEQUENCES": 4},
    specimens=[Specimen("states", STATES), Specimen("pdfs", PDFS)],
)
def _sums(
    values,  # (frames, many, sequences)
    weights,
    target,  # (frames, items, sequences)
    begins,
    places,
    sequences,
    frame_of_values,  # elements from a frame to the next
    ARCS: tl.constexpr,
    SEQUENCES: tl.constexpr,
):
    """Weighted sums of lists of rows, (frames, items, sequences): item i is the sum over its
    `places` of weight times value."""
    item, frame = tl.program_id(0), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * SEQUENCES + tl.arange(0, SEQUENCES)  # [SEQUENCES]
    inside = column < sequences
    begin, end = tl.load(begins + item), tl.load(begins + item + 1)
    values += frame * frame_of_values
    total = _weighted_sum(
        values, weights, places, begin, end, column, inside, sequences, ARCS, SEQUENCES
    )
    place = (frame * tl.num_programs(0) + item) * sequences + column
    tl.store(target + place, total, mask=inside)


def _fake_forward(
    likelihoods: Tensor,
    initial: Tensor,
    leak: Tensor,
    row_leak: Tensor,
    probs: Tensor,
    sources: Tensor,
    row_begins: Tensor,
    row_pdfs: Tensor,
    state_begins: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    frames, _, sequences = likelihoods.shape
    rows = likelihoods.new_empty((frames if keep else 0, len(row_pdfs), sequences))
    return rows, likelihoods.new_empty((frames + 1, sequences))


@operator(
    "denominator_forward(Tensor likelihoods, Tensor initial, Tensor leak, Tensor row_leak,"
    " Tensor probs, Tensor sources, Tensor row_begins, Tensor row_pdfs, Tensor state_begins,"
    " bool keep) -> (Tensor, Tensor)",
    fake=_fake_forward,
)
def forward(
    likelihoods: Tensor,
    initial: Tensor,
    leak: Tensor,
    row_leak: Tensor,
    probs: Tensor,
    sources: Tensor,
    row_begins: Tensor,
    row_pdfs: Tensor,
    state_begins: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The forward recursion.

    Args:
        likelihoods: (time, pdfs, sequences).
        leak: what of all probability leaks into each state (states,).
        row_leak: what of it each row takes on (rows,).
        keep: whether the probabilities of rows are wanted.

    Returns:
        Those (time, rows, sequences), or none; and the sums of alpha over the states
        (time + 1, sequences), by which it is divided in each frame.
    """
    lists = (leak, row_leak, probs, sources, row_begins, row_pdfs, state_begins)
    rows, sums = _fake_forward(likelihoods, initial, *lists, keep)
    frames, _, sequences = likelihoods.shape
    alpha = initial[:, None].repeat(1, sequences)
    target = torch.empty_like(alpha)
    for frame in range(frames):
        torch.sum(alpha, 0, out=sums[frame])
        _next_states(
            lambda meta: (len(initial), triton.cdiv(sequences, meta["SEQUENCES"])),
            like=(len(probs) // len(initial), sequences),
            alpha=alpha,
            target=target,
            rows=rows[frame] if keep else target,
            likelihoods=likelihoods[frame],
            total=sums[frame],
            row_leak=row_leak,
            probs=probs,
            sources=sources,
            row_begins=row_begins,
            row_pdfs=row_pdfs,
            state_begins=state_begins,
            sequences=sequences,
            KEPT=keep,
        )
        alpha, target = target, alpha
    torch.sum(alpha, 0, out=sums[frames])
    return rows, sums


def _fake_backward(
    rows: Tensor,
    likelihoods: Tensor,
    sums: Tensor,
    last_beta: Tensor,
    leak: Tensor,
    out_probs: Tensor,
    out_rows: Tensor,
    out_begins: Tensor,
    row_states: Tensor,
    row_pdfs: Tensor,
    pdf_rows: Tensor,
    pdf_begins: Tensor,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(likelihoods), likelihoods.new_empty((len(leak), rows.shape[2]))


@operator(
    "denominator_backward(Tensor rows, Tensor likelihoods, Tensor sums, Tensor last_beta,"
    " Tensor leak, Tensor out_probs, Tensor out_rows, Tensor out_begins, Tensor row_states,"
    " Tensor row_pdfs, Tensor pdf_rows, Tensor pdf_begins) -> (Tensor, Tensor)",
    fake=_fake_backward,
)
def backward(
    rows: Tensor,
    likelihoods: Tensor,
    sums: Tensor,
    last_beta: Tensor,
    leak: Tensor,
    out_probs: Tensor,
    out_rows: Tensor,
    out_begins: Tensor,
    row_states: Tensor,
    row_pdfs: Tensor,
    pdf_rows: Tensor,
    pdf_begins: Tensor,
) -> tuple[Tensor, Tensor]:
    """The backward recursion.

    Args:
        rows: from the forward recursion, as are `sums`.
        last_beta: after the last frame, the same for all states (sequences,).

    Returns:
        Posteriors of pdfs (time, pdfs, sequences), and beta of the first frame without what leaks
        (states, sequences).
    """
    posteriors, beta = torch.empty_like(likelihoods), last_beta.repeat(len(leak), 1)
    frames, count, sequences = rows.shape
    of_rows, onward = torch.empty_like(rows), torch.empty_like(rows[0])
    for frame in reversed(range(frames)):
        _row_posteriors(
            lambda meta: (
                triton.cdiv(count, meta["ROWS"]),
                triton.cdiv(sequences, meta["SEQUENCES"]),
            ),
            beta=beta,
            leaked=leak @ beta,
            likelihoods=likelihoods[frame],
            total=sums[frame],
            rows=rows[frame],
            onward=onward,
            row_states=row_states,
            row_pdfs=row_pdfs,
            count=count,
            sequences=sequences,
            posteriors=of_rows[frame],
        )
        _add(onward[None], out_probs, beta[None], out_begins, out_rows)
    _add(of_rows, None, posteriors, pdf_begins, pdf_rows)
    return posteriors, beta


def _add(
    values: Tensor, weights: Tensor | None, target: Tensor, begins: Tensor, places: Tensor
) -> None:
    """Sums up rows of `values` (frames, rows, sequences) to `target` (frames, items, sequences)."""
    frames, items, sequences = target.shape
    _sums(
        lambda meta: (items, triton.cdiv(sequences, meta["SEQUENCES"]), frames),
        like=(len(places) // items, frames > 1, sequences),
        values=values,
        weights=weights,
        target=target,
        begins=begins,
        places=places,
        sequences=sequences,
        frame_of_values=values.stride(0),
    )


def denominator_on_device(
    output: Tensor, transitions: Transitions, leaky_hmm_coefficient: float, scale: float | None
) -> Denominator:
    """The chain objective's denominator by Triton kernels:
    `nnet.kernels.chain.denominator.denominator` on a GPU.

    Args:
        output: pseudo log-likelihoods (time, sequences, pdfs).
        scale: by which the posteriors are multiplied; without it there are none.

    Returns:
        Log-probabilities (sequences,), posteriors (time, sequences, pdfs), and whether they are
        right.
    """
    t = transitions
    leak = leaky_hmm_coefficient * t.initial
    row_leak = torch.segment_reduce(t.probs * leak[t.sources], "sum", offsets=t.row_begins.long())
    likelihoods = output.float().clamp(-LIMIT, LIMIT).exp_().transpose(1, 2).contiguous()
    lists = (t.probs, t.sources, t.row_begins, t.row_pdfs, t.state_begins)
    rows, sums = forward(likelihoods, t.initial, leak, row_leak, *lists, scale is not None)
    total = sums[-1] * (1 + leak.sum())
    log_probs = sums[:-1].log().sum(0) + total.log()
    finite = log_probs.isfinite().all()
    if scale is None:
        return Denominator(log_probs, None, finite)
    lists = (t.out_probs, t.out_rows, t.out_begins, t.row_states, t.row_pdfs)
    of_pdfs, beta = backward(
        rows, likelihoods, sums, 1 / total, leak, *lists, t.pdf_rows, t.pdf_begins
    )
    posteriors = torch.mul(of_pdfs.transpose(1, 2), scale).contiguous()
    ok = is_right(t, leak, beta, of_pdfs[0] * scale, scale)
    return Denominator(log_probs, posteriors, ok & finite)
