"""Who hangs: every rank's progress is watched, and a job that stands still ends with the reason."""
