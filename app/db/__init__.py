"""Rows, and the only folder that knows which database keeps them."""
