"""``python -m solver.compiled`` compiles everything now, so that no plan has to wait for it."""

import pkgutil
from importlib import import_module

import solver.compiled

for module in pkgutil.iter_modules(solver.compiled.__path__, "solver.compiled."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
