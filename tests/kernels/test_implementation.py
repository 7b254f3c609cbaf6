"""Which implementation runs, and what users are told if it cannot."""

import subprocess
import sys

import pytest
import torch

from nnet.errors import NnetError
from nnet.kernels import implementation
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Term
from nnet.kernels.normalization.renorm import renorm

X = torch.ones(2, 1, 4)


def test_the_reference_does_without_triton():
    program = (
        "import pkgutil, importlib, sys, torch, nnet.kernels\n"
        "for module in pkgutil.walk_packages(nnet.kernels.__path__, 'nnet.kernels.'):\n"
        "    if 'gpu' not in module.name.split('.'):\n"
        "        importlib.import_module(module.name)\n"
        "from nnet.kernels.normalization.renorm import renorm\n"
        "renorm(torch.ones(2, 4), 4)\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_implementation():
    with pytest.raises(NnetError, match="'cuda', expected one of 'reference', 'native', 'triton'"):
        renorm(X, 4, implementation="cuda")


def test_no_kernels_for_float64():
    with pytest.raises(NnetError, match=r"float32, bfloat16, float16, found float64; use"):
        renorm(X.double(), 4, implementation="triton")


def test_native_code_computes_with_float32():
    term = Term(0, 0, 1, 2, None, 0, 4)
    with pytest.raises(NnetError, match="float32 on a CPU, found float64 on cpu; use impl"):
        spliced_affine([X.double()], [term], X[0].double(), None, implementation="native")


def test_native_code_is_not_at_hand(monkeypatch):
    monkeypatch.setattr(implementation, "native_is_available", lambda: False)
    term = Term(0, 0, 1, 2, None, 0, 4)
    with pytest.raises(NnetError, match=r"needs our C\+\+, which is not at hand here; use"):
        spliced_affine([X], [term], X[0], None, implementation="native")


def test_triton_is_not_installed(monkeypatch):
    monkeypatch.setattr(implementation, "triton_is_installed", lambda: False)
    with pytest.raises(NnetError, match="needs the package triton, which is not installed"):
        renorm(X, 4, implementation="triton")


def test_a_tensor_on_the_cpu_beside_a_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(NnetError, match="found a tensor on the CPU"):
        renorm(X, 4, implementation="triton")
