"""What computes: processor, threads, torch's libraries, devices, and the precisions that each computes itself."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.util.cores import allowed_cores

FEATURES = (
    "avx2",
    "avx512_f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_fp16",
    "neon",
    "fp16_arith",
    "bf16",
    "sve",
    "sve_bf16",
    "sme",
)
"""Those of torch.cpu.get_capabilities() that matrix products use; the last six are Arm's."""
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16", "sve_bf16"})
FP16_FEATURES = frozenset({"avx512_fp16", "amx_fp16", "fp16_arith"})
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY")
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "CUDA_VISIBLE_DEVICES")
"""Variables that keep torch from using what the machine has."""
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def section() -> Section:
    """Return the figures. Without a torch that can be imported, only those of the processor."""
    figures: dict[str, Figure] = {
        "processor": processor(),
        "cores": f"{allowed_cores()} of {os.cpu_count()}",
        "variables": [f"{name}={os.environ[name]}" for name in (*THREAD_VARIABLES, *LIMITS) if name in os.environ],
    }
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing.
        fix = "Install torch again; docs/guide/install.md describes its builds."
        missing = Missing("torch", f"torch cannot be imported: {error}", fix, needed=True)
        return Section("compute", figures, (missing,))
    figures |= _libraries(torch.__config__.show(), torch.__config__.parallel_info())
    figures |= _of_torch()
    return Section("compute", figures, tuple(_missing()))


def _of_torch() -> dict[str, Figure]:
    """Return what torch uses of this machine."""
    import torch

    features = cpu_features()
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpu features": features,
        "devices": devices(),
        "device of auto": devices()[-1].partition(" ")[0],
        "precision on the CPU": precisions(features),
        **_gpu_precision(),
    }


def cpu_features() -> list[str]:
    """Return the FEATURES that this processor has."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return [name for name in FEATURES if capabilities.get(name)]


def precisions(features: list[str]) -> str:
    """Say in which precisions a processor with these features multiplies; torch emulates the others, slowly."""
    has = {"bf16": BF16_FEATURES.intersection(features), "fp16": FP16_FEATURES.intersection(features)}
    native = ["fp32", *(name for name, found in has.items() if found)]
    emulated = [name for name, found in has.items() if not found]
    return ", ".join(native) + (f" (emulated: {', '.join(emulated)})" if emulated else "")


def _gpu_precision() -> dict[str, Figure]:
    import torch

    if not torch.cuda.is_available():
        return {}
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    # Ampere, compute capability 8, has brought TF32.
    tf32 = ["tf32"] if torch.cuda.get_device_capability() >= (8, 0) else []
    native = ", ".join(["fp32", *tf32, "fp16", *(["bf16"] if bf16 else [])])
    return {"precision on the GPU": native + ("" if bf16 else " (emulated: bf16)")}


def devices() -> list[str]:
    """Return the devices that torch can use, the one of `train.device = "auto"` last."""
    import torch

    names = ["cpu"]
    if torch.backends.mps.is_available():
        names.append("mps (Apple GPU)")
    for number in reversed(range(torch.cuda.device_count() if torch.cuda.is_available() else 0)):
        properties = torch.cuda.get_device_properties(number)
        names.append(f"cuda:{number} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)")
    return names


def _libraries(config: str, parallel: str) -> dict[str, Figure]:
    """Return the libraries that torch was built with, from its own descriptions."""

    def first(pattern: str, text: str) -> str | None:
        match = re.search(pattern, text)
        return match[1] if match else None

    mkl = first(r"Math Kernel Library Version ([\d.]+)", config)
    return {
        "BLAS": (first(r"BLAS_INFO=(\w+)", config) or "unknown") + (f" {mkl}" if mkl else ""),
        "oneDNN": first(r"(?:MKL-DNN|oneDNN) v([\d.]+)", config),
        "thread library": first(r"ATen parallel backend: (\w+)", parallel),
        "CUDA of torch": first(r"CUDA Runtime ([\d.]+)", config) or "",
    }


def _missing() -> list[Missing]:
    """Return a GPU that torch does not use, and threads that a container does not let run."""
    import torch

    missing = []
    has_driver = Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
    if has_driver and not torch.cuda.is_available():
        message = (
            "this machine has an NVIDIA driver, and torch is a build without CUDA"
            if torch.version.cuda is None
            else f"torch is built for CUDA {torch.version.cuda}, and finds no GPU"
        )
        fix = "Install a build of torch for the CUDA version that nvidia-smi prints: docs/guide/install.md."
        missing.append(Missing("cuda", message, fix))
    quota = cpu_quota()
    if quota is not None and torch.get_num_threads() > max(1, quota):
        message = f"{torch.get_num_threads()} threads share {quota:g} cores, the limit of the container"
        missing.append(Missing("threads", message, f"Set OMP_NUM_THREADS={max(1, int(quota))}."))
    return missing


def cpu_quota(path: Path = CPU_QUOTA) -> float | None:
    """Return the cores' worth of time that this control group gets; None without a limit."""
    try:
        quota, period = path.read_text("ascii").split()
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if quota.isdigit() else None


def processor() -> str:
    """Return the processor's name."""
    try:
        if platform.system() == "Darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except (OSError, subprocess.CalledProcessError):
        text = ""
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return f"{match[1] if match else 'unknown'} ({platform.machine()})"
