"""Everybody that is compared, in the order of the report."""
from .driven import Celery, Dask, HyperQueue, NewDask, Slurm, WorkQueue
from .gearman import Gearman
from .shell_tools import Make, Parallel, Spawn, Xargs
from .souk import Souk, SoukEjabberd, SoukSandbox


def everybody(programs, environments, quick):
    return [Souk(programs, quick), SoukEjabberd(programs, quick), SoukSandbox(programs, quick), Spawn(programs), Make(), Xargs(), Parallel(), Gearman(), WorkQueue(), Dask(), NewDask(environments), Celery(), Slurm(),
            HyperQueue(environments)]
