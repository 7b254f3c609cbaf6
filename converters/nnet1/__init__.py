"""Kaldi's nnet1: its components and files."""
