"""Who uses more than was asked for."""
