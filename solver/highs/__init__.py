"""The linear relaxation for large problems: a proven bound, prices, and where tasks might go."""
