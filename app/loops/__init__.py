"""What the service does by itself: each loop has ``tick``, and a runner that calls it."""
