"""What a config's training costs, measured: over history lengths, candidates, kinds of model and ranks."""
