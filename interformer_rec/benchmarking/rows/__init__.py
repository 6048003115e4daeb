"""The rows that a benchmark trains on: the user's own, or made up."""
