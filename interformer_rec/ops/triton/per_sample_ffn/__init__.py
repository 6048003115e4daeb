"""The per-sample feed-forward network as Triton kernels."""
