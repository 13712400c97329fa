"""Dask distributed: a scheduler, and a worker process of one thread for each slot. A task with a process is a function that runs it and captures what it writes."""
import logging
import os
import signal
import sys
import time

import distributed
from driver import cpu_of, drive, free_port, latencies, marking_script, marks_of, median, memory_of, one_by_one, port_opens, timed, utilization, wait_for

logging.disable(logging.WARNING)



def measure(letter, tasks, slots, stage):
    def process(command):  # by value to the workers, which cannot import this file
        import subprocess as processes
        return processes.run(command, stdout=processes.PIPE, stderr=processes.PIPE).returncode

    def idle(_):
        return None

    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False"}
    address = f"tcp://127.0.0.1:{free_port()}"

    def start_worker():
        return stage.start([sys.executable, "-m", "distributed.cli.dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny",
                            "--memory-limit", "0", "--local-directory", stage.folder], env=environment)

    scheduler = stage.start([sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], "--no-dashboard", "--no-show"], env=environment)
    port_opens(int(address.rsplit(":", 1)[1]), scheduler, "the scheduler")
    for _ in range(slots if letter in "ABCD" else 0):
        start_worker()
    client = distributed.Client(address, timeout=30)
    if letter in "ABCD":
        client.wait_for_workers(slots)

    if letter == "E":
        client.run_on_scheduler(idle, None)
        before, start = memory_of(scheduler.pid), time.monotonic()
        futures = client.map(idle, range(tasks), pure=False)
        count = lambda dask_scheduler: len(dask_scheduler.tasks)  # noqa: E731
        while client.run_on_scheduler(count) < tasks:
            time.sleep(0.02)
        took = time.monotonic() - start
        found = {"tasks_per_s": tasks / took, "bytes_per_task": (memory_of(scheduler.pid) - before) / tasks}
        del futures
        return found
    if letter == "F":
        took = []
        for number in range(tasks):
            script = stage.path(f"task-{number}")
            marks = marking_script(script)
            first = start_worker()
            client.wait_for_workers(1)
            future = client.submit(process, [script], pure=False)
            wait_for(lambda: marks_of(marks), "the task starts")
            second = start_worker()
            client.wait_for_workers(2)
            killed = time.time()
            os.kill(first.pid, signal.SIGKILL)
            wait_for(lambda: len(marks_of(marks)) > 1, "the task starts elsewhere")
            took.append((marks_of(marks)[1] - killed) * 1e3)
            future.result()
            stage.stop(first)
            stage.stop(second)
            wait_for(lambda: not client.scheduler_info()["workers"] or client.run_on_scheduler(lambda dask_scheduler: not dask_scheduler.workers), "the workers are gone")
        return {"restart_ms": median(took)}
    command = ["sleep", "0.05"] if letter == "B" else ["/bin/true"]
    client.gather(client.map(idle, range(8), pure=False))
    client.gather(client.map(process, [command] * 4, pure=False))
    if letter == "D":
        return {**latencies(one_by_one(tasks, lambda: client.submit(process, command, pure=False).result())),
                **latencies(one_by_one(tasks, lambda: client.submit(idle, 0, pure=False).result()), "function_")}
    function, items = (idle, range(tasks)) if letter == "C" else (process, [command] * tasks)
    before = cpu_of(scheduler.pid)
    took = timed(lambda: client.gather(client.map(function, items, pure=False)))
    found = {"cpu_us_per_task": (cpu_of(scheduler.pid) - before) / tasks * 1e6}
    return {**found, "utilization": utilization(tasks, slots, took)} if letter == "B" else {**found, "tasks_per_s": tasks / took}


if __name__ == "__main__":
    drive(measure)
