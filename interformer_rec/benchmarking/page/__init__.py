"""A benchmark as a page."""
