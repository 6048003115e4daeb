"""Feature interactions: each maps (B, n_in, d) tokens to (B, n_out, d); one class a file, one name in the config."""
