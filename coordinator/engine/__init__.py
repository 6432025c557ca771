"""What makes flows move: who waits for jobs and events, timers, other coordinators on the same store."""
