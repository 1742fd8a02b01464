"""Halving: a network that computes in half floats, as far as its values allow."""
