"""Queues: who tasks belong to, what is theirs, what they have used; and bookings of nodes."""
