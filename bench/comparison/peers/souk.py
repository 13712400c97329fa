"""Souk: a grid as `souk up` starts it, on Prosody or, with bench/ejabberd in its place, on ejabberd."""
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time

from ..figures import latencies
from ..machine import ROOT, answer_of, package_version
from ..processes import Failed, cpu_of, descendants, memory_of, port_opens, stat, wait_for
from .peer import Peer, marking_script, marks_of, utilization

ARRAY, ARRAY_QUICK = 1_000_000, 10_000


class Grid:
    """One `souk up` in the folder of a stage."""

    def __init__(self, stage, programs, workers, slots, environment, options=()):
        self.stage, self.programs = stage, programs
        self.folder = stage.path("grid")
        self.environment = {**{name: value for name, value in os.environ.items() if not name.startswith("SOUK_")}, "SOUK_DIR": self.folder, **environment}
        self.souk("up", "--workers", str(workers), "--slots", str(max(1, slots)), *options)
        with open(os.path.join(self.folder, "state.json")) as file:
            self.state = json.load(file)
        self.pids = {program["name"]: program["pid"] for program in self.state["programs"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.souk("down", seconds=30)
        except Failed:
            pass  # whoever made the stage ends all that is left

    def souk(self, *words, **options):
        return self.stage.run([os.path.join(self.programs, "souk"), *words], env=self.environment, starts_others=words[0] == "up", **options)

    def timed(self, *words):
        start = time.monotonic()
        self.souk(*words, stdout=subprocess.DEVNULL)
        return time.monotonic() - start

    @property
    def scheduler(self):
        return [self.pids["server"], self.pids["manager"]]


class Souk(Peer):
    name, cases = "souk", "ABCDEFS"
    environment = {}
    note = {"A": "`souk run --array`, its start, login and all outputs included; every task and result on disk",
            "B": "`souk run --array`, its start, login and all outputs included; every task and result on disk",
            "C": "one job: `souk run --service --array`, its start, login and all answers included; task and result on the manager's disk, calls under 1 ms not on the worker's",
            "D": "task and result on disk before the client hears of it, of a call on the manager's alone", "E": "on disk when accepted"}
    names = {"S": "prosody"}

    def __init__(self, programs, quick):
        self.programs, self.quick = programs, quick
        self.can_serve = "--service" in answer_of(os.path.join(programs, "souk"), "submit", "--help")
        self.note = dict(self.note)
        self.connected = os.access(os.path.join(programs, "latency_bench"), os.X_OK)
        if not self.connected:
            self.note["D"] = "there is no latency_bench beside the programs: each is a `souk run`, its start and login included"

    def why_not(self):
        if not os.access(os.path.join(self.programs, "souk"), os.X_OK):
            return f"there is no {os.path.join(self.programs, 'souk')}; scripts/build makes it, --bin names another folder"
        return "" if shutil.which("prosody") else "prosody not installed; apt-get install prosody, or scripts/install-deps"

    def version(self):
        kind = "served by the manager" if "--hosted" in answer_of(os.path.join(self.programs, "souk"), "up", "--help") else "a room of the server"
        return f"{answer_of(os.path.join(self.programs, 'souk'), '--version')}; Prosody {package_version('prosody')}; the market is {kind}"

    def service(self):
        """Options of `souk up` for a service that does nothing."""
        program = os.path.join(self.programs, "noop_service")
        if not self.can_serve:
            raise Failed("this version of souk has no service tasks (`souk submit --service`)")
        if not os.access(program, os.X_OK):
            raise Failed(f"there is no {program}")
        return ["--service", f"noop={shlex.quote(program)}"]

    def latency(self, grid, tasks, *options):
        said = self.stage_run(grid, "latency_bench", "--tasks", str(tasks), *options)
        return [float(line) for line in said.split()]

    def stage_run(self, grid, program, *options):
        return grid.stage.run([os.path.join(self.programs, program), "--profile", os.path.join(grid.folder, "user.toml"), *options], env=grid.environment)

    def measure(self, letter, size, slots, stage):
        return getattr(self, "case_" + letter.lower())(size, slots, stage)

    def cpu_a_task(self, grid, size, run):
        """What run() yields and how much processor time the scheduler needed for it."""
        self.settle(grid)
        before = [cpu_of(pid) for pid in grid.scheduler]
        found = run()
        server, manager = ((cpu_of(pid) - then) / size * 1e6 for pid, then in zip(grid.scheduler, before))
        return found, {"cpu_us_per_task": server + manager, "server_cpu_us_per_task": server}

    def settle(self, grid, seconds=5):
        """Until nothing is left to do of starting: ejabberd goes on loading code and writing tables for a while after it lets people in."""
        end = time.monotonic() + seconds
        busy = True
        while busy and time.monotonic() < end:
            before = sum(map(cpu_of, grid.scheduler))
            time.sleep(0.2)
            busy = sum(map(cpu_of, grid.scheduler)) - before > 0.02

    def many(self, grid, size, *command):
        return self.cpu_a_task(grid, size, lambda: grid.timed("run", "--no-progress", "--array", f"1-{size}", *command))

    def case_a(self, size, slots, stage):
        with Grid(stage, self.programs, 1, slots, self.environment) as grid:
            grid.timed("run", "--array", "1-200", "--", "/bin/true")
            took, cpu = self.many(grid, size, "--", "/bin/true")
            return {"tasks_per_s": size / took, **cpu}

    def case_b(self, size, slots, stage):
        with Grid(stage, self.programs, 1, slots, self.environment) as grid:
            grid.timed("run", "--array", f"1-{slots}", "--", "sleep", "0.05")
            took, cpu = self.many(grid, size, "--", "sleep", "0.05")
            return {"utilization": utilization(size, slots, took), **cpu}

    def case_c(self, size, slots, stage):
        with Grid(stage, self.programs, 1, slots, self.environment, self.service()) as grid:
            grid.timed("run", "--service", "noop", "--array", "1-200", "--", "x")
            took, cpu = self.many(grid, size, "--service", "noop", "--", "x")
            return {"tasks_per_s": size / took, **cpu}

    def case_d(self, size, slots, stage):
        serves = self.can_serve and self.connected and os.access(os.path.join(self.programs, "noop_service"), os.X_OK)
        with Grid(stage, self.programs, 1, slots, self.environment, self.service() if serves else ()) as grid:
            if not self.connected:
                return latencies([grid.timed("run", "true") for _ in range(size)])
            self.latency(grid, 5)
            found = latencies(self.latency(grid, size))
            if serves:
                self.latency(grid, 5, "--service", "noop")
                found.update(latencies(self.latency(grid, size, "--service", "noop"), "function_"))
            return found

    def case_e(self, size, slots, stage):
        array = ARRAY_QUICK if self.quick else ARRAY
        lines = stage.path("lines")
        with open(lines, "w") as file:
            file.writelines(f"item-{number}\n" for number in range(size))
        with Grid(stage, self.programs, 1, 1, self.environment) as grid:
            os.kill(grid.pids["worker-1"], signal.SIGUSR2)  # it pauses: nobody takes anything
            wait_for(lambda: "paused" in grid.souk("workers"), "the worker pauses")
            manager = grid.pids["manager"]
            grid.timed("submit", "/bin/true")
            before = memory_of(manager)
            took = grid.timed("submit", "--each-line", lines, "/bin/true", "{}")
            found = {"tasks_per_s": size / took, "bytes_per_task": max(0, memory_of(manager) - before) / size}
            if self.connected:  # after that: what is free again of a larger job would hide what this one needs
                seconds = lambda *options: sorted(float(line) for line in self.stage_run(grid, "latency_bench", *options).split())  # noqa: E731
                found["array_ms"] = seconds("--array", str(array), "--runs", "3")[1] * 1e3
                found["single_ms"] = seconds("--array", "1", "--runs", "9")[4] * 1e3
            return found

    def case_f(self, size, slots, stage):
        took = []
        with Grid(stage, self.programs, 2, 1, self.environment) as grid:
            for number in range(size):
                script = stage.path(f"task-{number}")
                marks = marking_script(script)
                wait_for(lambda: len(re.findall(r"worker-\d.*free", grid.souk("workers"))) == 2, "two workers are free")
                grid.souk("submit", script)
                wait_for(lambda: marks_of(marks), "the task starts")
                worker = self.worker_of(grid, script)
                killed = time.time()
                os.kill(worker, signal.SIGKILL)
                wait_for(lambda: len(marks_of(marks)) > 1, "the task starts elsewhere", 60)
                took.append((marks_of(marks)[1] - killed) * 1e3)
        return {"restart_ms": sorted(took)[len(took) // 2]}

    def case_s(self, size, slots, stage):
        """A component and an account talk through the server, with nothing else there."""
        with Grid(stage, self.programs, 1, 1, self.environment) as grid:
            port = grid.state["port"]
        server = stage.start([self.environment.get("SOUK_PROSODY") or shutil.which("prosody"), "-F", "--config", os.path.join(grid.folder, "server", "prosody.cfg.lua")], env=grid.environment)
        port_opens(port, server, "the server")

        def bench(requests, window, batch):
            return json.loads(stage.run([os.path.join(self.programs, "server_bench"), "--folder", grid.folder, "--requests", str(requests), "--window", str(window), "--batch", str(batch)]))
        bench(min(size, 2000), 64, 1)  # compiled code, grown buffers
        before = cpu_of(server.pid)
        single = bench(size, 64, 1)
        cpu = (cpu_of(server.pid) - before) / (size + min(size, 500)) * 1e6  # server_bench warms up by 500
        batched = bench(max(1, size // 10), 8, 64)
        return {"requests_per_s": single["requests_per_s"], "request_cpu_us": cpu, "batched_tasks_per_s": batched["requests_per_s"] * 64, "latency_us": bench(max(1, size // 10), 1, 1)["p50_us"]}

    def worker_of(self, grid, script):
        """The worker that runs it: the one with a folder of that task's process below its own."""
        supervisor = grid.state["supervisor"]
        for child in descendants(supervisor):
            fields = stat(child)
            if not fields or int(fields[1]) != supervisor:
                continue
            for pid in descendants(child):
                try:
                    with open(f"/proc/{pid}/environ", "rb") as file:
                        if b"SOUK_TASK=" in file.read():
                            return child
                except OSError:
                    continue
        raise Failed("no worker runs the task")


class SoukSandbox(Souk):
    """Every task in a sandbox, one after another in the same of its slot."""
    name, cases = "souk-sandbox", "A"
    packages, programs_needed = ("bubblewrap",), "bwrap"
    note = {"A": "as souk, each task in a sandbox (`--sandbox required`)"}

    def why_not(self):
        return super().why_not() or ("" if shutil.which("bwrap") else "bubblewrap not installed; apt-get install bubblewrap")

    def version(self):
        return f"the same in sandboxes of bubblewrap {package_version('bubblewrap')}"

    def case_a(self, size, slots, stage):
        with Grid(stage, self.programs, 1, slots, self.environment, ["--sandbox", "auto"]) as grid:
            grid.timed("run", "--array", "1-200", "--sandbox", "required", "--", "/bin/true")
            took, cpu = self.many(grid, size, "--sandbox", "required", "--", "/bin/true")
            return {"tasks_per_s": size / took, **cpu}


class SoukEjabberd(Souk):
    name = "souk-ejabberd"
    packages, programs_needed = ("ejabberd",), "erl"
    def __init__(self, programs, quick):
        super().__init__(programs, quick)
        self.note = {letter: "as souk" for letter in "ABCDE"}

    names = {"S": "ejabberd"}
    environment = {"SOUK_PROSODY": os.path.join(ROOT, "bench", "ejabberd")}

    def why_not(self):
        missing = super().why_not()
        if not missing and not (shutil.which("erl") and package_version("ejabberd")):
            missing = f"ejabberd not installed; apt-get install --no-install-recommends {' '.join(self.packages)}"
        return missing

    def version(self):
        return f"the same on ejabberd {package_version('ejabberd')}"
