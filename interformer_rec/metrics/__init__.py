"""Exact metrics over all ranks."""
