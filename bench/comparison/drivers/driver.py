"""What the drivers share. A driver is a program of its own, since a peer's modules may be for another interpreter than ours:
   DRIVER.py CASE TASKS SLOTS FOLDER        prints the figures as one JSON object
"""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))
from bench.comparison.figures import latencies  # noqa: E402,F401
from bench.comparison.peers.peer import marking_script, marks_of, utilization  # noqa: E402,F401
from bench.comparison.processes import Stage, adopt_orphans, cpu_of, end_all, free_port, memory_of, port_opens, wait_for  # noqa: E402,F401


def ended(*_):
    sys.exit(130)


def drive(measure):
    """measure(case, tasks, slots, stage) yields figures."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, ended)
    adopt_orphans()
    code = 0
    try:
        with Stage() as stage:
            print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), stage)), flush=True)
    except Exception as failure:  # for the report of bench/compare: one line
        print(f"{type(failure).__name__}: {failure}".splitlines()[0], file=sys.stderr, flush=True)
        code = 1
    finally:
        end_all()
    os._exit(code)  # some modules wait for long when they are taken down in order


def timed(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


def one_by_one(tasks, call):
    """Seconds of each, 20 ms apart: the system is idle when a task comes."""
    took = []
    for _ in range(tasks):
        time.sleep(0.02)
        took.append(timed(call))
    return took


def median(values):
    return sorted(values)[len(values) // 2]
