"""Names of devices. torch, which knows which there are, is imported only to answer for those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch

PLAIN = ("auto", "cpu")
"""Devices that exist everywhere."""
MOST_DECODING = 8
"""Threads at most: from four to eight, decoding and measuring gets hardly faster."""


def resolve_device(name: str) -> torch.device:
    """`auto` -> cuda where there is one, else cpu; any other name -> that device.

    Raises:
        InputError: The name is not a device, or there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise unknown_name("device", name, (*PLAIN, "cuda")) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} does not exist here; use cpu or auto")
    return device


def usual_precision(name: str) -> str:
    """`bf16` on a CPU that multiplies matrices in bfloat16 by itself (AMX or AVX-512 BF16), else `fp32`."""
    import torch

    able: Mapping[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # torch before 2.11 does not tell
    half = resolve_device(name).type == "cpu" and (able.get("amx_bf16") or able.get("avx512_bf16"))
    return "bf16" if half else "fp32"


def decoding_threads(device: torch.device) -> int:
    """Number of threads that decode sounds beside a network on this device.

    A network on a CPU keeps the cores busy: one thread. Beside a GPU all cores are free but the one that feeds it.
    """
    import torch

    return 1 if device.type == "cpu" else max(1, min(MOST_DECODING, torch.get_num_threads() - 1))


def checked_device(name: str) -> str:
    """The name, if there is such a device; what `auto` means is found out when a network is loaded.

    Raises:
        InputError: As `resolve_device`.
    """
    return name if name in PLAIN else str(resolve_device(name))
