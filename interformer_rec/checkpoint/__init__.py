"""What survives: checkpoints that any plan and world size can load."""
