"""Options about the machine that several commands have."""

from __future__ import annotations

from nnet.options import Option

DEVICE = Option("cpu, cuda or cuda:N.")
KERNELS = Option("Implementations: reference, native, triton or auto.")
NUM_THREADS = Option("CPU threads; 0: torch's default.", least=0)
