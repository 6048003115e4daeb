"""Arrow columns become checked numpy arrays, a kind of feature a module."""
