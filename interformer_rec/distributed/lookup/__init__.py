"""Embedding tables over the ranks: how vectors are looked up and sent."""
