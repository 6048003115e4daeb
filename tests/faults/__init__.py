"""Real jobs under attack: what a run loses, how long it takes to notice, and whether it comes back by itself."""
