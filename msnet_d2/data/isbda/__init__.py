"""ISBDA's layout: reading, checking, registering, splitting, describing."""
