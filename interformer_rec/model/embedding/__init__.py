"""Vectors of ids: what the tables hold and how a model gets it."""
