"""The benchmark of a user's own config."""
