"""How what is jagged is padded: batches of lengths come in; buckets, and blocks of a window, go out."""
