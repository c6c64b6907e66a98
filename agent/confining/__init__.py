"""What tasks are held to: control groups, limits, accounts."""
