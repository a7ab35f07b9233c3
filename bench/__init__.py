"""Measurements of a server started as a user would start it, beside other servers where they are installed."""
