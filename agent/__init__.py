"""The daemon on each node: runs what the service wants there, and reports what it sees."""
