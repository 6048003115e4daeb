"""What every page is made with: one Jinja environment, one frame, one style."""
