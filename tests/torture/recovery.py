"""How long it takes until work goes on, measured on a grid that is otherwise at rest."""
import datetime
import os
import signal
import statistics
import time

from books import Ledger
from grid import until

OWNER = "ada"
STABLE_S = 31  # a link that was up for so long begins its back-off anew


class Recovery:
    def __init__(self, grid, say):
        self.grid, self.say, self.count = grid, say, 0
        self.seconds = {}  # what -> [seconds]
        self.task = os.path.join(os.path.dirname(os.path.abspath(__file__)), "task.sh")

    def took(self, what, seconds):
        self.seconds.setdefault(what, []).append(seconds)

    def measure(self, times):
        for what in (self.worker_killed, self.manager_killed, self.server_killed, self.worker_cut):
            if what == self.worker_cut and not (self.grid.network and self.grid.network.can_cut):
                continue
            for _ in range(times):
                until(lambda: len(self.grid.present()) == len(self.grid.workers), "all workers are back", 60)
                what()

    def submit(self, terms, tasks=1):
        self.count += 1
        name = f"measure-{self.count}"
        code, out, err = self.grid.souk(OWNER, "submit", "--name", name, "--crash-limit", 1000, "--array", f"1-{tasks}", "--", "sh", self.task, self.grid.ledger, name, terms, timeout=30)
        if code != 0:
            raise RuntimeError(f"submit: {err}")
        return int(out), name

    def starts(self, name):
        return [run for key, runs in Ledger(self.grid.ledger).runs.items() if key.startswith(name + ".") for run in runs if run[0] == "start"]

    def cancel(self, job):
        self.grid.souk(OWNER, "cancel", job, timeout=30)

    def log_size(self):
        return os.path.getsize(self.grid.manager.log)

    def log_times(self, since, *words):
        """When the manager wrote lines with all these words."""
        found = []
        with open(self.grid.manager.log, errors="replace") as file:
            file.seek(since)
            for line in file:
                if all(word in line for word in words):
                    try:
                        found.append(datetime.datetime.strptime(line.split(" ", 1)[0], "%Y-%m-%dT%H:%M:%S.%f").timestamp())
                    except ValueError:
                        pass
        return found

    def running_on(self, name):
        first = until(lambda: self.starts(name), "the task runs", 20)[0]
        return next(worker for worker in self.grid.workers if worker.name == first[1])

    def worker_killed(self):
        job, name = self.submit("60000 0 0 0")
        worker = self.running_on(name)
        since, killed = self.log_size(), time.time()
        worker.send(signal.SIGKILL)
        again = until(lambda: self.starts(name)[1:], "the task runs elsewhere", 30)
        left = self.log_times(since, "worker left", f'/{worker.name}-')
        if left:
            self.took("the manager hears of it -> its task started elsewhere", again[0][5] - left[0])
        self.took("worker kill -9 -> its task started elsewhere", again[0][5] - killed)
        worker.wait(5)
        worker.start()
        self.cancel(job)

    def manager_killed(self):
        job, name = self.submit("100 0 0 0", tasks=2000)
        until(lambda: len(self.starts(name)) > 30, "tasks run", 20)
        since, killed = self.log_size(), time.time()
        self.grid.manager.send(signal.SIGKILL)
        self.grid.manager.wait(5)
        self.grid.manager.start()
        opened = until(lambda: self.log_times(since, "market open"), "the market is open again", 30)[0]
        until(lambda: max(run[5] for run in self.starts(name)) > opened + 0.005, "tasks are given out again", 30)
        self.took("manager kill -9 -> first dispatch", min(run[5] for run in self.starts(name) if run[5] > opened) - killed)
        self.took("manager kill -9 -> market open", opened - killed)
        self.cancel(job)

    def server_killed(self):
        time.sleep(STABLE_S)  # else links remember that they were lost a moment ago, and are patient
        since, killed = self.log_size(), time.time()
        self.grid.server.send(signal.SIGKILL)
        self.grid.server.wait(5)
        self.grid.server.start()
        joined = until(lambda: (lambda times: times if len(times) >= len(self.grid.workers) else None)(self.log_times(since, "worker joined")), "all workers are back", 60)
        self.took("server kill -9 -> all workers back", joined[len(self.grid.workers) - 1] - killed)

    def worker_cut(self):
        job, name = self.submit("60000 0 0 0")
        worker = self.running_on(name)
        since, cut = self.log_size(), time.time()
        for chain in ("INPUT", "OUTPUT"):
            worker.host.rule(True, chain)
        requeued = until(lambda: self.log_times(since, "requeued", f"task={job}."), "the task is requeued", 60)
        self.took(f"cut -> requeue (lease of {self.grid.lease_s:g} s)", requeued[0] - cut)
        again = until(lambda: self.starts(name)[1:], "the task runs elsewhere", 30)
        self.took(f"cut -> its task started elsewhere (lease of {self.grid.lease_s:g} s)", again[0][5] - cut)
        for chain in ("INPUT", "OUTPUT"):
            worker.host.rule(False, chain)
        self.cancel(job)

    def figures(self):
        return {what: {"n": len(all), "median_s": round(statistics.median(all), 3), "most_s": round(max(all), 3)} for what, all in self.seconds.items()}
