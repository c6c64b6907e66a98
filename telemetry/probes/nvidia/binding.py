"""NVML as this program asks it: a sensor that is missing is None and isn't asked for again."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


class NvmlUnavailableError(Exception):
    """NVML can't be used on this machine now; the text says why, for people."""


class DeviceLostError(Exception):
    """A GPU doesn't answer any more, or must be reset first."""


class DriverConfusedError(Exception):
    """NVML answers "unknown error", as after a suspend: it may be well again once reopened."""


class UnansweredError(Exception):
    """No answer this time; the next one may be good."""


@dataclass(slots=True)
class Nvml:
    """The opened library, with a memory of what can't be asked.

    The memory ends with the opening: an update of the driver, or a MIG setting, may bring what was
    missing.
    """

    binding: ModuleType
    driver: str | None = None
    _missing: set[str] = field(default_factory=set)
    _unsupported: set[tuple[str, str]] = field(default_factory=set)

    def ask(
        self,
        key: str,
        function: str,
        *arguments: Any,
        symbol: str = "",
        empty: tuple[int, ...] = (),
        **named: Any,
    ) -> Any:
        """The function's answer about the device ``key``; None where it has none to give, ever.

        ``symbol`` tells apart the forms of one function that are different symbols in the library:
        that the driver lacks one of them says nothing of the other. An error number in ``empty``
        stands for ``()``.

        Raises:
            DeviceLostError: the GPU is gone.
            DriverConfusedError: the library should be reopened.
            UnansweredError: any other error.
        """
        symbol = symbol or function
        if symbol in self._missing or (key, symbol) in self._unsupported:
            return None
        try:
            return getattr(self.binding, function)(*arguments, **named)
        except AttributeError:
            self._missing.add(symbol)  # a binding older than we are
        except UnicodeDecodeError:
            raise UnansweredError(f"{function}: a text that can't be decoded") from None
        except self.binding.NVMLError as error:
            if error.value in empty:
                return ()
            self._remember(key, symbol, error)
        return None

    def ask_once(self, key: str, function: str, *arguments: Any, **named: Any) -> Any:
        """As :meth:`ask`, but None for any error that leaves the GPU usable."""
        try:
            return self.ask(key, function, *arguments, **named)
        except UnansweredError:
            return None

    def _remember(self, key: str, symbol: str, error: Any) -> None:
        pynvml = self.binding
        # NVMLError defines __eq__ without __hash__: compare the number, never the error.
        match error.value:
            case pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                self._missing.add(symbol)
            case pynvml.NVML_ERROR_NOT_SUPPORTED | pynvml.NVML_ERROR_NO_PERMISSION:
                self._unsupported.add((key, symbol))
            case (
                pynvml.NVML_ERROR_GPU_IS_LOST
                | pynvml.NVML_ERROR_RESET_REQUIRED
                | pynvml.NVML_ERROR_GPU_NOT_FOUND
            ):
                raise DeviceLostError(f"NVML: {error}") from None
            case pynvml.NVML_ERROR_UNKNOWN | pynvml.NVML_ERROR_UNINITIALIZED:
                raise DriverConfusedError(f"NVML: {error}") from None
            case _:
                raise UnansweredError(f"{symbol}: {error}") from None


def open_nvml() -> ModuleType:
    """Import the binding and initialise the library.

    Raises:
        NvmlUnavailableError: with the reason in words.
    """
    try:
        import pynvml  # noqa: PLC0415  a CPU node never needs it
    except ImportError:
        raise NvmlUnavailableError("the Python package nvidia-ml-py isn't installed") from None
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        raise NvmlUnavailableError(
            "the module pynvml isn't NVIDIA's: install nvidia-ml-py in its place"
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailableError(_why_not(pynvml, error)) from None
    return pynvml


def _why_not(pynvml: ModuleType, error: Any) -> str:
    match error.value:
        case pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return "no NVIDIA driver library (libnvidia-ml.so.1): a CPU node"
        case pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return "the NVIDIA kernel driver isn't loaded"
        case pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return (
                "NVIDIA driver and library differ in version: running tasks go on, new ones would"
                " fail; reload the driver or reboot"
            )
        case pynvml.NVML_ERROR_NO_PERMISSION:
            return "no permission to use the NVIDIA driver: see the rights of /dev/nvidia*"
        case _:
            return f"NVML can't be initialised: {error}"
