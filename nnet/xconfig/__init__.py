"""xconfig: networks written layer by layer, and their expansion to config files."""

from nnet.xconfig.expansion import Expansion, expand

__all__ = ["Expansion", "expand"]
