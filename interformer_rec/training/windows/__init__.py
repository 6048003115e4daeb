"""Training in time order: evaluate on a window, then train on it, then go to the next."""
