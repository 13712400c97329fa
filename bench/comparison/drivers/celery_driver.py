"""Celery with Redis as broker and for results; prefork workers."""
import os
import shutil
import subprocess
import sys
import time

from celery import Celery, group

PORT = int(os.environ.get("COMPARE_REDIS_PORT", "0"))  # set below for the worker, which imports this file
app = Celery("celery_driver", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(worker_prefetch_multiplier=16, result_expires=3600)


@app.task
def nothing():
    return None


@app.task
def process(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode


def measure(letter, tasks, slots, stage):
    redis = stage.start([shutil.which("redis-server", path=os.environ["PATH"] + ":/usr/sbin"), "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", stage.folder])
    port_opens(PORT, redis, "Redis")
    if letter == "E":
        before = memory_of(redis.pid)
        took = timed(lambda: [nothing.delay() for _ in range(tasks)])
        return {"tasks_per_s": tasks / took, "bytes_per_task": (memory_of(redis.pid) - before) / tasks}
    worker = stage.start([sys.executable, "-m", "celery", "-A", "celery_driver", "worker", "-P", "prefork", "-c", str(slots), "-l", "ERROR", "--without-gossip",
                          "--without-mingle", "--without-heartbeat"], cwd=os.path.dirname(os.path.abspath(__file__)), env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "C_FORCE_ROOT": "1"})
    nothing.delay().get(timeout=40)
    command = ["sleep", "0.05"] if letter == "B" else ["/bin/true"]
    if letter == "D":
        return {**latencies(one_by_one(tasks, lambda: process.delay(*command).get(timeout=20))), **latencies(one_by_one(tasks, lambda: nothing.delay().get(timeout=20)), "function_")}
    one = nothing.s() if letter == "C" else process.s(*command)
    before, start = cpu_of(redis.pid, worker.pid), time.monotonic()
    group(one for _ in range(tasks)).apply_async().join_native(interval=0.01)
    took = time.monotonic() - start
    found = {"cpu_us_per_task": (cpu_of(redis.pid, worker.pid) - before) / tasks * 1e6}
    return {**found, "utilization": utilization(tasks, slots, took)} if letter == "B" else {**found, "tasks_per_s": tasks / took}


if __name__ == "__main__":
    if not PORT:
        from driver import free_port
        os.environ["COMPARE_REDIS_PORT"] = str(free_port())
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.modules["celery_driver"] = sys.modules["__main__"]
    from driver import cpu_of, drive, latencies, memory_of, one_by_one, port_opens, timed, utilization
    app.main = "celery_driver"
    drive(measure)
