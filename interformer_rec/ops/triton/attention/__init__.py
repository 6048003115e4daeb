"""Attention over jagged sequences as Triton kernels."""
