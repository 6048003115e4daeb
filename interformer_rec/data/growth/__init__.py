"""Vocabularies whose ids come and go, window after window."""
