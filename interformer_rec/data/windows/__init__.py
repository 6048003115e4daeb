"""Rows in time order: which windows there are, what changed among them, which comes next."""
