"""A run's files: the folder, its lock, its log."""
