"""LF-MMI from sound to phone errors, on the speech that examples.speech makes.

    python -m examples.chain
    python -m examples.chain --flat-start

Trains a TDNN-F with LF-MMI and the same one towards the phone of each frame, recognises phones
with both in voices that they have not heard, and compares the errors. Everything is written below
exp/chain, in Kaldi's formats.
"""
