"""JSON-RPC 2.0: bytes → calls → requests in mailboxes, and outcomes → bytes. Knows no transport."""
