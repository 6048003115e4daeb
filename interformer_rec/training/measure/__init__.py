"""What a run measures about itself: times, memory, bytes."""
