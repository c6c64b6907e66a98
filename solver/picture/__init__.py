"""A plan as a picture."""

from solver.picture.drawing import draw
from solver.picture.scene import ColourBy

__all__ = ["ColourBy", "draw"]
