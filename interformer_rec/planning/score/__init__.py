"""A prediction held against a measured run."""
