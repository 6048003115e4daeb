"""Training in time order against its alternatives, window by window."""
