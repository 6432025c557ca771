"""The front-end over WebSocket."""
