"""Makes typed clients of the OpenRPC document: `make clients`, or `python -m clients.generator`."""
