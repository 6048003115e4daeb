"""What a run is: one typed config that checks itself. No torch."""
