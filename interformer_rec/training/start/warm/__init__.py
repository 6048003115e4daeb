"""Warm starts: a run begins with what another one has learned, though ids, features and layers differ."""
