"""The Complete Journey: its tables become training rows by week."""
