"""Measurements of the kernels alone."""
