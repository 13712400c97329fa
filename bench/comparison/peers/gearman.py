"""Gearman: processes by the stock `gearman -w` worker, functions by a worker of libgearman in C++."""
import os
import shutil
import signal
import subprocess
import time

from ..figures import latencies
from ..machine import package_version
from ..processes import Failed, cpu_of, free_port, memory_of, port_opens, wait_for
from .peer import PATH, Peer, marking_script, marks_of, utilization

HERE = os.path.dirname(os.path.abspath(__file__))


class Gearman(Peer):
    name, cases = "gearman", "ABCDEF"
    packages = ("gearman-job-server", "gearman-tools", "libgearman-dev", "g++")
    programs = ("gearmand", "gearman", "g++")
    note = {"A": "stdout is captured, stderr is not; nothing is on disk; its client adds 1,000 tasks at a time", "B": "stdout is captured, stderr is not; nothing is on disk",
            "C": "nothing is on disk; its client adds 1,000 tasks at a time, since it looks through all of them at every answer", "D": "nothing is on disk", "E": "nothing is on disk"}

    def why_not(self):
        missing = super().why_not()
        if not missing and not os.path.exists("/usr/include/libgearman/gearman.h"):
            missing = f"libgearman's headers are not installed; apt-get install --no-install-recommends {' '.join(self.packages)}"
        return missing

    def version(self):
        return "gearmand " + package_version("gearman-job-server")

    def prepare(self, folder):
        self.program = os.path.join(folder, "gearman_peer")
        made = subprocess.run(["g++", "-O2", "-std=c++20", "-o", self.program, os.path.join(HERE, "gearman_peer.cpp"), "-lgearman"], capture_output=True, text=True)
        if made.returncode != 0:
            raise Failed(f"its client does not compile: {made.stderr.splitlines()[0]}")

    def start_server(self, stage):
        self.port = free_port()
        server = stage.start([shutil.which("gearmand", path=PATH), "-L", "127.0.0.1", "-p", str(self.port), "-l", stage.path("log"), "-t", "1"])
        port_opens(self.port, server, "gearmand")
        return server

    def start_worker(self, stage, command=None):
        if command is None:
            return stage.start([self.program, "worker", str(self.port)])
        return stage.start(["gearman", "-h", "127.0.0.1", "-p", str(self.port), "-w", "-f", "task", "--", *command])

    def workers_ready(self, stage, count):
        def status():
            lines = stage.run(["gearadmin", "-h", "127.0.0.1", "-p", str(self.port), "--status"]).splitlines()
            return any(line.split()[:1] == ["task"] and int(line.split()[3]) >= count for line in lines)
        wait_for(status, "Gearman's workers are there")

    def client(self, stage, what, tasks):
        return stage.run([self.program, what, str(self.port), str(tasks)]).split()

    def measure(self, letter, size, slots, stage):
        server = self.start_server(stage)
        command = {"A": ["/bin/true"], "B": ["sleep", "0.05"], "D": ["/bin/true"]}.get(letter)
        if letter == "E":
            before = memory_of(server.pid)
            seconds, accepted = self.client(stage, "background", size)
            if int(accepted) != size:
                raise Failed(f"it accepted {accepted} of {size}")
            return {"tasks_per_s": size / float(seconds), "bytes_per_task": (memory_of(server.pid) - before) / size}
        if letter == "F":
            return {"restart_ms": self.restart(size, stage)}
        workers = [self.start_worker(stage, command) for _ in range(slots)]
        self.workers_ready(stage, slots)
        if letter == "D":
            found = latencies([float(line) for line in self.client(stage, "latency", size)])
            for worker in workers:
                stage.stop(worker)
            self.start_worker(stage)
            self.workers_ready(stage, 1)
            return {**found, **latencies([float(line) for line in self.client(stage, "latency", size)], "function_")}
        before = cpu_of(server.pid)
        seconds, answered = self.client(stage, "foreground", size)
        if int(answered) != size:
            raise Failed(f"{answered} of {size} tasks were answered")
        found = {"cpu_us_per_task": (cpu_of(server.pid) - before) / size * 1e6}
        return {**found, "utilization": utilization(size, slots, float(seconds))} if letter == "B" else {**found, "tasks_per_s": size / float(seconds)}

    def restart(self, times, stage):
        took = []
        for number in range(times):
            script = stage.path(f"task-{number}")
            marks = marking_script(script)
            first = self.start_worker(stage, [script])
            self.workers_ready(stage, 1)
            self.client(stage, "background", 1)
            wait_for(lambda: marks_of(marks), "the task starts")
            second = self.start_worker(stage, [script])
            self.workers_ready(stage, 2)
            killed = time.time()
            os.kill(first.pid, signal.SIGKILL)
            wait_for(lambda: len(marks_of(marks)) > 1, "the task starts elsewhere")
            took.append((marks_of(marks)[1] - killed) * 1e3)
            stage.stop(first)
            stage.stop(second)
        return sorted(took)[len(took) // 2]
