"""What must be true when all is over, and what is worth telling."""
import glob
import hashlib
import os
import re
import sqlite3
import subprocess
import time

import enclosure
from work import FAILED_RUN, first_difference

BAD_WORDS = re.compile(rb"AddressSanitizer|ThreadSanitizer|LeakSanitizer|runtime error:|[Aa]ssertion.*failed|terminate called|broken invariant|Segmentation fault|ended by an error| error fault why=")
MANAGER_RSS_MAX = 256 << 20  # of a grid of this size; it takes about 30 MiB
PATIENCE_S = 35  # after a fault is over, until a link has noticed it: half-open connections take that long
GREET_S = 3      # that a manager waits for workers it knew, once it is in the market
ENDED = ("succeeded", "failed", "canceled")


class Ledger:
    """What tasks wrote when they began and ended, outside the grid."""

    def __init__(self, folder):
        self.runs = {}  # "token.number" -> [(what, worker, job, task, attempt, time)]
        for path in glob.glob(os.path.join(glob.escape(folder), "*")):
            lines = []
            with open(path) as file:
                for line in file:
                    words = line.split()
                    if len(words) == 6:
                        lines.append((words[0], words[1], int(words[2]), int(words[3]), int(words[4]), float(words[5])))
            self.runs[os.path.basename(path)] = lines

    def starts(self, key):
        return [run for run in self.runs.get(key, []) if run[0] == "start"]

    def ends(self, key):
        return [run for run in self.runs.get(key, []) if run[0] == "end"]


class Books:
    def __init__(self, grid, jobs, faults):
        self.grid, self.jobs, self.faults = grid, jobs, faults  # faults: (time, Fault, what came of it)
        self.wrong = []
        self.figures = {}

    def fault(self, text):
        self.wrong.append(text)

    def hear_jobs(self):
        """All of them: one answer lists the newest 500, older ones are asked for by number."""
        rows = self.grid.ask("jobs", "--all", "--limit", 500, timeout=60)
        first = min((row["job"] for row in rows), default=1)
        for start in range(1, first if len(rows) >= 500 else 1, 100):
            rows += self.ask_jobs(list(range(start, min(start + 100, first))))
        return rows

    def ask_jobs(self, numbers):
        """Those of them that there are."""
        try:
            return self.grid.ask("job", *numbers, timeout=60)
        except RuntimeError as error:
            if "there is no job" not in str(error):
                raise
        half = len(numbers) // 2
        return self.ask_jobs(numbers[:half]) + self.ask_jobs(numbers[half:]) if half else []

    def read_tasks(self, jobs):
        """All tasks and their outputs, many jobs at a time."""
        self.tasks, self.outputs = {}, {}
        for first in range(0, len(jobs), 25):
            for command, into in (("tasks", self.tasks), ("cat", self.outputs)):
                for task in self.grid.ask(command, *jobs[first:first + 25], timeout=300):
                    into.setdefault(task["job"], {})[task["task"]] = task

    def check(self, adoption_until):
        ledger = Ledger(self.grid.ledger)
        known, named = {}, {}
        for row in self.hear_jobs():
            known[row["job"]] = row
            named.setdefault(row["name"], []).append(row)
        accepted, tasks_seen, late_found, extra, again, most, ran_twice = 0, 0, 0, 0, 0, 0, []
        unexplained = []
        ended = {state: 0 for state in ENDED}
        self.read_tasks(list(known))
        for job in self.jobs:
            self.wrong += [f"{job.name}: {text}" for text in job.wrong]
            rows = named.pop(job.name, [])
            if len(rows) > 1:
                self.fault(f"{job.name} was accepted {len(rows)} times, as jobs {[row['job'] for row in rows]}")
            if job.number is not None and job.number not in [row["job"] for row in rows]:
                self.fault(f"{job.name} was accepted as job {job.number}, which is not there")
                continue
            if not rows:
                ran = [task.key for task in job.tasks if ledger.starts(task.key)]
                if ran:
                    self.fault(f"{job.name} is no job of the manager, but {len(ran)} of its tasks ran, such as {ran[0]}; notes: {job.notes}")
                continue
            if job.refused and job.number is None:
                job.notes.append(f"refused ({job.refused}), yet job {rows[0]['job']}")
            row = rows[0]
            late_found += job.number is None and not job.kind.startswith("run ")
            job.number = row["job"]
            accepted += 1
            if row["state"] not in ENDED:
                self.fault(f"job {job.number} {job.name} ({job.kind}) has not ended: {row}")
                continue
            if job.cancel_told and row["state"] != "canceled" and row["canceled"]:
                self.fault(f"job {job.number} was canceled and is {row['state']}: {row}")
            tasks, outputs = self.tasks.get(job.number, {}), self.outputs.get(job.number, {})
            if sorted(tasks) != list(range(1, len(job.tasks) + 1)):
                self.fault(f"job {job.number} has tasks {sorted(tasks)}, not 1 to {len(job.tasks)}")
                continue
            for task in job.tasks:
                runs = ledger.runs.get(task.key, [])
                number = runs[0][3] if runs and job.kind == "file" else task.number
                seen = tasks[number]
                tasks_seen += 1
                ended[seen["state"]] = ended.get(seen["state"], 0) + 1
                starts, ends = len(ledger.starts(task.key)), len(ledger.ends(task.key))
                where = f"task {job.number}.{number} ({task.key}, {job.kind})"
                if seen["state"] == "canceled":
                    if not job.cancel_tried:
                        self.fault(f"{where} is canceled, and nobody asked for it: {seen}")
                    continue
                if seen["state"] not in ENDED:
                    self.fault(f"{where} has not ended: {seen}")
                    continue
                codes = [job.expected_code(task)]
                if job.kind == "rerun" and task.fails > job.retries:
                    codes = [task.code] if job.reruns else [FAILED_RUN, task.code]
                if seen["cause"] != "exited" or seen["exit_code"] not in codes or (seen["state"] == "succeeded") != (seen["exit_code"] == 0):
                    self.fault(f"{where} ended wrong, expected exit code {codes}: {seen}; it was started {starts} times and ended {ends} times")
                    continue
                if seen["exit_code"] == 0 and not ends:
                    self.fault(f"{where} succeeded without having run")
                out, wanted = outputs.get(number, {}).get("stdout"), task.output().decode()
                if out != wanted:
                    self.fault(f"{where} has an output of {len(out or '')} bytes, not these {len(wanted)}; the first difference is at {first_difference(out or '', wanted)}")
                planned = self.planned_runs(job, task)
                beyond = max(0, starts - planned)
                extra, again, most = extra + beyond, again + (beyond > 0), max(most, beyond)
                unexplained += [f"{where} was started {starts} times, not {planned}, and no fault explains it: {runs}"] if beyond and not self.explained(runs, beyond) else []
                starts_at = [run[5] for run in runs if run[0] == "start"]
                if beyond and runs and runs[-1][5] < adoption_until and not any(self.away(one, other) for one, other in zip(starts_at, starts_at[1:])):
                    ran_twice.append(f"{where} was started {starts} times, not {planned}: {runs}")
            self.check_order(job, ledger)
        self.figures["starts that no fault explains"] = len(unexplained)
        self.wrong += [text for text in unexplained if text not in ran_twice]
        for text in ran_twice:
            self.fault("only managers, servers and submitters had been killed, but " + text)
        for name, rows in named.items():
            if not name.startswith("measure"):
                self.fault(f"there is a job nobody planned: {rows}")
        self.figures.update({"jobs": accepted, "jobs whose number nobody heard": late_found, "tasks": tasks_seen, **{f"tasks {state}": count for state, count in ended.items()},
                             "starts": sum(len(ledger.starts(key)) for key in ledger.runs), "starts beyond the plan": extra, "tasks started more than planned": again,
                             "most extra starts of one task": most, "programs of people that gave up or were killed": sum(len(job.notes) for job in self.jobs)})

    def explained(self, runs, beyond):
        """Whether so many starts came after something had happened to the worker that ran the task before, to its line or disk, or to the manager's line."""
        starts = [run for run in runs if run[0] == "start"]
        for one, other in zip(starts, starts[1:]):
            at, again, worker = one[5], other[5], one[1]
            if self.away(at, again):
                beyond -= 1
                continue
            for began, fault, _ in self.faults:
                touched = worker in fault.target.replace(",", " ").split() or fault.kind == "cut-manager"  # then nobody's lease is renewed
                if touched and began <= again and began + fault.lasts + self.grid.lease_s + PATIENCE_S >= at:
                    beyond -= 1
                    break
        return beyond <= 0

    def away(self, at, again):
        """Whether the server was away in between, and whoever ran the task may not have been back in the time that the manager waits."""
        return any(fault.kind.startswith("server") and at - 5 <= began <= again - GREET_S for began, fault, _ in self.faults)

    @staticmethod
    def planned_runs(job, task):
        """Of a grid in which nothing goes wrong."""
        if job.kind == "rerun" and task.fails > job.retries:
            return task.fails + (1 if job.reruns else 0)
        return task.fails + 1 if task.code == 0 else job.retries + 1

    def check_order(self, job, ledger):
        for number, needs in job.after.items():
            starts = ledger.starts(f"{job.name}.{number}")
            for need in needs:
                ends = ledger.ends(f"{job.name}.{need}")
                if starts and (not ends or min(run[5] for run in starts) < min(run[5] for run in ends)):
                    self.fault(f"job {job.number} {job.name}: task {number} began before task {need}, which it needs, had ended")

    # --- When the grid is down

    def check_store(self):
        path = self.grid.store
        help_text = subprocess.run([self.grid.bin("souk-manager"), "--help"], stdout=subprocess.PIPE, timeout=20).stdout
        if b"--check" in help_text:
            done = subprocess.run([self.grid.bin("souk-manager"), "--check", "--state", os.path.dirname(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, env=self.grid.env)
            self.figures["souk-manager --check"] = f"exit {done.returncode}"
            if done.returncode:
                self.fault(f"souk-manager --check: exit {done.returncode}: {done.stdout.decode(errors='replace')[-3000:]}")
        store = sqlite3.connect(path)
        try:
            sound = store.execute("PRAGMA integrity_check").fetchone()[0]
            if sound != "ok":
                self.fault(f"the store is damaged: {sound}")
            twice = store.execute("SELECT job, task, count(*) FROM outcomes GROUP BY job, task HAVING count(*) > 1 LIMIT 10").fetchall()
            if twice:
                self.fault(f"tasks with more than one outcome in the store (job, task, outcomes): {twice}")
            self.figures["MiB in the store"] = round(os.path.getsize(path) / (1 << 20), 1)
        finally:
            store.close()

    def check_spools(self):
        """What a worker owed it has handed over by now."""
        for worker in self.grid.workers:
            for path in glob.glob(os.path.join(glob.escape(os.path.dirname(worker.work)), "**", "results-*.sqlite"), recursive=True):
                spool = sqlite3.connect(path)
                try:
                    owed = spool.execute("SELECT job, task, epoch, number FROM results").fetchall()
                    if owed:
                        self.fault(f"{worker.name} still owes results (job, task, epoch, number): {owed[:10]}")
                finally:
                    spool.close()

    def check_nothing_left(self, late):
        for name in late:
            self.fault(f"{name} did not end within 10 s of being asked to")
        init = os.getppid()
        end = time.monotonic() + 3
        while True:
            left = [each for pid, each in enclosure.descendants(init).items() if pid != os.getpid()]
            if not left or time.monotonic() > end:
                break
            time.sleep(0.05)
        for each in left:
            self.fault(f"left running: {each}")
        for worker in self.grid.workers:
            for entry in sorted(os.listdir(worker.work)):
                path = os.path.join(worker.work, entry)
                if os.path.isdir(path) and entry != ".souk":
                    self.fault(f"{worker.name} left the folder {path} with {os.listdir(path)[:5]}")
        left = [entry for entry in os.listdir(self.grid.env["TMPDIR"]) if not entry.endswith((".toml", ".items")) and not entry.startswith(".")]
        if left:
            self.fault(f"left in the folder for temporary files: {left}")

    def check_logs(self):
        for path in sorted(glob.glob(os.path.join(glob.escape(self.grid.log), "*"))):
            with open(path, "rb") as file:
                for line in file:
                    if BAD_WORDS.search(line):
                        self.fault(f"{os.path.basename(path)}: {line.decode(errors='replace').strip()[:600]}")

    def check_programs(self, rss_max):
        for program in self.grid.everything():
            for code in program.unexpected:
                self.fault(f"{program.name} ended by itself with {code}; see {program.log}")
        self.figures["MiB of the manager at most"] = round(rss_max / (1 << 20), 1)
        if rss_max > MANAGER_RSS_MAX:
            self.fault(f"the manager took {rss_max >> 20} MiB")

    def digest(self):
        """Of what was planned: the same for the same seed, as far as people got."""
        text = "\n".join(f"{job.name} {job.kind} {[task.terms() for task in job.tasks]}" for job in sorted(self.jobs, key=lambda job: job.name))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
