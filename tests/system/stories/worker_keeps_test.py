#!/usr/bin/env python3
"""What workers keep when they, the manager or the server go away in the middle: real processes, really killed."""
import glob
import os
import re
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
import unittest
from datetime import datetime, timezone

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid, until


class Keeps(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="souk keeps ")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, str(name))

    def grid(self, *options):
        grid = Grid(*options)
        self.addCleanup(grid.close)
        return grid

    def lines(self, name):
        try:
            with open(self.path(name)) as file:
                return file.read().splitlines()
        except OSError:
            return []

    def on_disk(self, grid, worker):
        """Results in its spool, as its next life would find them if it were killed now."""
        copy = self.path("copy")
        shutil.rmtree(copy, ignore_errors=True)
        try:
            shutil.copytree(os.path.join(grid.folder, "results", worker), copy)
            with sqlite3.connect(glob.glob(glob.escape(copy) + "/*.sqlite")[0]) as db:
                return db.execute("SELECT count(*) FROM results").fetchone()[0]
        except (sqlite3.Error, OSError, shutil.Error):  # caught in the middle of a write
            return -1

    def test_a_worker_and_its_manager_killed_after_tasks_ended_lose_no_result(self):
        grid = self.grid("--workers", 1, "--slots", 2)
        job = grid.submit("--array", "1-2", "--shell", f"echo run >> '{self.path('{}')}'; while ! [ -e '{self.path('go')}' ]; do sleep 0.02; done; echo done {{}}; exit 0")
        until(lambda: self.lines(1) and self.lines(2), "both run")
        grid.kill("manager", signal.SIGSTOP)
        open(self.path("go"), "w").close()
        until(lambda: self.on_disk(grid, "worker-1") == 2, "both results are on disk")
        grid.kill("worker-1")
        grid.kill("manager")
        done = grid.souk("wait", job)
        self.assertEqual(done.code, 0, (done, grid.logs()))
        self.assertEqual((self.lines(1), self.lines(2)), (["run"], ["run"]), grid.logs())
        self.assertEqual(grid.souk("cat", job).text, "done 1\ndone 2\n")
        until(lambda: self.on_disk(grid, "worker-1") == 0, "what the manager has is forgotten")

    def test_a_worker_told_to_stop_costs_no_failure_and_no_lease(self):
        grid = self.grid("--workers", 2, "--slots", 2)
        job = grid.submit("--array", "1-12", "--shell", f"echo run >> '{self.path('{}')}'; sleep 0.7; echo done {{}}")
        until(lambda: grid.job(job)["running"] == 4 and grid.job(job)["succeeded"] >= 1, "some have ended, some run, some wait")
        began = time.monotonic()
        grid.kill("worker-1", signal.SIGTERM)
        done = grid.souk("wait", job)
        self.assertEqual(done.code, 0, (done, grid.logs()))
        self.assertLess(time.monotonic() - began, 20, "a lease is 30 s")
        facts = grid.job(job)
        self.assertEqual((facts["succeeded"], facts["failed"], facts["retried"]), (12, 0, 0), facts)
        self.assertEqual(grid.souk("cat", job).text, "".join(f"done {n}\n" for n in range(1, 13)))
        runs = sum(len(self.lines(n)) for n in range(1, 13))
        self.assertLessEqual(runs, 14, "only what it ran ran again")
        self.assertIn("leaving why=", grid.logs())

    def test_tasks_that_end_while_the_server_is_away_run_once(self):
        grid = self.grid("--workers", 2, "--slots", 2)
        waiting = grid.start("run", "--array", "1-4", "--shell", f"echo run >> '{self.path('{}')}'; sleep 1.5; echo end >> '{self.path('{}')}'; echo done {{}}")
        until(lambda: all(self.lines(n) for n in range(1, 5)), "all four run")
        end = time.monotonic() + 4
        while time.monotonic() < end:  # its supervisor starts it again and again
            pid = grid.pid("server")
            try:
                if pid > 1:  # it runs just now
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            time.sleep(0.02)
        self.assertEqual([self.lines(n) for n in range(1, 5)], [["run", "end"]] * 4, "they ended meanwhile")
        done = grid.finish(waiting)
        self.assertEqual(done.code, 0, (done, grid.logs()))
        self.assertEqual(done.text, "".join(f"done {n}\n" for n in range(1, 5)))
        self.assertEqual([self.lines(n) for n in range(1, 5)], [["run", "end"]] * 4, "and once only")

    def test_what_a_killed_worker_ran_runs_elsewhere_at_once(self):
        grid = self.grid("--workers", 6, "--slots", 1)
        whole, since_told = [], []
        for turn in range(20):
            until(lambda: len(grid.souk("workers", "--json").json) >= 4, "enough workers are there")
            job = grid.submit("--shell", f"echo $SOUK_WORKER $(date +%s%N) >> '{self.path(turn)}'; exec sleep 60")
            until(lambda: self.lines(turn), "it runs")
            killed = self.lines(turn)[0].split()[0]
            began = time.time_ns()
            grid.kill(killed)
            until(lambda: len(self.lines(turn)) == 2, "it runs elsewhere")
            other, started = self.lines(turn)[1].split()
            self.assertNotEqual(other, killed)
            whole.append((int(started) - began) / 1e6)
            with open(os.path.join(grid.folder, "log", "manager.log")) as log:
                left = [line for line in log if "worker left" in line][-1]
            told = datetime.strptime(re.match(r"\S+?Z?(?= )", left).group().rstrip("Z"), "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=timezone.utc)
            since_told.append(int(started) / 1e6 - told.timestamp() * 1e3)
            self.assertEqual(grid.souk("cancel", job).code, 0)
        print(f"kill -9 of a worker to its task's start elsewhere: median {statistics.median(whole):.1f} ms, most {max(whole):.1f} ms; "
              f"from the server's word: median {statistics.median(since_told):.1f} ms", flush=True)
        # Bounds for a busy machine; a quiet one takes a tenth of that.
        self.assertLess(statistics.median(whole), 500)
        self.assertLess(statistics.median(since_told), 200)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *(["Keeps." + name for name in sys.argv[1:]] or ["Keeps"])], verbosity=2)
