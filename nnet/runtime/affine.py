"""Affine operations of a plan: one by one, or one after the other in one call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby

import torch
from torch import Tensor

from nnet.kernels.affine.blocked import BlockedAffine
from nnet.kernels.affine.chain import AffineChain, Link
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Epilogue, Term
from nnet.modules.affine import AnyAffine, FixedAffine, Part
from nnet.modules.elementwise import ScaleOffset
from nnet.plan.ir import SplicedAffine, Value
from nnet.runtime.device import autocast_dtype
from nnet.runtime.values import Entry, Values


class AffineStep:
    """Carries out one affine operation.

    Args:
        value: the value that it computes.
        names: the values that `Term.source` counts.
        terms: those of the operation, then its bypasses.
        consume_bypass: nobody needs the source of the only bypass afterwards.
        packed: whether it runs on packed weights in C++; a chain of such steps is one.
    """

    def __init__(
        self,
        operation: SplicedAffine,
        value: Value,
        names: Sequence[Value],
        terms: Sequence[Term],
        module: AnyAffine,
        scale_offset: ScaleOffset | None,
        consume_bypass: bool,
        packed: bool = False,
    ) -> None:
        self.value = value
        self.packed = packed
        self.names = tuple(names)
        self.terms = tuple(terms[: len(operation.terms)])
        self.bypass = tuple(terms[len(operation.terms) :])
        self.module = module
        self.dim = operation.dim
        self.times = max(term.length for term in self.terms)
        self._activation = operation.activation
        self._ones = operation.ones
        self._scale_offset = scale_offset
        self._consume_bypass = consume_bypass
        self._plain = not (operation.activation or scale_offset is not None or self.bypass)
        ends = list(accumulate(term.dim for term in self.terms))
        self.parts = tuple(
            Part(end - term.dim, term.dim, term.scale)
            for end, term in zip(ends, self.terms, strict=True)
        )
        self._blocked: BlockedAffine | None = None

    def epilogue(self) -> Epilogue:
        """What follows the transform, with the present scales and offsets."""
        given = self._scale_offset
        scales, offsets = (None, None) if given is None else (given.scales, given.offsets)
        return Epilogue(self._activation, scales, offsets, self.bypass)

    def __call__(self, values: Values) -> Tensor:
        sources = [values[name] for name in self.names]
        module = self.module
        on_cpu = sources[0].device.type == "cpu" and module.implementation != "triton"
        if isinstance(module, FixedAffine) and on_cpu and not torch.is_grad_enabled():
            blocks = module.blocks(self.parts, autocast_dtype("cpu"))
            if self._blocked is None or self._blocked.blocks is not blocks:
                self._blocked = BlockedAffine(
                    self.terms,
                    blocks,
                    module.bias,
                    self.epilogue(),
                    self._consume_bypass,
                    self._ones,
                )
            return self._blocked(sources, values.get(self.value))
        return spliced_affine(
            sources,
            self.terms,
            module.linear,
            module.bias,
            None if self._plain else self.epilogue(),
            module.observer,
            implementation=module.implementation,
        )

    @property
    def version(self) -> int:
        """Grows when the matrix of a fixed component changes."""
        return self.module.version if isinstance(self.module, FixedAffine) else 0

    def links(self, spare: Value, bf16: bool) -> list[Link]:
        """The step as transforms of a chain; what is the same at all times is a transform of its
        own."""
        bias = self.module.bias
        moving = [n for n, term in enumerate(self.terms) if term.step or self.times == 1]
        once = [n for n in range(len(self.terms)) if n not in moving]
        if not once:
            return [self._link(self.value, self.times, moving, bias, None, self.epilogue(), bf16)]
        return [
            self._link(spare, 1, once, bias, None, Epilogue(), bf16),
            self._link(self.value, self.times, moving, None, spare, self.epilogue(), bf16),
        ]

    def _link(
        self,
        value: Value,
        times: int,
        numbers: Sequence[int],
        bias: Tensor | None,
        own_bias: Value | None,
        epilogue: Epilogue,
        bf16: bool,
    ) -> Link:
        assert isinstance(self.module, FixedAffine)
        terms = tuple(self.terms[number] for number in numbers)
        parts = tuple(self.parts[number] for number in numbers)
        weight = self.module.packed(parts, bf16) if parts else None
        return Link(value, times, self.dim, self.names, terms, weight, bias, own_bias, epilogue)


class ChainStep:
    """Affine operations one after the other; gives the values that are read after them."""

    def __init__(self, steps: Sequence[AffineStep], kept: Sequence[Value], bf16: bool) -> None:
        self._bf16 = bf16
        self._steps = steps
        self._kept = kept
        own = {step.value for step in steps}
        self._outer = list(dict.fromkeys(n for s in steps for n in s.names if n not in own))
        self._chains: dict[int, tuple[int, AffineChain]] = {}

    def __call__(self, values: Values) -> list[Tensor]:
        outer = [values[value].contiguous() for value in self._outer]
        batch = outer[0].shape[1]
        version = sum(step.version for step in self._steps)
        known, chain = self._chains.get(batch, (None, None))
        if chain is None or known != version:
            links = [
                link for step in self._steps for link in step.links(-1 - step.value, self._bf16)
            ]
            dims = {v: x.shape[-1] for v, x in zip(self._outer, outer, strict=True)}
            chain = AffineChain(links, self._kept, dims, batch, bf16=self._bf16)
            self._chains[batch] = (version, chain)
        return chain(outer, [values.get(value) for value in self._kept])


def chained(entries: Sequence[Entry], bf16: bool) -> list[Entry]:
    """Affine steps that follow each other as one step, on bfloat16's matrix units if asked for."""
    with_chains: list[Entry] = []
    for linked, group in groupby(entries, _can_be_linked):
        members = list(group)
        if not linked:
            with_chains.extend(members)
            continue
        computed = [value for value, _, _ in members]
        finished = {value for _, _, done in members for value in done}
        kept = [value for value in computed if value not in finished]
        steps = [step for _, step, _ in members if isinstance(step, AffineStep)]
        chain = ChainStep(steps, kept, bf16)
        with_chains.append((tuple(kept), chain, [v for v in finished if v not in computed]))
    return with_chains


def _can_be_linked(entry: Entry) -> bool:
    return isinstance(entry[1], AffineStep) and entry[1].packed
