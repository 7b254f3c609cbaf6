"""Peak memory of a training step on a CPU: a TDNN-F of 22 M parameters, 64 chunks of 150 frames.

Ours with natural gradient, what the derivative needs kept as it is and in 16 bits, against the net
hand-written in plain torch with plain SGD: once computing every frame, as such nets are written,
once leaving frames out as early as ours does. Each is a process of its own; what counts is how far
its resident memory rises above what it had before the first of some steps. Once every large tensor
has pages of its own, so that holes between tensors do not count, and once memory is kept from step
to step as the commands do, for ours and the peers alike.

    python -m benchmarks.memory [--chunks 64]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import nnet
from benchmarks.harness import RESULTS, machine
from benchmarks.plain_tdnnf import PlainTdnnf
from nnet.process import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD

FRAMES = 150
PDFS = 6000
STRIDES = (1, 1, 1, 0, *(3,) * 16)
LARGE = 1 << 17

XCONFIG = "\n".join(
    (
        "input dim=100 name=ivector",
        "input dim=40 name=input",
        "affine-layer name=lda dim=220 input=Append(-1,0,1,ReplaceIndex(ivector, t, 0))",
        "relu-batchnorm-layer name=tdnn1 dim=1536",
        *(
            f"tdnnf-layer name=tdnnf{n} bypass-scale=0.66 dim=1536 bottleneck-dim=160 "
            f"time-stride={s}"
            for n, s in enumerate(STRIDES, 2)
        ),
        "linear-component name=prefinal-l dim=256 orthonormal-constraint=-1.0",
        "prefinal-layer name=prefinal-chain small-dim=256 big-dim=1536",
        f"output-layer name=output dim={PDFS}",
    )
)

Loss = Callable[[], Tensor]
KINDS = {
    "ours, 16 bits": "memory-compression-level 2, natural gradient",
    "ours": "memory-compression-level 1, natural gradient",
    "plain": "plain torch, all frames, SGD",
    "plain early": "plain torch, frames left out early, SGD",
}
SETTINGS = {"pages": "pages of its own for every large tensor", "kept": "memory kept"}
"""How memory is asked for."""
STEPS = {"pages": 2, "kept": 4}
"""After how many steps no more memory is asked for."""


def main() -> None:
    """Prints rows and writes results/memory.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=64, help="chunks in a minibatch")
    parser.add_argument("--only", choices=KINDS, help="measure one of them, in this process")
    parser.add_argument("--setting", choices=SETTINGS, default="pages", help="with --only")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(rise(arguments.only, arguments.setting, arguments.chunks)))
        return
    rows = [row for setting in SETTINGS for row in _rows(setting, arguments.chunks)]
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": machine(), "rows": rows}
    Path(RESULTS / "memory.json").write_text(json.dumps(content, indent=2) + "\n")


def _rows(setting: str, chunks: int) -> list[dict[str, object]]:
    """Ours against the peers in one setting."""
    found = {kind: measured_apart(kind, setting, chunks) for kind in KINDS}
    rows: list[dict[str, object]] = []
    for ours in ("ours, 16 bits", "ours"):
        for peer in ("plain", "plain early"):
            share = found[ours] / found[peer]
            print(
                f"{SETTINGS[setting]:<40} {KINDS[ours]:<46} {found[ours] / 1e6:7.0f} MB   "
                f"{KINDS[peer]:<42} {found[peer] / 1e6:7.0f} MB   share {share:.2f}",
                flush=True,
            )
            rows.append(
                {
                    "subject": f"{KINDS[ours]}; {SETTINGS[setting]}",
                    "shape": f"{chunks} x {FRAMES} frames",
                    "ours_bytes": found[ours],
                    "peer": KINDS[peer],
                    "peer_bytes": found[peer],
                    "share": round(share, 3),
                }
            )
    return rows


def measured_apart(kind: str, setting: str, chunks: int) -> int:
    """`rise` in a new process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--only", kind, "--setting", setting]
    command += ["--chunks", str(chunks)]
    huge_pages = {"THP_MEM_ALLOC_ENABLE": "0" if setting == "pages" else "1"}
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | huge_pages
    ).stdout
    return int(json.loads(output.splitlines()[-1]))


def rise(kind: str, setting: str, chunks: int) -> int:
    """Bytes by which training steps raise the peak of this process."""
    if setting == "pages":
        _pages_of_their_own()
    loss, optimizer = _ours(kind, chunks) if kind.startswith("ours") else _plain(kind, chunks)
    before = _resident()
    for _ in range(STEPS[setting]):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def _pages_of_their_own() -> None:
    """Lets glibc give large pieces of memory back as soon as they are free."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, LARGE)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _ours(kind: str, chunks: int) -> tuple[Loss, torch.optim.Optimizer]:
    network = nnet.build(XCONFIG)
    level = 2 if "16" in kind else 1
    module = nnet.compile(network, memory_compression_level=level).train()
    request = module.chunk_request(FRAMES, subsampling=3)
    features, ivectors, targets = _data(dict(request.inputs)["input"].count, chunks)
    inputs = {"input": features, "ivector": ivectors}

    def loss() -> Tensor:
        return _loss(module(inputs, request)["output"], targets)

    return loss, NaturalGradientSGD(module)


def _plain(kind: str, chunks: int) -> tuple[Loss, torch.optim.Optimizer]:
    network = nnet.build(XCONFIG)
    request = nnet.compile(network).chunk_request(FRAMES, subsampling=3)
    module: nn.Module = PlainTdnnf(network, early=kind.endswith("early")).train()
    features, ivectors, targets = _data(dict(request.inputs)["input"].count, chunks)

    def loss() -> Tensor:
        return _loss(module(features, ivectors[:, 0]).log_softmax(-1), targets)

    return loss, torch.optim.SGD(module.parameters(), lr=1e-5)


def _data(frames: int, chunks: int) -> tuple[Tensor, Tensor, Tensor]:
    targets = torch.randint(0, PDFS, (chunks, FRAMES // 3))
    return torch.randn(chunks, frames, 40), torch.randn(chunks, 1, 100), targets


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.nll_loss(outputs.flatten(0, 1), targets.flatten(), reduction="sum")


if __name__ == "__main__":
    main()
