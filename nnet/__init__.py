"""A compiler for Kaldi nnet3 acoustic models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnet.converters.convert import convert as convert
    from nnet.graph.network import Network as Network
    from nnet.modelfile.model import Model as Model
    from nnet.modelfile.model import read_model as load
    from nnet.modelfile.model import write_model as save
    from nnet.modelfile.networks import build as build
    from nnet.plan.request import Request as Request
    from nnet.plan.request import TimeList as TimeList
    from nnet.plan.request import TimeRange as TimeRange
    from nnet.runtime.compiled import compile_network as compile
    from nnet.speech.recognition import Recognizer as Recognizer
    from nnet.text.parse import parse_config as parse_config
    from nnet.text.parse import parse_xconfig as parse_xconfig

# The public names and where they are; each is imported when it is first used.
_PUBLIC = {
    "Model": ("nnet.modelfile.model", "Model"),
    "Network": ("nnet.graph.network", "Network"),
    "Recognizer": ("nnet.speech.recognition", "Recognizer"),
    "Request": ("nnet.plan.request", "Request"),
    "TimeList": ("nnet.plan.request", "TimeList"),
    "TimeRange": ("nnet.plan.request", "TimeRange"),
    "build": ("nnet.modelfile.networks", "build"),
    "compile": ("nnet.runtime.compiled", "compile_network"),
    "convert": ("nnet.converters.convert", "convert"),
    "load": ("nnet.modelfile.model", "read_model"),
    "parse_config": ("nnet.text.parse", "parse_config"),
    "parse_xconfig": ("nnet.text.parse", "parse_xconfig"),
    "save": ("nnet.modelfile.model", "write_model"),
}

__all__ = [
    "Model",
    "Network",
    "Recognizer",
    "Request",
    "TimeList",
    "TimeRange",
    "build",
    "compile",
    "convert",
    "load",
    "parse_config",
    "parse_xconfig",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nnet' has no attribute '{name}'")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value
