"""What happens before the first step: checks, resume, everything built."""
