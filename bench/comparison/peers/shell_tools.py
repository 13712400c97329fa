"""make, xargs, GNU parallel, and the bare loop that none can beat by much."""
import os
import re
import resource
import time

from ..figures import latencies
from ..machine import answer_of, package_version
from ..processes import Failed
from .peer import TASK, Peer, utilization

NO_OUTPUT = "stdout and stderr are not captured"


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class ShellTool(Peer):
    cases = "ABD"

    def command(self, task, tasks, slots, stage):
        """(command, its standard input)"""
        raise NotImplementedError

    def batch(self, task, tasks, slots, stage):
        command, text = self.command(task, tasks, slots, stage)
        start = time.monotonic()
        stage.run(command, input=text, env={**os.environ, "HOME": stage.folder, "PARALLEL_HOME": stage.folder})
        return time.monotonic() - start

    def measure(self, letter, size, slots, stage):
        if letter == "D":
            return latencies([self.batch(TASK["D"], 1, slots, stage) for _ in range(size)])
        took = self.batch(TASK[letter], size, slots, stage)
        return {"tasks_per_s": size / took} if letter == "A" else {"utilization": utilization(size, slots, took)}


class Make(ShellTool):
    name, packages, programs = "make", ("make",), ("make",)
    note = {"A": NO_OUTPUT, "B": NO_OUTPUT, "D": "the start of make itself included"}

    def version(self):
        return answer_of("make", "--version").split("\n")[0]

    def command(self, task, tasks, slots, stage):
        with open(stage.path("Makefile"), "w") as file:
            file.write("all: " + " ".join(f"t{i}" for i in range(tasks)) + "\n.PHONY: all\nt%:\n\t@" + " ".join(task) + "\n")
        return ["make", "-s", f"-j{slots}"], None


class Xargs(ShellTool):
    name, packages, programs = "xargs", ("findutils",), ("xargs",)
    note = {"A": NO_OUTPUT, "B": NO_OUTPUT, "D": "the start of xargs itself included"}

    def version(self):
        return answer_of("xargs", "--version").split("\n")[0]

    def command(self, task, tasks, slots, stage):
        fill = ["-I{}"] if task[0] == "sleep" else ["-n1"]  # the argument of sleep is no item
        return ["xargs", f"-P{slots}", *fill, *task], "".join(f"{i}\n" for i in range(tasks))


class Parallel(ShellTool):
    name, packages, programs = "parallel", ("parallel",), ("parallel",)
    note = {"A": "stdout and stderr to files", "B": "stdout and stderr to files", "D": "the start of parallel itself included"}

    def version(self):
        return "GNU parallel " + package_version("parallel")

    def command(self, task, tasks, slots, stage):
        return ["parallel", "--will-cite", f"-j{slots}", " ".join(task) + " #"], "".join(f"{i}\n" for i in range(tasks))


class Spawn(Peer):
    """posix_spawn with two pipes, one thread a slot; executor_bench has it for comparison, and runs as many tasks through our executor."""
    name, cases = "spawn", "A"
    note = {"A": "the bare posix_spawn loop with two pipes, a thread a slot: no scheduler at all"}

    def __init__(self, programs):
        self.program = os.path.join(programs, "executor_bench")

    def why_not(self):
        return "" if os.access(self.program, os.X_OK) else f"there is no {self.program}; build it"

    def version(self):
        return "bare posix_spawn loop of executor_bench"

    def measure(self, letter, size, slots, stage):
        said = stage.run([self.program, str(slots), str(size), "1"], starts_others=True)
        found = re.search(r"bare loop\s+([\d.]+) tasks/s", said)
        if not found:
            raise Failed("executor_bench does not say how fast the bare loop is")
        return {"tasks_per_s": float(found.group(1))}
