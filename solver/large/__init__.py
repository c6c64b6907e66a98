"""The gear for large problems: a bound and prices by linear programming, then search in compiled
code.
"""
