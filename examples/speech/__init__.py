"""Phones of speech made on the spot, or words of a folder of recordings: from sound to a model.

    python -m examples.speech
    python -m examples.speech --recordings FOLDER --held-out SPEAKER

Both train a TDNN-F and a linear model with nnet, and measure and draw what they make of speakers
that they have not heard. Everything is written below exp/speech, tables in Kaldi's formats.
"""
