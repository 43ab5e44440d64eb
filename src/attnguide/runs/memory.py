"""How many images fit into memory at once, and what the devices are called."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from attnguide.types import ViT

CAP = {"cpu": 32, "cuda": 256}  # a larger batch is no faster
SHARE = 0.5  # of the free memory; the rest is for masked images, and for others
ATTENTIONS, ACTIVATIONS = 6, 16  # copies kept per layer
CGROUPS = (  # where the kernel says what a job may take, and what it has taken
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def image_bytes(vit: ViT) -> int:
    """Memory of one image in an explanation: attention with its gradient, and the activations.

    Measured on ViT-Tiny, -Small and -Base with 224 pixels: 46, 79 and 156 MiB; this says 59, 119
    and 239.
    """
    blocks = vit.module.blocks
    heads, tokens = blocks[0].attn.num_heads, vit.num_tokens
    width = blocks[0].attn.qkv.in_features
    return 4 * len(blocks) * (ATTENTIONS * heads * tokens**2 + ACTIVATIONS * tokens * width)


def fitting_batch(vit: ViT, devices: Sequence[torch.device]) -> int:
    """The largest power of two of images that fits into the free memory, at most `CAP`."""
    free = free_memory(devices)
    count = min(int(SHARE * free / image_bytes(vit)), CAP[devices[0].type])
    return 1 << max(count.bit_length() - 1, 0)


def free_memory(devices: Sequence[torch.device]) -> int:
    """Bytes that each device can still take."""
    if devices[0].type == "cuda":
        if len(devices) == 1:
            return int(torch.cuda.mem_get_info(devices[0])[0])
        return int(_ask(f"min(torch.cuda.mem_get_info(i)[0] for i in range({len(devices)}))"))
    return _available() // len(devices)


def device_name(devices: Sequence[torch.device]) -> str:
    """Model of the devices, and how many."""
    if devices[0].type == "cpu":
        name = f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    elif len(devices) == 1:
        name = torch.cuda.get_device_name(devices[0])
    else:
        name = _ask("torch.cuda.get_device_name(0)")
    return name if len(devices) == 1 else f"{len(devices)} x {name}"


def _ask(expression: str) -> str:
    """Ask CUDA in a process of its own: one that has used it cannot be forked any more."""
    code = f"import torch; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _available() -> int:
    """Main memory that is free, and allowed to this process where a cgroup limits it."""
    found = [_meminfo("MemAvailable")]
    for limit, used in CGROUPS:
        words = [Path(path).read_text().strip() for path in (limit, used) if Path(path).is_file()]
        if len(words) == 2 and words[0].isdigit():
            found.append(int(words[0]) - int(words[1]))
    return max(min(found), 0)


def _meminfo(name: str) -> int:
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
    return 1024 * kilobytes[0] if kilobytes else 2**31
