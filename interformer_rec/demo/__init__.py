"""`make demo`: a public data set from download to report."""
