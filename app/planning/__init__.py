"""Planning: snapshot -> problem -> plan -> commit. The only feature that knows the solver."""
