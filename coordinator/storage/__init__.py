"""How records are kept in Valkey or Redis: the connection, the keys, the hashes, the embedded server.

Knows nothing of JSON-RPC, mailboxes or operations.
"""
