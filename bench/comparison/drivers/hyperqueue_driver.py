"""HyperQueue by its Python package, which brings server and worker in this process. Its command line is not on PyPI."""
import time

from driver import drive, utilization
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def measure(letter, tasks, slots, stage):
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots or 1))
        client = cluster.client()

        def run(command, count):
            job = Job(default_workdir=stage.folder)
            for _ in range(count):
                job.program(command, stdout=stage.path("out"), stderr=stage.path("err"))
            client.wait_for_jobs([client.submit(job)])

        command = ["sleep", "0.05"] if letter == "B" else ["/bin/true"]
        run(command, 2)
        start = time.monotonic()
        run(command, tasks)
        took = time.monotonic() - start
        return {"utilization": utilization(tasks, slots, took)} if letter == "B" else {"tasks_per_s": tasks / took}


drive(measure)
