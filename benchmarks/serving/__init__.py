"""What a served model costs: a module a measurement."""
