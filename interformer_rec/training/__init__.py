"""Training: a model and batches become weights, metrics over all ranks, and a run folder with its report."""
