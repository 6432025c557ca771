"""The runner that ships with the product: takes jobs over WebSocket and runs their scripts in child processes.

`settings` and `command` are its command line, `serve` is the network side, `execute` one attempt; `environment` is what
its script finds, `outcome` how it ended. `spawn` and `warden` are the two ends of starting processes, `output` and
`results` what a script says.
"""
