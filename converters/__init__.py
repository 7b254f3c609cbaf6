"""Converters to and from other formats, imported as `nnet.converters`."""

if __name__ != "nnet.converters":
    raise ImportError("import this package as nnet.converters")
