"""Kaldi's nnet2: its components and files."""
