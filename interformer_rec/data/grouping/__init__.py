"""Impression rows become request rows, and back. In: Parquet files; out: a folder of Parquet files."""
