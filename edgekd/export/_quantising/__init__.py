"""Quantising: int8 in the graph, calibrated on real images and repaired where it loses much."""
