"""Minibatches for LF-MMI from features and alignments, without examples on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nnet.data.batches import Batch, Selection, Shape
from nnet.data.chain.minibatch import chain_targets
from nnet.data.chain.supervision import NoSupervisionError
from nnet.data.chain.supervisor import Supervisor
from nnet.data.corpus import Corpus
from nnet.data.minibatch import Minibatch, chunk_inputs
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import Supervision, chain_output, merge_chain_outputs
from nnet.plan.request import Request

log = logging.getLogger(__name__)


class ChainCollator:
    """Makes minibatches of a corpus whose targets are phones with lengths.

    Args:
        corpus: where the utterances come from.
        supervisor: makes their supervision.
        request_of: the request for chunks of a shape.
        output: the output that the supervision is for.
    """

    def __init__(
        self,
        corpus: Corpus,
        supervisor: Supervisor,
        request_of: Callable[[Shape], Request],
        output: str = "output",
    ) -> None:
        self._corpus = corpus
        self._supervisor = supervisor
        self._request_of = request_of
        self._output = output

    def __call__(self, batch: Batch) -> Minibatch:
        """The minibatch of a batch. Chunks without supervision, which are rare, are left out with
        a warning.

        Raises:
            NnetError: no chunk has a supervision.
        """
        found = [(s, supervision) for s in batch if (supervision := self._supervision(s))]
        if not found:
            raise NnetError(
                "no chunk of a minibatch has a supervision; expected: alignments of the phones "
                "that the denominator graph was made from"
            )
        kept = tuple(selection for selection, _ in found)
        utterances = [self._corpus.load(selection.utterance) for selection in kept]
        request = self._request_of(kept[0].shape)
        step = self._supervisor.subsampling
        outputs = [
            chain_output(self._output, supervision, selection.chunk.weights, step)
            for selection, supervision in found
        ]
        return Minibatch(
            request,
            chunk_inputs(kept, utterances, dict(request.inputs)),
            {self._output: chain_targets(merge_chain_outputs(outputs))},
            len(kept),
            tuple(utterance.name for utterance in utterances),
        )

    def _supervision(self, selection: Selection) -> Supervision | None:
        utterance = self._corpus.load(selection.utterance)
        try:
            return self._supervisor.supervision(utterance, selection.chunk)
        except NoSupervisionError as error:
            log.warning("frames from %d on are left out: %s", selection.chunk.start, error)
            return None
