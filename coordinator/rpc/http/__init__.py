"""The front-end over HTTP."""
