"""Peers that are driven from Python: each run is a program in drivers/, with the interpreter that has the peer's modules."""
import json
import os
import shutil
import subprocess
import sys

from ..machine import answer_of, package_version
from ..processes import Failed
from .peer import PATH, SYSTEM_PYTHON, Peer

DRIVERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "drivers")


class Driven(Peer):
    driver = ""
    python = SYSTEM_PYTHON
    alone = []  # before the command: where it runs

    def measure(self, letter, size, slots, stage):
        said = stage.run([*self.alone, self.python, os.path.join(DRIVERS, self.driver), letter, str(size), str(slots)], starts_others=True, seconds=180,
                         env={**os.environ, "PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1"})
        try:
            return json.loads(said.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise Failed(f"{self.driver} printed no figures") from None


def own_network():
    """A command before a command: with nothing but loopback, for what would listen on every address."""
    user = [] if os.geteuid() == 0 else ["-r"]
    return ["unshare", *user, "-n", "--kill-child", "-p", "-f", "--mount-proc", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def network_is_allowed():
    return subprocess.run([*own_network(), "true"], capture_output=True).returncode == 0


class WorkQueue(Driven):
    name, cases, driver = "workqueue", "ABDEF", "work_queue_driver.py"
    packages, programs, modules = ("coop-computing-tools", "python3-workqueue", "iproute2"), ("work_queue_worker", "ip"), ("work_queue",)
    note = {**dict.fromkeys("ABDE", "client and scheduler are one process, which keeps tasks in memory"), "F": "the task of a killed worker goes on and holds its connection; it starts elsewhere when that has ended, after 20 s"}

    def why_not(self):
        return super().why_not() or ("" if network_is_allowed() else "it listens on every address, and a network of its own is not allowed here (unshare -n)")

    def version(self):
        return "Work Queue of cctools " + package_version("coop-computing-tools")

    @property
    def alone(self):
        return own_network()


# Of Debian's and of PyPI's.
DASK_NOTE = {"A": "a function runs the process and captures stdout and stderr; nothing is on disk", "B": "a function runs the process; nothing is on disk",
             "C": "client.map and one gather, its client connected; nothing is on disk", "D": "nothing is on disk", "E": "nothing is on disk"}


class Dask(Driven):
    name, cases, driver = "dask", "ABCDEF", "dask_driver.py"
    packages, modules = ("python3-distributed",), ("distributed",)
    note = DASK_NOTE

    def version(self):
        return "Dask distributed " + answer_of(self.python, "-c", "import distributed; print(distributed.__version__)")


class Celery(Driven):
    name, cases, driver = "celery", "ABCDE", "celery_driver.py"
    packages, programs, modules = ("python3-celery", "python3-redis", "redis-server"), ("redis-server",), ("celery", "redis")
    note = {**dict.fromkeys("ABC", "the CPU is of Redis and of the worker's main process; nothing is on disk"), "D": "nothing is on disk", "E": "nothing is on disk"}

    def version(self):
        return f"Celery {package_version('python3-celery')}, Redis {package_version('redis-server')}"


class FromPyPI(Driven):
    """In an environment of its own below build/, made with --install."""
    package = ""

    def __init__(self, environments):
        self.environment = os.path.join(environments, self.name)
        self.python = os.path.join(self.environment, "bin", "python")

    def why_not(self):
        if self.installed():
            return ""
        return f"{self.package} of PyPI is not in {self.environment}; bench/compare --install makes it, where PyPI is reachable"

    def installed(self):
        module = self.package.replace("-", "_")
        return os.access(self.python, os.X_OK) and subprocess.run([self.python, "-c", f"import {module}"], capture_output=True).returncode == 0

    def install(self):
        """What went wrong, or nothing."""
        for python in (sys.executable, SYSTEM_PYTHON):
            shutil.rmtree(self.environment, ignore_errors=True)
            if subprocess.run([python, "-m", "venv", self.environment], capture_output=True).returncode == 0:
                break
        else:
            return "no virtual environment can be made; apt-get install python3-venv"
        try:
            made = subprocess.run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", self.package], capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return "pip took longer than 300 s"
        return "" if made.returncode == 0 else f"pip: {(made.stderr.strip().splitlines() or ['it failed'])[-1]}"

    def version(self):
        return f"{self.package} {answer_of(self.python, '-c', f'import importlib.metadata as m; print(m.version({self.package!r}))')} of PyPI"


class NewDask(FromPyPI):
    name, cases, driver, package = "dask-pip", "ABCDEF", "dask_driver.py", "distributed"
    note = DASK_NOTE


class HyperQueue(FromPyPI):
    name, cases, driver, package = "hyperqueue", "AB", "hyperqueue_driver.py", "hyperqueue"
    # A job of one task takes a second until its client sees the end, whatever the task: no case D. It has no server apart from the client: no case E.
    note = {"A": "server, worker and client in one process; output to a file; up to a second passes until its client sees the end", "B": "up to a second passes until its client sees the end"}

    def why_not(self):
        return super().why_not() or ("" if network_is_allowed() else "it listens on every address, and a network of its own is not allowed here (unshare -n)")

    @property
    def alone(self):
        return own_network()


class Slurm(Driven):
    name, cases, driver = "slurm", "ABDE", "slurm_driver.py"
    packages, programs = ("slurmctld", "slurmd", "slurm-client", "munge", "iproute2"), ("slurmctld", "slurmd", "sbatch", "munged", "ip")
    note = {"A": "an array job", "B": "an array job", "D": "srun, its start included", "E": "single sbatch calls; the array has 10,000 tasks"}
    # Names are looked up only where there is an address besides 127.0.0.1, and the host's own must lead to it.
    alone = ["unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c",
             "ip link set lo up && ip address add 10.9.9.9/32 dev lo && mount -t tmpfs none /run && "
             '{ cat /etc/hosts; echo "127.0.0.1 $(hostname) $(hostname -s)"; } >/run/hosts && mount --bind /run/hosts /etc/hosts && exec "$@"', "sh"]

    def why_not(self):
        return super().why_not() or ("" if os.geteuid() == 0 else "it needs root, for namespaces of its own")

    def version(self):
        return "Slurm " + package_version("slurmctld")
