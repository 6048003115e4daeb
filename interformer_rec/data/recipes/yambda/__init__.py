"""Yambda: listening events of a music service become training rows by day."""
