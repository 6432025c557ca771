"""The front-ends: JSON-RPC 2.0 over HTTP and WebSocket, the table of methods, the OpenRPC document.

Sends requests into the directory's mailboxes and nothing else: no front-end touches the store.
"""
