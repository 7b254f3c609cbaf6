"""Where tensors live."""

from __future__ import annotations

import torch

from nnet.errors import NnetError


def select_device(name: str) -> torch.device:
    """The device called `cpu`, `cuda` or `cuda:N`.

    Raises:
        NnetError: there is no such device, or torch cannot use it here.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise NnetError(f"--device is '{name}', expected cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise NnetError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu"
        )
    return torch.device(name)
