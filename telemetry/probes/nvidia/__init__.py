"""NVIDIA GPUs by NVML, through ``pynvml`` of the package nvidia-ml-py.

NVML calls may hang for ever in the driver or end the process that makes them, so nothing here runs
in the agent: ``python -m telemetry.probes.nvidia`` is a process of its own, and
:class:`telemetry.probes.nvidia_process.NvidiaProcess` is the agent's end of it. In the child
:mod:`.probe` holds it together, over :mod:`.binding` (NVML and its errors), :mod:`.discovery` (what
there is), :mod:`.sensors` and :mod:`.pace` (what is read, and how often) and :mod:`.events`.
"""
