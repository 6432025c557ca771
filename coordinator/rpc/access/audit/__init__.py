"""The audit log: who wrote what, who was refused what, and who has logged in; and the access log: who called what, and
how long it took. A JSON object a line.

A `LogWriter` is one for each process and log, a `Trail` one for each client, a `Followed` one for each call of which
there is to be a line. A line is made when a call's outcome is known, and holds nothing of its params or its result.
Lines are written in another thread, in order, soon after.
"""
