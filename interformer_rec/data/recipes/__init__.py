"""Public data sets, one file each: a raw download in, Parquet files that a run config names out. Door: `catalog`."""
