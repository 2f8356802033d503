"""What each launcher tells its processes, as tables of environment variables."""

import pytest

from tood.engine.launchers import detect_launcher, first_host
from tood.errors import ConfigError

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
# Task 3 of srun --nodes 2 --ntasks-per-node 2, in job 4711.
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
# The script of sbatch --ntasks 4, which has started nothing yet.
SBATCH = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_JOB_NODELIST": "gpu[03-04]",
    "SLURM_TASKS_PER_NODE": "2(x2)",
}
# srun --pty bash.
SHELL = {**SBATCH, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}
POD = {
    "RANK": "1",
    "WORLD_SIZE": "3",
    "MASTER_ADDR": "tood-master-0",
    "MASTER_PORT": "23456",
    "PET_NPROC_PER_NODE": "1",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
}


@pytest.mark.parametrize(
    "environ, name, place, address",
    [
        (TORCHRUN, "torchrun", (5, 8, 1, 4), "node0:29500"),
        # The agent of torchrun is a task of srun.
        ({**SRUN, **TORCHRUN}, "torchrun", (5, 8, 1, 4), "node0:29500"),
        ({**SBATCH, **TORCHRUN}, "torchrun", (5, 8, 1, 4), "node0:29500"),
        # Variables of torchrun that a script for srun sets.
        (
            {**SRUN, "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03",
             "MASTER_PORT": "1234"},
            "the launcher", (3, 4, 1, 2), "gpu03:1234",
        ),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "the launcher", (0, 1, 0, 1), None),
        (SRUN, "srun", (3, 4, 1, 2), f"gpu03:{15000 + 4711 * 16 % 16000}"),
        ({**SRUN, "SLURM_STEP_ID": "1"}, "srun", (3, 4, 1, 2),
         f"gpu03:{15001 + 4711 * 16 % 16000}"),
        ({**SRUN, "MASTER_ADDR": "head", "MASTER_PORT": "5"}, "srun", (3, 4, 1, 2), "head:5"),
        ({**SRUN, "WORLD_SIZE": "4", "PMI_SIZE": "4"}, "srun", (3, 4, 1, 2), None),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "2,2"}, "srun", (3, 4, 1, 2), None),
        (POD, "PyTorchJob", (1, 3, 0, 1), "tood-master-0:23456"),
        ({**POD, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, "the launcher", (1, 3, 0, 1),
         None),
    ],
)  # fmt: skip
def test_launchers(environ, name, place, address):
    found = detect_launcher(environ)
    assert found.name == name
    assert (found.rank, found.world_size, found.local_rank, found.local_size) == place
    assert address is None or f"{found.address}:{found.port}" == address
    assert found.url == (f"tcp://{found.address}:{found.port}" if name == "srun" else "env://")


def test_machines_of_a_launcher():
    found = detect_launcher(TORCHRUN)
    assert (found.num_machines, found.machine_rank) == (2, 1)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        SBATCH,
        {**SBATCH, "SLURM_NTASKS": "1"},
        SHELL,
        {**SHELL, "SLURM_STEP_ID": "4294967290"},  # salloc with an interactive step
        {"WORLD_SIZE": "1"},
        {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""},
        {**POD, "RANK": "0", "WORLD_SIZE": "1"},  # one pod: --num-gpus counts its GPUs
        {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
)
def test_no_launcher(environ):
    assert detect_launcher(environ) is None


@pytest.mark.parametrize(
    "environ, message",
    [
        ({**TORCHRUN, "RANK": "8"}, "RANK 8 must be below WORLD_SIZE 8"),
        ({**TORCHRUN, "WORLD_SIZE": ""}, "RANK is 5, but WORLD_SIZE is not set"),
        ({**TORCHRUN, "RANK": ""}, "LOCAL_RANK is 1, but RANK is not set"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, but RANK is not set"),
        ({**SBATCH, "WORLD_SIZE": "4"}, "WORLD_SIZE is 4, but RANK is not set"),
        ({**TORCHRUN, "RANK": "five"}, "RANK must be a whole number of at least 0, not 'five'"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK must be a whole number of at least 0, not '-1'"),
        ({**TORCHRUN, "RANK": "1.0"}, "not '1.0'"),
        ({**TORCHRUN, "RANK": "\u0665"}, "RANK must be a whole number"),
        ({**TORCHRUN, "RANK": "9" * 5000}, "RANK must be a whole number"),
        ({**TORCHRUN, "WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number of at least 1"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "LOCAL_RANK 4 must be below 4"),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "3", "LOCAL_RANK": "2"}, "8 processes in all, 3 on this"),
        ({**TORCHRUN, "LOCAL_RANK": "0"}, "RANK 5 has LOCAL_RANK 0"),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE is not"),
        ({**TORCHRUN, "MASTER_ADDR": ""}, "MASTER_ADDR is not"),
        ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT is not"),
        ({**TORCHRUN, "MASTER_PORT": "70000"}, "MASTER_PORT 70000 must be below 65536"),
        ({**SRUN, "WORLD_SIZE": "8"}, "WORLD_SIZE is 8, but srun has started 4 processes"),
        ({**SRUN, "SLURM_PROCID": ""}, "SLURM_PROCID is not set"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3,1"}, "srun --ntasks-per-node"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "2"}, "does not give 4 tasks"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "two"}, "does not give 4 tasks"),
        ({**SRUN, "SLURM_STEP_NODELIST": ""}, "Set MASTER_ADDR"),
        # srun --distribution=cyclic
        ({**SRUN, "SLURM_PROCID": "2", "SLURM_LOCALID": "1"}, "--distribution=block"),
        ({**POD, "PET_NPROC_PER_NODE": "8"}, "be torchrun train_net.py"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "mpirun has started 4 processes .* torchrun"),
        # Open MPI starts its processes through srun: one task for each machine.
        ({**SRUN, "OMPI_COMM_WORLD_SIZE": "16"}, "mpirun has started 16 processes"),
        ({"PMI_SIZE": "2"}, "mpirun has started 2"),
        ({"MV2_COMM_WORLD_SIZE": "2"}, "mpirun has started 2"),
    ],
)
def test_contradictions(environ, message):
    with pytest.raises(ConfigError, match=message) as error:
        detect_launcher(environ)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "nodes, host",
    [
        ("node7", "node7"),
        ("node[01-03,7]", "node01"),
        ("node[7,01-03]", "node7"),
        ("a[1-2],b[3-4]", "a1"),
        ("gpu-a100-3,gpu-a100-5", "gpu-a100-3"),
        ("rack[1-2]n[04-07]", "rack1n04"),
        ("n[1-2].cluster.org", "n1.cluster.org"),
    ],
)
def test_first_host(nodes, host):
    assert first_host(nodes) == host


def test_all_processes_of_a_job_agree():
    tasks = [(str(rank), str(rank % 2)) for rank in range(4)]
    found = [detect_launcher({**SRUN, "SLURM_PROCID": r, "SLURM_LOCALID": i}) for r, i in tasks]
    assert len({(f.url, f.world_size, f.local_size) for f in found}) == 1
    assert [f.rank for f in found] == [0, 1, 2, 3]
