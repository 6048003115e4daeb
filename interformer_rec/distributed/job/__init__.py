"""The ranks of a job: how they meet, and what the others learn when one fails."""
