"""Requests become table rows and numbers, as the training files' rows did."""
