"""Devices of a run: which, a process for each of several, and how much fits into their memory."""

from __future__ import annotations

import logging
import platform
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from attnguide.data.pictures import Item
from attnguide.errors import InputError
from attnguide.figures.experiment import Study
from attnguide.models.reader import UnreadableImage
from attnguide.types import ViT

log = logging.getLogger(__name__)
Trial = Callable[[str, Callable[[], Mapping[str, float]]], Mapping[str, float]]
START = "spawn"  # how processes begin; CUDA does not work in a fork of a process that has used it
GRACE_S = 10.0  # for a process to end by itself
TRIAL_S, FIRST = 0.4, 4  # of threads: seconds for both; pictures
CAP = {"cpu": 32, "cuda": 256}  # a larger batch is no faster
SHARE = 0.5  # of the free memory; the rest is for masked images, and for others
ATTENTIONS, ACTIVATIONS = 6, 16  # copies kept per layer
CGROUP = Path("/sys/fs/cgroup")  # where the kernel says what a job may take, and has taken


def choose_devices(name: str, count: int) -> tuple[torch.device, ...]:
    """The devices of a run; asking how many there are does not start CUDA.

    Raises:
        ValueError: more than there are.
    """
    present = torch.cuda.device_count()
    kind, _, index = name.partition(":")
    if kind == "auto":
        kind = "cuda" if present else "cpu"
    if kind == "cpu":
        return (torch.device("cpu"),) * count
    if index and count > 1:
        raise InputError(f"device={name} is one device; pass device=cuda with devices={count}")
    if int(index or 0) + count > present:
        asked = f"device={name}" + (f" devices={count}" if count > 1 else "")
        raise InputError(
            f"{asked}: this machine has {present} CUDA devices; pass device=cpu or device=auto"
        )
    return tuple(torch.device("cuda", int(index or 0) + number) for number in range(count))


def device_name(devices: Sequence[torch.device]) -> str:
    """Model of the devices, and how many."""
    on_cpu = devices[0].type == "cpu"
    name = f"cpu ({platform.machine()})" if on_cpu else torch.cuda.get_device_name(devices[0])
    return name if len(devices) == 1 else f"{len(devices)} x {name}"


def settle(
    study: Study, items: Sequence[Item], threads: int | str, trial: Trial, *, masks: bool
) -> None:
    """On a CPU: how many threads compute, and what computes masked images, whichever is faster.

    Maps of 1 and of 2 threads differ in their last bits, so that a run keeps its choice.

    Args:
        study: Model, engine.
        items: Of the run; the first ones are looked at.
        threads: How many, or "auto".
        trial: What is chosen and how to time it, to the seconds that decide.
        masks: Whether there are masked images.

    Raises:
        ValueError: the run began with an engine that is not installed here.
    """
    images = _first_images(study, items)
    if study.vit.device.type != "cpu" or images is None:
        return
    fixed = {} if threads == "auto" else {str(threads): 0.0}
    timed = trial("threads", lambda: fixed or _time_threads(study.vit, images))
    chosen = min(timed, key=timed.__getitem__)
    torch.set_num_threads(int(chosen))
    if fixed and chosen not in fixed:
        log.warning("threads=%s is not used: the rows of this run began with %s", threads, chosen)
    elif len(timed) > 1:
        seconds = ", ".join(f"{1000 * s:.0f} ms with {n}" for n, s in timed.items())
        log.info("threads: %s (a forward pass takes %s)", chosen, seconds)
    if masks:
        model = study.masked_model
        model.choose(images, trial(study.vit.name, lambda: model.choose(images)))


def _first_images(study: Study, items: Sequence[Item]) -> torch.Tensor | None:
    """(B, 3, H, W) of the first pictures that can be read; None if none can."""
    images = []
    for item in items[:FIRST]:
        try:
            images.append(item.load().picture)
        except UnreadableImage:
            continue
    vit = study.vit
    return vit.preprocess(images).to(vit.device, vit.dtype) if images else None


def _time_threads(vit: ViT, images: torch.Tensor) -> dict[str, float]:
    """Seconds of a forward pass with one thread and with all, in turn, in the median."""
    timed: dict[int, list[float]] = {count: [] for count in (1, torch.get_num_threads())}
    if len(timed) == 1:
        return {"1": 0.0}
    with torch.inference_mode():
        while sum(map(sum, timed.values())) < TRIAL_S:
            for count, seconds in timed.items():
                torch.set_num_threads(count)
                vit.logits(images[:1])  # its threads are awake
                begun = time.perf_counter()
                vit.logits(images)
                seconds.append(time.perf_counter() - begun)
    return {str(count): statistics.median(seconds) for count, seconds in timed.items()}


def run_on_devices(work: Callable[..., None], count: int, monitor: Any, *args: Any) -> None:
    """Call `work(number, monitor, *args)` in a process for each device, and wait for all.

    In the processes `monitor` hands every call on to the one here. When one process fails, or this
    one is stopped, the others are ended; when this one is killed, torch ends them.

    Raises:
        ValueError, OSError: what the first process has failed by.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    calls = get_context(START).SimpleQueue()
    processes = start_processes(_work, (work, calls, args), count, join=False, start_method=START)
    try:
        while not processes.join(timeout=0.1):
            _hand_on(calls, monitor)
        _hand_on(calls, monitor)
    except ProcessExitedException as error:
        _hand_on(calls, monitor)
        raise InputError(
            f"the process of a device has ended early ({str(error).strip()}), often because memory "
            "ran out; earlier results are intact: run the same command again"
        ) from error
    finally:
        for process in processes.processes:
            process.terminate()
        for process in processes.processes:
            process.join(GRACE_S)
            process.kill()
            process.join()


def _work(number: int, work: Callable[..., None], calls: Any, args: Sequence[Any]) -> None:
    """In the process of a device: do the work; an error that a user can fix goes to the parent."""
    parent = parent_process()
    if parent is None or not parent.is_alive():  # killed before torch could arrange for our end
        sys.exit(1)
    stop_once, code = _StopOnce(), 0
    signal.signal(signal.SIGINT, stop_once)
    signal.signal(signal.SIGTERM, stop_once)
    try:
        work(number, _Remote(calls), *args)
    except (InputError, OSError) as error:
        calls.put((None, error))
        code = 1
    except KeyboardInterrupt:  # torch would take it for a good end, and rows would be missing
        code = 130
    if code:  # outside of the handlers, where nothing holds the data workers any more
        sys.exit(code)


class _StopOnce:
    """Handler of signals: the first interrupts, the others would interrupt the tidying up.

    Ctrl-C and SIGTERM reach the whole process group, and then the parent ends every process.
    """

    stopped = False

    def __call__(self, *_: Any) -> None:
        if not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt


class _Remote:
    """Stands for the monitor of the parent process."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self._calls.put((name, args))


def _hand_on(calls: Any, monitor: Any) -> None:
    """Make the calls that have arrived; raise the error of a process that has failed."""
    while not calls.empty():
        name, args = calls.get()
        if name is None:
            raise args
        getattr(monitor, name)(*args)


def fitting_batch(vit: ViT, device: torch.device, processes: int = 1) -> int:
    """The largest power of two of images that fits into the free memory, at most `CAP`.

    Args:
        vit: The model.
        device: Where it computes.
        processes: How many share the memory of a CPU.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    free = free if device.type == "cuda" else free // processes
    count = min(int(SHARE * free / image_bytes(vit)), CAP[device.type])
    return 1 << max(count.bit_length() - 1, 0)


def image_bytes(vit: ViT) -> int:
    """Memory of one image in an explanation, at most: attention, its gradient, activations."""
    blocks = vit.module.blocks
    heads, tokens = blocks[0].attn.num_heads, vit.num_tokens
    width = next(vit.module.patch_embed.proj.parameters()).shape[0]
    return 4 * len(blocks) * (ATTENTIONS * heads * tokens**2 + ACTIVATIONS * tokens * width)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most, on the device."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_memory() -> int:
    """Bytes of main memory that are free, and allowed to this process where a cgroup limits it."""
    lines = Path("/proc/meminfo").read_text().splitlines() if sys.platform == "linux" else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    free = 1024 * kilobytes[0] if kilobytes else 2**31
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(free, 0)
