"""The server: routes under a token, on this machine alone."""
