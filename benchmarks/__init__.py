"""What Stowplan reaches on the machine at hand: quality, speed, and what they must be."""
