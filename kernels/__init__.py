"""Kernels of the compiler, imported as `nnet.kernels`; they know nothing of networks or plans."""

if __name__ != "nnet.kernels":
    raise ImportError("import this package as nnet.kernels")
