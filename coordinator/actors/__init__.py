"""The actor core: mailboxes, one supervisor a context, the directory that starts and retires them, their rounds.

Knows the store and the models. Knows nothing of JSON-RPC, HTTP or WebSocket.
"""
