"""Measurements anyone can repeat: `python -m benchmarks.NAME [--json PATH]`; results/ holds those that were kept."""
