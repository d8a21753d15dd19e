"""Execution providers beyond the CPU: whether one is really here, on what adapter, and what to install if not.

Two of them are plug-ins that a process registers with onnxruntime and with onnxruntime-genai apart. A name in
``get_available_providers`` proves nothing: a plug-in is listed once registered and onnxruntime-gpu lists CUDA on
any machine, so a device counts only when a session runs on it (``GraphSession`` sees to that).
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgepeft.errors import EdgepeftError, MissingError, one_line
from edgepeft.utils import nvidia

if TYPE_CHECKING:
    import onnxruntime as ort

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
WEBGPU = "WebGpuExecutionProvider"

PLUGINS = {
    WEBGPU: ("onnxruntime_ep_webgpu", "edgepeft[webgpu]"),
    "NvTensorRTRTXExecutionProvider": ("onnxruntime_ep_nv_tensorrt_rtx", "edgepeft[trt-rtx]"),
}
"""Provider to the module that carries it and the extra that brings that."""

_BUILT_IN = {
    CUDA: "edgepeft[cuda]",
    "DmlExecutionProvider": "onnxruntime-directml (Windows only)",
}

SOFTWARE = "EDGEPEFT_SOFTWARE_GPU"
"""Environment variable: 1 lets WebGPU run on a Vulkan device that is itself software, as SwiftShader."""

_SOFTWARE_DRIVERS = ("/usr/lib/chromium/vk_swiftshader_icd.json",)
_VK_CPU = 4  # VK_PHYSICAL_DEVICE_TYPE_CPU


@dataclass(frozen=True)
class Adapter:
    """What stands behind a provider: its name as the driver gives it, and whether it is software on the CPU."""

    name: str
    software: bool


def find_adapter(provider: str) -> Adapter:
    """The adapter a provider would run on here. Raises MissingError that says what to install or to have."""
    if provider == CPU:
        return Adapter("CPU", software=False)
    if provider in PLUGINS:
        module, extra = PLUGINS[provider]
        if importlib.util.find_spec(module) is None:
            raise MissingError(f"{provider} is not installed: pip install '{extra}'")
    elif provider in _BUILT_IN:
        _require_built_in(provider)
    else:
        raise MissingError(f"{provider}: edgepeft does not know how to find this provider")
    if provider == WEBGPU:
        return _webgpu_adapter()
    if provider == "DmlExecutionProvider":
        return Adapter("D3D12", software=False)
    return _nvidia_adapter(provider)


def _require_built_in(provider: str) -> None:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingError(
            f"{provider} is not installed: pip install '{_BUILT_IN[provider]}'"
        ) from error
    if provider not in ort.get_available_providers():
        raise MissingError(
            f"{provider} is not in this onnxruntime (it has "
            f"{', '.join(ort.get_available_providers())}): install {_BUILT_IN[provider]}"
        )
    if provider == CUDA:
        # CUDA's libraries from pip lie where the dynamic linker doesn't look; onnxruntime prints what it misses.
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()


def _nvidia_adapter(provider: str) -> Adapter:
    found = nvidia.query("gpu", "name")
    if not found:
        raise MissingError(f"{provider}: there is no NVIDIA GPU on this machine")
    return Adapter(found[0][0], software=False)


def _webgpu_adapter() -> Adapter:
    """WebGPU's adapter: a GPU's, or a software one where that was asked for."""
    if os.name == "nt" or os.uname().sysname == "Darwin":
        return Adapter("GPU", software=False)
    allowed = os.environ.get(SOFTWARE) == "1"
    if allowed:
        _use_software_driver()
    found = vulkan_devices()
    for name, kind in found:
        if kind != _VK_CPU:
            return Adapter(name, software=False)
    if found and allowed:
        return Adapter(found[0][0], software=True)
    hint = (
        f"{found[0][0]} is software; {SOFTWARE}=1 takes it, slowly"
        if found
        else f"no Vulkan device; install its driver, or Debian's libvulkan1 and chromium and set {SOFTWARE}=1 "
        "to run it in software"
    )
    raise MissingError(f"{WEBGPU}: there is no GPU on this machine ({hint})")


def _use_software_driver() -> None:
    """Point Vulkan at SwiftShader where nobody chose a driver, and let the plug-in take it."""
    os.environ["ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"] = "1"
    if not any(os.environ.get(name) for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES")):
        driver = next((path for path in _SOFTWARE_DRIVERS if Path(path).is_file()), None)
        if driver is not None:
            os.environ["VK_ICD_FILENAMES"] = driver


def vulkan_devices() -> list[tuple[str, int]]:
    """(name, VkPhysicalDeviceType) of every Vulkan device; empty without a Vulkan loader or driver.

    Asks the loader itself, because the plug-in does not tell what it runs on.
    """
    library = ctypes.util.find_library("vulkan") or "libvulkan.so.1"
    try:
        vulkan = ctypes.CDLL(library)
    except OSError:
        return []
    # VkInstanceCreateInfo of VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO (1), all else absent.
    create = (ctypes.c_uint64 * 8)(1)
    instance, count = ctypes.c_void_p(), ctypes.c_uint32()
    if vulkan.vkCreateInstance(create, None, ctypes.byref(instance)):
        return []
    try:
        if vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None):
            return []
        handles = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        found = []
        for handle in handles:
            # VkPhysicalDeviceProperties is under 1 KiB: five uint32, the type fifth, then 256 bytes of name.
            properties = ctypes.create_string_buffer(4096)
            vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), properties)
            kind = ctypes.c_uint32.from_buffer(properties, 16).value
            name = properties.raw[20 : 20 + 256].split(b"\0")[0].decode("utf-8", "replace")
            found.append((name, kind))
        return found
    finally:
        vulkan.vkDestroyInstance(instance, None)


def add_plugin(options: ort.SessionOptions, provider: str) -> None:
    """Make a session run on a plug-in provider. Raises MissingError where it has no device here."""
    import onnxruntime as ort

    _register(provider, "onnxruntime")
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider]
    if not devices:
        raise MissingError(f"{provider}: found no device it can run on here")
    options.add_provider_for_devices(devices[:1], {})


def register_with_genai(provider: str) -> None:
    """Make a plug-in provider known to onnxruntime-genai; nothing to do for those built in."""
    if provider in PLUGINS:
        _register(provider, "onnxruntime_genai")


@cache
def _register(provider: str, runtime: str) -> None:
    """Once a process and runtime: registering a library twice is an error there."""
    module, extra = PLUGINS[provider]
    try:
        path = importlib.import_module(module).get_library_path()
    except ImportError as error:
        raise MissingError(f"{provider} is not installed: pip install '{extra}'") from error
    try:
        importlib.import_module(runtime).register_execution_provider_library(provider, path)
    except Exception as error:  # the runtimes' own exceptions share no base but this
        raise EdgepeftError(f"{provider}: {runtime} cannot load it ({one_line(error)})") from error
