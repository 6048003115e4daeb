"""Requests are scored together, by versions that come and go."""
