"""Files become a Batch."""
