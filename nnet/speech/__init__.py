"""From sound to what a network gets, without torch: features, normalization, i-vectors."""

from nnet.speech.features import Fbank, FbankOptions, Features, Mfcc, MfccOptions
from nnet.speech.kinds import make_features, stream_of
from nnet.speech.online_features import OnlineFeatures
from nnet.speech.pipeline import FeaturePipeline, OnlinePipeline, read_pipeline
from nnet.speech.waves import Wave, load_wave

__all__ = [
    "Fbank",
    "FbankOptions",
    "FeaturePipeline",
    "Features",
    "Mfcc",
    "MfccOptions",
    "OnlineFeatures",
    "OnlinePipeline",
    "Wave",
    "load_wave",
    "make_features",
    "read_pipeline",
    "stream_of",
]
