"""What a shim is made of (:mod:`agent.shim`): the standard library's cheapest parts only.

Every running replica has a shim, so what these modules import is counted in KiB, as measured on
Python 3.11 (private memory of one of several shims): ``signal`` 790 and ``contextlib`` 810 (both
by ``enum``), ``json`` 1,230 (by ``re``), ``ctypes`` 510, ``pathlib`` and ``typing`` more. Their C
halves ``_signal``, ``_json`` and ``_ctypes`` cost 10 to 80 each and do all that is needed here.
"""
