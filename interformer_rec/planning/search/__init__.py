"""Which sharding plan: options, bounds, and the search between them."""
