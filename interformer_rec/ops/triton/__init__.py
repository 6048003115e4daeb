"""Operators of ops/ as Triton kernels for NVIDIA GPUs of compute capability 8.0 and 9.0. Needs the package triton; callers decide."""
