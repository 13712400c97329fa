"""Work Queue (cctools): manager and client are one process, this one. Runs in a network of its own, since it listens on every address."""
import os
import signal
import time

import work_queue
from driver import cpu_of, drive, marking_script, marks_of, median, latencies, memory_of, one_by_one, timed, utilization


def measure(letter, tasks, slots, stage):
    queue = work_queue.WorkQueue(0)

    def start_worker(cores):
        return stage.start(["work_queue_worker", "--cores", str(cores), "--memory", "4000", "--disk", "4000", "-t", "300", "-s", stage.folder, "127.0.0.1", str(queue.port)])

    def submit(command):
        task = work_queue.Task(command)
        task.specify_cores(1)
        task.specify_memory(1)  # or a task takes the whole worker
        task.specify_disk(1)
        queue.submit(task)

    def drain():
        good = 0
        while not queue.empty():
            task = queue.wait(5)
            good += bool(task) and task.return_status == 0
        return good

    def one():
        submit("/bin/true")
        drain()

    if letter == "E":
        before = memory_of(os.getpid())
        took = timed(lambda: [submit(f"/bin/true {number}") for number in range(tasks)])
        return {"tasks_per_s": tasks / took, "bytes_per_task": (memory_of(os.getpid()) - before) / tasks}
    if letter == "F":
        took = []
        for number in range(tasks):
            script = stage.path(f"task-{number}")
            marks = marking_script(script)
            first = start_worker(1)
            submit(script)
            while not marks_of(marks):
                queue.wait(1)
            second = start_worker(1)
            until = time.monotonic() + 2
            while time.monotonic() < until:
                queue.wait(1)
            killed = time.time()
            os.kill(first.pid, signal.SIGKILL)
            drain()
            took.append((marks_of(marks)[1] - killed) * 1e3)
            stage.stop(first)
            stage.stop(second)
        return {"restart_ms": median(took)}
    start_worker(slots)
    for _ in range(4):
        submit("/bin/true")
    drain()
    if letter == "D":
        return latencies(one_by_one(tasks, one))
    before, start = cpu_of(os.getpid()), time.monotonic()
    for _ in range(tasks):
        submit("/bin/true" if letter == "A" else "sleep 0.05")
    if drain() != tasks:
        raise RuntimeError("not all tasks succeeded")
    took = time.monotonic() - start
    found = {"cpu_us_per_task": (cpu_of(os.getpid()) - before) / tasks * 1e6}
    return {**found, "tasks_per_s": tasks / took} if letter == "A" else {**found, "utilization": utilization(tasks, slots, took)}


drive(measure)
