"""Graphs in 8 bits: calibration, the quantizer, and the ways to lose less."""
