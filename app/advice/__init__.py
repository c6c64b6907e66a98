"""What tasks use of what they ask for, and what they'd do with."""
