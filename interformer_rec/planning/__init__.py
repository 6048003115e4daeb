"""Sharding plans for clusters one does not have: which rank holds which part of which table, and what a step will cost."""
