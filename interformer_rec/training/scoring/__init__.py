"""A trained model on rows: evaluation and prediction."""
