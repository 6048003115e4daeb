"""Parquet files of any writer become one data set: which files, which columns, in which types."""
