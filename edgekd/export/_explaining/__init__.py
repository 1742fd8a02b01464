"""Explaining: where, between a network and its file, the first large error appears."""
