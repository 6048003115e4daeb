"""Histories stored once: events by user and time, which rows are joined with. In: Parquet files of events and of rows; out: a Source."""
