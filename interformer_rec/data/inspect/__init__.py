"""An unknown folder of Parquet files becomes a drafted config."""
