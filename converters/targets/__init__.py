"""The formats that a model of nnet3 can be written in."""
