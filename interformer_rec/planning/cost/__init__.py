"""What a plan costs: bytes and seconds on a described cluster."""
