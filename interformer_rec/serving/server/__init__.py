"""An exported model answers requests over HTTP."""
