"""Starts a training in one or several processes, or joins those that a launcher has started."""

import argparse
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from detectron2.utils import comm

from ..compat import create_local_process_group
from ..errors import ConfigError
from .child_processes import ProcessFunction, run_processes, stop_with_parent
from .failures import JoinError
from .launchers import Launcher
from .signals import STOP_SIGNALS

logger = logging.getLogger(__name__)

# As long as detectron2 waits for other processes.
TIMEOUT = timedelta(minutes=30)


def start(
    function: ProcessFunction, args: argparse.Namespace, launcher: Launcher | None, on_cpu: bool
) -> int:
    """Call a function in this process, or in the processes that the command line asks for.

    Args:
        function: called with ``args`` and the place of its process; it has to call `join`.
        args: the options of ``tood train``: num_gpus, num_machines, machine_rank, dist_url; None
            where they are not given.
        launcher: what has started this process as one of several; None if nothing has.
        on_cpu: whether processes on the CPU are asked for.

    Returns:
        The exit code.

    Raises:
        ConfigError: the command line contradicts the launcher or this machine.
    """
    if launcher is not None:
        validate_launcher(args, launcher)
        if launcher.name == "torchrun":  # killed, it leaves its processes behind
            stop_with_parent(os.getppid())
        function(args, launcher)
        return 0
    local_size, num_machines = args.num_gpus or 1, args.num_machines or 1
    validate_options(args, on_cpu)
    if local_size * num_machines == 1:
        function(args, None)
        return 0
    machine_rank = args.machine_rank or 0
    url, store = open_store(args.dist_url, host_it=machine_rank == 0)
    places = [
        Launcher(
            name="tood train",
            rank=machine_rank * local_size + local_rank,
            world_size=local_size * num_machines,
            local_rank=local_rank,
            local_size=local_size,
            address=url.partition("://")[2].rpartition(":")[0],
            port=int(url.rpartition(":")[2]) if url.startswith("tcp") else 0,
            url=url,
        )
        for local_rank in range(local_size)
    ]
    try:
        return run_processes(function, args, places)
    finally:
        del store


def open_store(url: str | None, host_it: bool) -> tuple[str, object]:
    """Open the store through which the processes meet, in the process that starts them.

    Args:
        url: from the command line; None for a free port on this machine.
        host_it: whether the store is on this machine.

    Returns:
        The URL for the processes, and the store, which is open as long as it is referenced.

    Raises:
        ConfigError: the port is taken.
    """
    if url is not None and (not host_it or not url.startswith("tcp")):
        return url, None
    host, port = ("127.0.0.1", 0) if url is None else _host_and_port(url)
    try:
        store = torch.distributed.TCPStore(
            host, port, is_master=True, wait_for_workers=False, timeout=TIMEOUT
        )
    except RuntimeError as error:
        raise ConfigError(
            f"--dist-url {url}: cannot listen on port {port} ({_first_line(error)}). Choose "
            "another port, and check that no earlier process is left."
        ) from error
    return f"tcp://{host}:{store.port}", store


def _host_and_port(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def validate_launcher(args: argparse.Namespace, launcher: Launcher) -> None:
    """Raise a ConfigError if options of the command line are not what the launcher has done."""
    for option, actual, what in (
        ("num_gpus", launcher.local_size, "processes on this machine"),
        ("num_machines", launcher.num_machines, "machines"),
        ("machine_rank", launcher.machine_rank, "as the rank of this machine"),
    ):
        given = getattr(args, option)
        if given is not None and given != actual:
            raise ConfigError(
                f"--{option.replace('_', '-')} is {given}, but {launcher.name} has {actual} {what}."
                " Leave the option out: the launcher decides."
            )
    if args.dist_url is not None:
        raise ConfigError(
            f"--dist-url has no effect with {launcher.name}, which says where the processes find "
            "each other. Leave it out."
        )


def validate_options(args: argparse.Namespace, on_cpu: bool) -> None:
    """Check the command line before starting processes.

    Raises:
        ConfigError: more GPUs than this machine has, or impossible numbers.
    """
    available = torch.cuda.device_count()
    if (args.num_gpus or 1) > max(available, 1) and not on_cpu:
        gpus = "1 GPU" if available == 1 else f"{available} GPUs"
        fix = "Lower --num-gpus." if available else "Use --num-gpus 1, which runs on the CPU."
        raise ConfigError(
            f"--num-gpus {args.num_gpus} exceeds the {gpus} on this machine. {fix} With "
            f"MODEL.DEVICE cpu at the end, it starts {args.num_gpus} processes on the CPU."
        )
    for option, least in (("num_gpus", 0), ("num_machines", 1), ("machine_rank", 0)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise ConfigError(
                f"--{option.replace('_', '-')} must be at least {least}, not {value}."
            )
    num_machines = args.num_machines or 1
    if (args.machine_rank or 0) >= num_machines:
        raise ConfigError(
            f"--machine-rank {args.machine_rank} must be below --num-machines {num_machines}."
        )
    if num_machines > 1:
        if not available and not on_cpu:
            raise ConfigError(
                f"--num-machines {num_machines} needs a GPU on each machine, and this one has none."
                " MODEL.DEVICE cpu starts processes on the CPU."
            )
        if args.dist_url is None or args.machine_rank is None:
            raise ConfigError(
                f"--num-machines {num_machines} needs --machine-rank (0 to {num_machines - 1}) and "
                "--dist-url tcp://HOST:PORT with the address of machine 0, on every machine."
            )
    if args.dist_url is not None and not _is_address(args.dist_url):
        raise ConfigError(
            f"--dist-url {args.dist_url} must be tcp://HOST:PORT, or file:// and a file that all "
            "machines see."
        )


def _is_address(url: str) -> bool:
    match = re.fullmatch(r"tcp://[^/\s]+:(\d{1,5})|file://\S+", url)
    return match is not None and int(match[1] or 0) < 2**16


def asks_for_cpu(args: argparse.Namespace) -> bool:
    """Whether the command line names the CPU, rather than being left without a GPU."""
    pairs = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    return bool(pairs.get("MODEL.DEVICE", args.device) == "cpu")


def join(launcher: Launcher | None, device: str) -> None:
    """Join the other processes; all of them call it together.

    NCCL connects them on GPUs, gloo on CPUs. detectron2's groups of each machine are created. Where
    the processes are connected already, as Ray does it, only these are.

    Args:
        launcher: the place of this process; None if it is alone.
        device: ``MODEL.DEVICE``.

    Raises:
        ConfigError: the device does not fit several processes.
        JoinError: the others cannot be reached.
    """
    if launcher is None:
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(gpu_index(launcher, device))
    if launcher.world_size == 1:
        return
    if torch.distributed.is_initialized():
        create_local_process_group(launcher.local_size)
        return
    try:
        with _default_handlers():
            torch.distributed.init_process_group(
                "nccl" if on_gpu else "gloo",
                world_size=launcher.world_size,
                rank=launcher.rank,
                timeout=TIMEOUT,
                **_meeting_point(launcher),
            )
            create_local_process_group(launcher.local_size)
            comm.synchronize()
    except (RuntimeError, ValueError) as error:
        where = launcher.url if launcher.url != "env://" else f"{launcher.address}:{launcher.port}"
        raise JoinError(
            f"Process {launcher.rank} of {launcher.world_size} ({launcher.name}) cannot join the "
            f"others at {where}: {_first_line(error)}. Check that all of them run and reach this "
            "address, and that no other program uses the port."
        ) from error


def _meeting_point(launcher: Launcher) -> dict[str, Any]:
    """The argument of ``init_process_group`` that says where the processes meet."""
    if launcher.name == "tood train" and launcher.url.startswith("tcp"):
        host, port = _host_and_port(launcher.url)
        return {"store": torch.distributed.TCPStore(host, port, is_master=False, timeout=TIMEOUT)}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and launcher.url == "env://":
        # torchrun keeps its store when it starts the processes again, and PyTorch would find the
        # addresses of those that have ended.
        store = torch.distributed.TCPStore(
            launcher.address, launcher.port, is_master=False, timeout=TIMEOUT
        )
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        prefix = f"tood/{start}/{launcher.world_size}"
        return {"store": torch.distributed.PrefixStore(prefix, store)}
    return {"init_method": launcher.url}


def gpu_index(launcher: Launcher, device: str) -> int:
    """The GPU of this process.

    Args:
        launcher: the place of this process.
        device: ``MODEL.DEVICE``, of a GPU.

    Raises:
        ConfigError: there are more processes than GPUs, or all would use the same one.
    """
    if ":" in device:
        if launcher.local_size > 1:
            raise ConfigError(
                f"MODEL.DEVICE {device} is one GPU, but {launcher.local_size} processes run on "
                "this machine. Set it to cuda: each process then takes its own."
            )
        return int(device.partition(":")[2])
    count = torch.cuda.device_count()
    if launcher.local_rank < count:
        return launcher.local_rank
    if count == 1 and launcher.name == "srun":
        return 0  # SLURM shows each task its own GPU only: --gpus-per-task 1
    raise ConfigError(
        f"{launcher.name} has started {launcher.local_size} processes on this machine, which has "
        f"{count} {'GPU' if count == 1 else 'GPUs'}. Start one process for each GPU."
    )


@contextmanager
def _default_handlers() -> Iterator[None]:
    """Let signals end the process at once.

    Python's own handlers would wait for the end of a call that waits for other processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = {
        number: signal.signal(number, signal.SIG_DFL)
        for number in STOP_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)
