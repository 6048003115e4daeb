"""Do the installed releases fit together; what works here and what to do if it does not."""
