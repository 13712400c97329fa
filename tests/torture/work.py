"""What people ask of the grid, worked out from the seed alone, and what must come of it."""
import itertools
import os
import random
import signal
import threading
import time

TASK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "task.sh")
FAILED_RUN = 9  # exit code of a run that fails by plan before one that counts


class Task:
    """ms: how long it takes; size: of its output; fails: so many complete runs before the one that counts; code: exit code of that one."""

    def __init__(self, token, number, ms, size, fails, code):
        self.token, self.number, self.ms, self.size, self.fails, self.code = token, number, ms, size, fails, code

    @property
    def key(self):
        return f"{self.token}.{self.number}"

    def terms(self):
        return f"{self.ms} {self.size} {self.fails} {self.code}"

    def output(self):
        """What a serial run prints."""
        line = f"{self.key} says {self.size}\n".encode()
        return (line * (self.size // len(line) + 1))[:self.size]


class Job:
    def __init__(self, who, name, kind, tasks, retries):
        self.who, self.name, self.kind, self.tasks, self.retries = who, name, kind, tasks, retries
        self.number = None        # what `submit` printed
        self.cancel_told = False  # `cancel` said it was done
        self.cancel_tried = False
        self.reruns = 0
        self.refused = None       # the manager said no
        self.notes = []           # of programs that gave up, were killed, or said something wrong
        self.wrong = []
        self.state = "planned"    # what its thread is doing, for diagnostics
        self.after = {}           # of a job file: task -> tasks it needs

    def expected_code(self, task):
        """Of the outcome that stays: a task whose failures by plan outnumber its retries needs `rerun`."""
        return FAILED_RUN if task.fails > self.retries + self.reruns * (self.retries + 1) else task.code


def plan(who, seed, number):
    """The number-th job of a person."""
    r = random.Random(f"{seed}/{who}/{number}")
    name = f"{who}-{number}"
    kind = r.choices(["run one", "run many", "submit", "file", "cancel", "rerun"], [12, 20, 38, 10, 9, 11])[0]

    def task(index, longest=3000, **fixed):
        ms = r.choice([0, 0, r.randrange(50), r.randrange(300), r.randrange(1000), r.randrange(longest)])
        size = r.choice([0, r.randrange(100), r.randrange(100), r.randrange(5000), r.randrange(5000), r.randrange(60000), r.randrange(1 << 20) if r.random() < 0.25 else r.randrange(9000)])
        if r.random() < 0.01:
            size = 1 << 20
        return Task(name, index, fixed.get("ms", ms), fixed.get("size", size), fixed.get("fails", 0), fixed.get("code", 0))

    count = 1 if kind == "run one" else r.randrange(2, 13)
    retries = r.choice([0, 0, 1, 2, 3])
    tasks = [task(n + 1) for n in range(count)]
    if kind == "cancel":
        tasks = [task(n + 1, ms=r.randrange(500, 3000)) for n in range(count + 6)]
    elif kind == "rerun":
        retries = r.choice([0, 0, 1])
        for each in tasks:
            if r.random() < 0.4:
                each.fails = retries + 1
        tasks[0].fails = retries + 1
    elif r.random() < 0.35:  # by plan
        for each in tasks:
            if r.random() < 0.3:
                each.fails = r.randrange(retries + 1)
            elif r.random() < 0.2:
                each.code = r.choice([1, 4, 7, 42, 100])  # 2 and 3 are what `souk run` itself ends with
    if kind in ("run many", "submit") and r.random() < 0.3:  # as --array, whose tasks share their terms
        for each in tasks:
            each.ms, each.size, each.fails, each.code = tasks[0].ms, tasks[0].size, tasks[0].fails, tasks[0].code
    job = Job(who, name, kind, tasks, retries)
    if kind == "file":
        for each in tasks:  # what follows a failure would be canceled
            each.fails = each.code = 0
        for n in range(2, count + 1):
            job.after[n] = sorted(r.sample(range(1, n), min(n - 1, r.randrange(3))))
    job.pause, job.cancel_after = r.random() * 0.6, r.random() * 2.5
    return job


class Person(threading.Thread):
    """Submits jobs, a few at a time, until told to stop."""

    AT_A_TIME = 3

    def __init__(self, who, grid, seed):
        super().__init__(name=who, daemon=True)
        self.who, self.grid, self.seed = who, grid, seed
        self.stopping, self.troubled = threading.Event(), threading.Event()
        self.jobs, self.threads = [], []
        self.places = threading.Semaphore(self.AT_A_TIME)

    def run(self):
        for number in itertools.count(1):
            while not self.places.acquire(timeout=0.2):
                if self.stopping.is_set():
                    return
            if self.stopping.is_set():
                return
            job = plan(self.who, self.seed, number)
            self.jobs.append(job)
            thread = threading.Thread(target=self.see_through, args=(job,), name=job.name, daemon=True)
            self.threads.append(thread)
            thread.start()
            self.stopping.wait(job.pause)
            while self.troubled.is_set() and not self.stopping.is_set():  # as somebody would who was just told that there is no grid
                self.troubled.clear()
                self.stopping.wait(1)

    def see_through(self, job):
        try:
            {"run one": self.follow, "run many": self.follow, "submit": self.submit_and_wait, "file": self.submit_and_wait, "cancel": self.submit_and_cancel,
             "rerun": self.submit_and_rerun}[job.kind](job)
            job.state = "over"
        except Exception as error:  # of the driver itself
            job.wrong.append(f"driver: {type(error).__name__}: {error}")
        finally:
            self.places.release()

    def words(self, job):
        """Of `submit` and `run`."""
        options = ["--name", job.name]
        if job.kind == "file":
            path = os.path.join(self.grid.folder, "home", job.name + ".toml")
            with open(path, "w") as file:
                file.write("crash-limit = 1000\n")
                for task in job.tasks:
                    file.write(f"[task.t{task.number}]\ncommand = ['sh', '{TASK}', '{self.grid.ledger}', '{job.name}', '{task.terms()}', '{task.number}']\nretries = {job.retries}\n")
                    if job.after.get(task.number):
                        file.write(f"needs = [{', '.join(repr(f't{n}') for n in job.after[task.number])}]\n")
            return [*options, "--file", path]
        options += ["--retries", job.retries, "--crash-limit", 1000]
        terms = [task.terms() for task in job.tasks]
        command = ["sh", TASK, self.grid.ledger, job.name]
        if job.kind == "run one":
            return [*options, "--", *command, terms[0]]
        if len(set(terms)) == 1:
            return [*options, "--array", f"1-{len(terms)}", "--", *command, terms[0]]
        path = os.path.join(self.grid.folder, "home", job.name + ".items")
        with open(path, "w") as file:
            file.write("\n".join(terms) + "\n")
        return [*options, "--each-line", path, "--", *command, "{}"]

    def follow(self, job):
        job.state = "run"
        code, out, err = self.grid.souk(self.who, "run", "--no-progress", *self.words(job), what=("run", job))
        if code is None or code < 0 or code in (130, 143):
            job.notes.append(f"run ended by {code}")
            job.cancel_tried = code in (130, 143)
        elif code == 3 or (code == 2 and not out):
            job.notes.append(f"run gave up: {err.strip()[:300]}")
            self.troubled.set()
            if out:
                job.wrong.append(f"run gave up with {code} after it had printed {len(out)} bytes: {err.strip()[:500]}")
            if code == 2:
                job.refused = err.strip()[:300]
                if "resource-constraint" not in err and "disk" not in err and "store" not in err and "again later" not in err:
                    job.wrong.append(f"run was refused: {err.strip()[:500]}")
        else:
            expected = [job.expected_code(task) for task in job.tasks]
            right = expected[0] if len(expected) == 1 else 1 if any(expected) else 0
            if code != right:
                job.wrong.append(f"run ended with {code}, not {right}: {err.strip()[:500]}")
            wanted = b"".join(task.output() for task in job.tasks)
            if out != wanted:
                job.wrong.append(f"run printed {len(out)} bytes, not these {len(wanted)}; the first difference is at {first_difference(out, wanted)}: {err.strip()[:300]}")

    def submit(self, job):
        job.state = "submit"
        code, out, err = self.grid.souk(self.who, "submit", *self.words(job), what=("submit", job))
        if code == 0:
            job.number = int(out)
            return True
        job.notes.append(f"submit ended with {code}: {err.strip()[:300]}")
        self.troubled.set()
        if code == 2:
            job.refused = err.strip()[:300]
            if "resource-constraint" not in err and "disk" not in err and "store" not in err and "again later" not in err:
                job.wrong.append(f"submit was refused: {err.strip()[:500]}")
        return False

    def ask_again(self, job, *words, seconds=150):
        """Until there is an answer: whoever asks may be killed, and the grid may be away for longer than one program waits."""
        end = time.monotonic() + seconds
        while True:
            code, out, err = self.grid.souk(self.who, *words, what=(words[0], job))
            if code in (0, 1, 2) and not (code == 2 and "again later" in err):
                return code, out, err
            job.notes.append(f"{words[0]} ended with {code}: {err.strip()[:200]}")
            if time.monotonic() > end:
                job.wrong.append(f"`souk {' '.join(map(str, words))}` had no answer for {seconds} s: exit {code}, {err.strip()[:300]}")
                return None, out, err
            time.sleep(0.3)

    def wait(self, job):
        job.state = "wait"
        code, out, err = self.ask_again(job, "wait", job.number)
        right = 1 if any(job.expected_code(task) for task in job.tasks) else 0
        # A run that ended but whose end nobody heard of counts for the task, not for the grid: it may have no failure left when it runs again.
        if code is not None and code != right and not (job.kind == "rerun" and job.reruns == 0):
            job.wrong.append(f"wait ended with {code}, not {right}: {out.decode(errors='replace').strip()[:300]} {err.strip()[:300]}")

    def submit_and_wait(self, job):
        if self.submit(job):
            self.wait(job)

    def submit_and_cancel(self, job):
        if not self.submit(job):
            return
        self.stopping.wait(job.cancel_after)
        job.state, job.cancel_tried = "cancel", True
        code, out, err = self.ask_again(job, "cancel", job.number)
        job.cancel_told = code == 0
        if code not in (0, None) and "ended" not in err + out.decode(errors="replace"):
            job.wrong.append(f"cancel ended with {code}: {err.strip()[:300]}")
        job.state = "wait after cancel"
        self.ask_again(job, "wait", job.number)

    def submit_and_rerun(self, job):
        if not self.submit(job):
            return
        self.wait(job)
        job.state = "rerun"
        job.reruns = 1  # from here on: who asks may be killed after the manager heard
        code, out, err = self.ask_again(job, "rerun", job.number)
        said = err + out.decode(errors="replace")
        # Asked a second time, because the first answer was lost: it runs already, or is over with all good.
        if code not in (0, None) and not any(word in said for word in ("every task", "not ended", "still", "runs", "has not")):
            job.wrong.append(f"rerun ended with {code}: {said.strip()[:300]}")
        self.wait(job)


def first_difference(one, other):
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
