"""Recognizes the program that has started this process as one of several.

A pure reading of environment variables: torchrun's, those of SLURM's srun, and those of PyTorchJob
on Kubernetes. What contradicts itself is refused: otherwise every process would believe that it is
alone, and N trainings would write into one folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError

TORCHRUN_LINE = "torchrun --nproc-per-node N train_net.py ..."

# What mpirun of Open MPI, MPICH or Intel MPI, and MVAPICH tell their processes.
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")

# Below the ports that operating systems give to clients.
_FIRST_PORT, _NUM_PORTS = 15_000, 16_000


@dataclass(frozen=True)
class Launcher:
    """What a launcher has told this process.

    Attributes:
        name: of the launcher.
        rank: of this process, from 0.
        world_size: number of processes.
        local_rank: of this process on its machine, from 0.
        local_size: number of processes on each machine.
        address: machine of rank 0.
        port: where rank 0 listens.
        url: where the processes find each other, for ``init_process_group``. The default lets
            PyTorch read torchrun's environment variables.
    """

    name: str
    rank: int
    world_size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    url: str = "env://"

    @property
    def has_store(self) -> bool:
        """Whether the main process has the store through which the processes meet.

        That of torchrun is in its agent, that of ``tood train`` in the process that starts the
        others.
        """
        return self.rank == 0 and self.name not in ("torchrun", "tood train")

    @property
    def num_machines(self) -> int:
        """Number of machines."""
        return self.world_size // self.local_size

    @property
    def machine_rank(self) -> int:
        """The machine of this process, from 0."""
        return self.rank // self.local_size


def detect_launcher(environ: Mapping[str, str]) -> Launcher | None:
    """Read who has started this process, and as which of how many.

    torchrun wins over srun, which often starts it. A shell inside of a SLURM job is no launcher
    (sbatch's script, salloc, ``srun --pty bash``), and neither is a job of one process that leaves
    the number of GPUs to ``--num-gpus``.

    Args:
        environ: the environment variables.

    Returns:
        None if nothing has started this process as one of several.

    Raises:
        ConfigError: the variables contradict each other, or mpirun has started the processes.
    """
    launcher = _detect_torchrun(environ)
    if launcher is None:
        _refuse_mpirun(environ)
        launcher = _detect_srun(environ)
    if launcher is None and _number(environ, "WORLD_SIZE", 1) > 1:
        raise ConfigError(
            f"WORLD_SIZE is {environ['WORLD_SIZE']}, but RANK is not set. Start all processes with "
            f"{TORCHRUN_LINE}, or unset WORLD_SIZE to start one."
        )
    if launcher is not None:
        _validate(launcher)
    return launcher


def _detect_torchrun(environ: Mapping[str, str]) -> Launcher | None:
    """Read the variables of torchrun, or of PyTorchJob, which sets no LOCAL_RANK."""
    if not environ.get("RANK"):
        if not environ.get("LOCAL_RANK"):
            return None
        raise ConfigError(
            f"LOCAL_RANK is {environ['LOCAL_RANK']}, but RANK is not set. Start with "
            f"{TORCHRUN_LINE}, or unset LOCAL_RANK to start one process."
        )
    if not environ.get("WORLD_SIZE"):
        raise ConfigError(
            f"RANK is {environ['RANK']}, but WORLD_SIZE is not set. Start with {TORCHRUN_LINE}, or "
            "unset RANK to start one process."
        )
    rank, world_size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE", least=1)
    if environ.get("LOCAL_RANK"):
        local_rank, local_size = _number(environ, "LOCAL_RANK"), _local_size(environ, world_size)
        # Scripts and other programs set torchrun's variables too.
        name = "torchrun" if environ.get("TORCHELASTIC_RUN_ID") else "the launcher"
    else:
        if world_size == 1:  # one pod, whose GPUs --num-gpus may count
            return None
        _refuse_several_processes_per_pod(environ)
        name, local_rank, local_size = "PyTorchJob", 0, 1
        if not any(key.startswith(("PET_", "KUBERNETES_")) for key in environ):
            name = "the launcher"
    address = environ.get("MASTER_ADDR", "") or ("127.0.0.1" if world_size == 1 else "")
    if not address or (world_size > 1 and not environ.get("MASTER_PORT")):
        missing = "MASTER_ADDR" if not address else "MASTER_PORT"
        raise ConfigError(
            f"RANK and WORLD_SIZE are set, but {missing} is not: the address at which the "
            f"processes find each other. {TORCHRUN_LINE} sets all of them."
        )
    port = _number(environ, "MASTER_PORT", _FIRST_PORT, least=1)
    return Launcher(name, rank, world_size, local_rank, local_size, address, port)


def _local_size(environ: Mapping[str, str], world_size: int) -> int:
    if environ.get("LOCAL_WORLD_SIZE"):
        return _number(environ, "LOCAL_WORLD_SIZE", least=1)
    if world_size == 1:
        return 1
    # Scripts for SLURM often set torchrun's variables by hand, without this one.
    if _number(environ, "SLURM_STEP_NUM_TASKS", 0) == world_size:
        return _tasks_per_node(environ, world_size)
    raise ConfigError(
        "LOCAL_RANK is set, but LOCAL_WORLD_SIZE is not: the number of processes on each machine. "
        f"{TORCHRUN_LINE} sets both."
    )


def _refuse_several_processes_per_pod(environ: Mapping[str, str]) -> None:
    """PyTorchJob counts the processes that torchrun would start in each pod."""
    per_pod = environ.get("PET_NPROC_PER_NODE", "1")
    if per_pod != "1":
        raise ConfigError(
            f"The PyTorchJob asks for {per_pod} processes in each pod (nprocPerNode), but only one "
            "was started. Let the pod's command be torchrun train_net.py ..., which reads it."
        )


def _detect_srun(environ: Mapping[str, str]) -> Launcher | None:
    """Read the variables of a step of a SLURM job with several tasks."""
    world_size = _number(environ, "SLURM_STEP_NUM_TASKS", 1)
    if not environ.get("SLURM_STEP_ID") or world_size <= 1:
        return None
    if environ.get("WORLD_SIZE") and _number(environ, "WORLD_SIZE") != world_size:
        raise ConfigError(
            f"WORLD_SIZE is {environ['WORLD_SIZE']}, but srun has started {world_size} processes. "
            "Leave WORLD_SIZE out, or make them equal."
        )
    for name in ("SLURM_PROCID", "SLURM_LOCALID"):
        if not environ.get(name):
            raise ConfigError(f"srun has started {world_size} processes, but {name} is not set.")
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_NODELIST", "")
    address = environ.get("MASTER_ADDR") or first_host(nodes)
    # Free unless another job of this machine has it: jobs follow each other, and so do ports.
    job = _number(environ, "SLURM_JOB_ID", 0) * 16 + _number(environ, "SLURM_STEP_ID", 0)
    port = _number(environ, "MASTER_PORT", _FIRST_PORT + job % _NUM_PORTS, least=1)
    return Launcher(
        name="srun",
        rank=_number(environ, "SLURM_PROCID"),
        world_size=world_size,
        local_rank=_number(environ, "SLURM_LOCALID"),
        local_size=_tasks_per_node(environ, world_size),
        address=address,
        port=port,
        url=f"tcp://{address}:{port}",
    )


def _tasks_per_node(environ: Mapping[str, str], world_size: int) -> int:
    """The number of tasks on each node, from "2(x3),1", which means 2, 2, 2 and 1."""
    name = "SLURM_STEP_TASKS_PER_NODE"
    text = environ.get(name, "") or environ.get("SLURM_TASKS_PER_NODE", "")
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in text.split(",")]
    counts = [(int(m[1]), int(m[2] or 1)) for m in parts if m is not None]
    if len(counts) < len(parts) or sum(tasks * nodes for tasks, nodes in counts) != world_size:
        raise ConfigError(f"{name} is {text!r}, which does not give {world_size} tasks.")
    if len({tasks for tasks, _ in counts}) > 1:
        raise ConfigError(
            f"srun has started {text} processes per machine, but every machine needs the same "
            "number. Use srun --ntasks-per-node."
        )
    return counts[0][0]


def first_host(nodes: str) -> str:
    """The first host of SLURM's list, such as ``gpu[01-03,7],login`` or ``rack[1-2]n[1-4]``.

    Raises:
        ConfigError: it is no such list.
    """
    hosts = re.match(r"(?:[^\[\],\s]|\[[\d,-]+\])+", nodes.strip())
    if hosts is None:
        raise ConfigError(
            f"SLURM's list of machines is {nodes!r}. Set MASTER_ADDR to the machine of rank 0."
        )
    return re.sub(r"\[(\d+)[\d,-]*\]", r"\1", hosts[0])


def _refuse_mpirun(environ: Mapping[str, str]) -> None:
    for name in _MPI_SIZES:
        size = _number(environ, name, 1)
        # srun --mpi=pmi2 sets it as well.
        if size > 1 and not (
            name == "PMI_SIZE" and _number(environ, "SLURM_STEP_NUM_TASKS", 1) > 1
        ):
            raise ConfigError(
                f"mpirun has started {size} processes ({name}), which PyTorch does not support "
                f"here. Start them with {TORCHRUN_LINE}"
            )


def _validate(launcher: Launcher) -> None:
    """Refuse numbers that cannot be true together."""
    rank, size = launcher.rank, launcher.world_size
    local_rank, local_size = launcher.local_rank, launcher.local_size
    where = f"{launcher.name}'s environment variables: "
    if rank >= size:
        raise ConfigError(f"{where}RANK {rank} must be below WORLD_SIZE {size}.")
    if local_rank >= local_size:
        raise ConfigError(
            f"{where}LOCAL_RANK {local_rank} must be below {local_size}, the number "
            "of processes on the machine."
        )
    if size % local_size:
        raise ConfigError(
            f"{where}{size} processes in all, {local_size} on this machine. Every "
            "machine must have the same number."
        )
    if rank % local_size != local_rank:
        hint = " Use srun --distribution=block." if launcher.name == "srun" else ""
        raise ConfigError(
            f"{where}RANK {rank} has LOCAL_RANK {local_rank}, but the ranks of one machine must "
            f"follow each other.{hint}"
        )
    if launcher.port > 65_535:
        raise ConfigError(f"{where}MASTER_PORT {launcher.port} must be below 65536.")


def _number(
    environ: Mapping[str, str], name: str, default: int | None = None, least: int = 0
) -> int:
    """A whole number from an environment variable."""
    text = environ.get(name, "").strip()
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) < least:
        raise ConfigError(
            f"The environment variable {name} must be a whole number of at least {least}, not "
            f"{text[:40]!r}."
        )
    return int(text)
