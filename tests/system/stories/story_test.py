#!/usr/bin/env python3
"""Whole grids, whole stories: real server, real manager, real workers, real tasks."""
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid, until


class Batches(unittest.TestCase):
    def setUp(self):
        self.grid = Grid("--workers", 2, "--slots", 2)
        self.addCleanup(self.grid.close)

    def test_a_map_of_200_files_gives_what_a_local_run_gives(self):
        folder = tempfile.TemporaryDirectory(prefix="souk files ")
        self.addCleanup(folder.cleanup)
        names = [f"file {i} '{chr(0xE4 + i % 20)}\".bin" for i in range(200)]
        expected = ""
        chance = random.Random(7)
        for name in names:
            content = chance.randbytes(chance.choice([0, 1, 1000, 70000]))
            path = os.path.join(folder.name, name)
            with open(path, "wb") as file:
                file.write(content)
            # sha256sum marks names with a backslash or a line end; these have none
            expected += f"{hashlib.sha256(content).hexdigest()}  {path}\n"
        done = self.grid.souk("map", "sha256sum", ":::", *[os.path.join(folder.name, name) for name in names])
        self.assertEqual(done.code, 0, done)
        self.assertEqual(done.text, expected)
        workers = {task["worker"] for task in self.grid.souk("tasks", 1, "--json").json}
        self.assertEqual(len(workers), 2, workers)  # spread over both

    def test_an_array_of_a_thousand(self):
        done = self.grid.souk("run", "--array", "1-2000:2", "--", "sh", "-c", "echo $SOUK_TASK {} $SOUK_ITEM $SOUK_JOB")
        self.assertEqual(done.code, 0, done)
        self.assertEqual(done.text, "".join(f"{t} {2 * t - 1} {2 * t - 1} 1\n" for t in range(1, 1001)))

    def test_outputs_larger_than_a_stanza_arrive_whole_and_in_bounds(self):
        program = "import random,sys; sys.stdout.buffer.write(random.Random(int(sys.argv[1])).randbytes(700000)); sys.stderr.buffer.write(b'e' * 1500000)"
        done = self.grid.souk("map", "--no-progress", "/usr/bin/python3", "-c", program, ":::", 1, 2, 3, 4)
        self.assertEqual(done.code, 0, done)
        expected = b"".join(random.Random(seed).randbytes(700000) for seed in (1, 2, 3, 4))
        self.assertEqual(hashlib.sha256(done.out).hexdigest(), hashlib.sha256(expected).hexdigest())
        tasks = self.grid.souk("tasks", 1, "--json").json
        self.assertEqual({t["stderr_size"] for t in tasks}, {1500000})
        kept = self.grid.souk("cat", "1.1", "--stderr")
        self.assertEqual(len(kept.err.split("souk:")[0]) if kept.err.startswith("e") else len(kept.out), 1 << 20, kept.err[-300:])

    def test_a_large_standard_input_reaches_every_task(self):
        content = random.Random(1).randbytes(3_000_000)
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            done = self.grid.souk("run", "--array", "1-6", "--stdin", file.name, "--", "sha256sum")
        self.assertEqual(done.code, 0, done)
        self.assertEqual(done.text, f"{hashlib.sha256(content).hexdigest()}  -\n" * 6)

    def test_cancel_stops_what_runs_with_all_its_children(self):
        mark = f"86{random.randrange(10**6, 10**7)}"
        job = self.grid.submit("--array", "1-8", "--shell", f"(setsid sleep {mark} &); trap '' TERM; sleep {mark}; sleep {mark}")

        def sleepers():
            count = 0
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        count += file.read() == f"sleep\0{mark}\0".encode()
                except OSError:
                    pass
            return count

        until(lambda: sleepers() >= 8, "four tasks of two processes run")
        self.assertEqual(self.grid.souk("cancel", job).code, 0)
        until(lambda: sleepers() == 0, "no process of the job is left")
        done = self.grid.souk("wait", job)
        self.assertEqual(done.code, 1, done)
        facts = self.grid.job(job)
        self.assertEqual((facts["state"], facts["canceled"]), ("canceled", 8))


class Losses(unittest.TestCase):
    def test_up_returns_when_all_its_workers_are_in_the_market(self):
        grid = Grid("--workers", 6, "--slots", 1)
        self.addCleanup(grid.close)
        self.assertEqual(len(grid.souk("workers", "--json").json), 6)

    def test_a_worker_killed_in_the_middle_loses_no_task(self):
        grid = Grid("--workers", 2, "--slots", 1)
        self.addCleanup(grid.close)
        job = grid.submit("--array", "1-12", "--shell", "sleep 0.4; echo {}")
        until(lambda: grid.job(job)["running"] == 2 and grid.job(job)["succeeded"] >= 1, "both work")
        grid.kill("worker-1")
        done = grid.souk("wait", job)
        self.assertEqual(done.code, 0, done)
        facts = grid.job(job)
        self.assertEqual((facts["state"], facts["succeeded"]), ("succeeded", 12), grid.logs())
        self.assertGreaterEqual(facts["requeued"], 1, "its task went to another worker")
        self.assertEqual(grid.souk("cat", job).text, "".join(f"{i}\n" for i in range(1, 13)))

    def test_a_worker_that_fails_what_others_do_well_is_set_aside(self):
        grid = Grid("--workers", 2, "--slots", 1)
        self.addCleanup(grid.close)
        done = grid.souk("run", "--array", "1-20", "--retries", 3, "--shell", "sleep 0.05; test $SOUK_WORKER != worker-1")
        self.assertEqual(done.code, 0, (done, grid.logs()))  # each found its way to the good one
        aside = {worker["worker"]: worker["set_aside"] for worker in grid.souk("workers", "--json").json}
        self.assertRegex(aside["worker-1"], r"its last \d+ ")
        self.assertEqual(aside["worker-2"], "")
        self.assertIn("set aside worker=", grid.logs())

    def runs_once_although(self, killed, with_signal=signal.SIGKILL, workers=2, slots=2, and_the_manager=False):
        """Workers with slots to spare: what one runs must not be given to the other when everybody meets again."""
        grid = Grid("--workers", workers, "--slots", slots)
        self.addCleanup(grid.close)
        with tempfile.TemporaryDirectory() as folder:
            waiting = grid.start("run", "--array", "1-5", "--shell", f"echo x >> '{folder}'/{{}}; sleep 3; echo {{}}")
            until(lambda: len(os.listdir(folder)) == min(5, workers * slots), "as many run as can")
            if and_the_manager:
                time.sleep(1.1)  # it notes every second who is there
                grid.kill("manager")
            grid.kill(killed, with_signal)
            done = grid.finish(waiting)
            self.assertEqual(done.code, 0, (done, grid.logs()))
            self.assertEqual(done.text, "1\n2\n3\n4\n5\n")
            # Each start wrote two bytes.
            self.assertEqual([os.path.getsize(os.path.join(folder, name)) for name in sorted(os.listdir(folder))], [2] * 5, grid.logs())

    def test_a_manager_killed_in_the_middle_adopts_what_runs(self):
        self.runs_once_although("manager")

    def test_what_is_adopted_is_shown_as_running_and_why_tells_of_what_waits(self):
        grid = Grid("--workers", 1, "--slots", 1)
        self.addCleanup(grid.close)
        with tempfile.TemporaryDirectory() as folder:
            job = grid.submit("--array", "1-3", "--shell", f"test {{}} = 1 || while [ ! -e '{folder}/go' ]; do sleep 0.05; done")
            until(lambda: grid.job(job)["succeeded"] == 1 and grid.job(job)["running"] == 1, "the second runs")
            self.assertNotIn("it succeeded", grid.souk("why", job).text)
            epoch = grid.souk("status", "--json").json[0]["grid"]["epoch"]
            grid.kill("manager")
            until(lambda: grid.souk("status", "--json").json[0].get("grid", {}).get("epoch") == epoch + 1 and grid.job(job)["running"] == 1, "it was adopted")
            self.assertEqual(grid.job(job)["state"], "running")
            open(os.path.join(folder, "go"), "w").close()
            self.assertEqual(grid.souk("wait", job).code, 0)

    def test_a_retry_waits_and_counts_although_the_manager_was_killed(self):
        grid = Grid("--workers", 1, "--slots", 1)
        self.addCleanup(grid.close)
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            def started():
                with open(log) as lines:
                    return lines.read().split()
            waits = lambda: "runs again in" in grid.souk("why", f"{job}.1").text
            job = grid.submit("--retries", 1, "--retry-delay", "8s", "--shell", f"echo $SOUK_ATTEMPT $(date +%s.%N) >> '{log}'; exit 3")
            until(waits, "it waits for its retry")
            grid.kill("manager")
            until(lambda: grid.souk("run", "true").code == 0, "the manager is back")
            self.assertEqual(len(started()), 2, grid.souk("why", f"{job}.1").text)  # one run: it still waits
            self.assertEqual(grid.souk("wait", job).code, 1)
            first, at, second, again = started()  # and no third one
            self.assertEqual((first, second), ("1", "2"))
            self.assertGreaterEqual(float(again) - float(at), 5.9, "a quarter less than asked at the least")
            self.assertEqual([attempt["run"] for attempt in grid.souk("why", f"{job}.1", "--json").json[0]["attempts"]], [1, 2])
            self.assertEqual(grid.souk("rerun", job).code, 0)
            until(waits, "it may fail as often as at first")
            self.assertEqual(started()[4::2], ["3"])  # and its runs are numbered on
            self.assertEqual(grid.souk("cancel", job).code, 0)

    def test_a_server_killed_in_the_middle_is_joined_again(self):
        self.runs_once_although("server")

    def test_server_and_manager_killed_together_find_back_what_runs(self):
        """The new manager is in the market before some of the workers are, and waits for those that it remembers."""
        self.runs_once_although("server", signal.SIGKILL, workers=5, slots=3, and_the_manager=True)

    def test_a_server_stopped_in_good_order_costs_no_work(self):
        """It says that everybody leaves before it ends, so the manager gives up what they run."""
        self.runs_once_although("server", signal.SIGTERM, workers=5, slots=3)


class Graphs(unittest.TestCase):
    def setUp(self):
        self.grid = Grid("--workers", 1, "--slots", 2)
        self.addCleanup(self.grid.close)
        self.folder = tempfile.TemporaryDirectory(prefix="souk graph ")
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def make(self, name, text=""):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def test_a_job_file_runs_in_order_stops_at_a_failure_and_goes_on_where_it_failed(self):
        log = self.path("log")
        file = self.make("job.toml", f"""
name = "study"
[task.prepare]
run = "echo prepare >> '{log}'"
[task.train]
needs = ["prepare"]
items = ["a", "b"]
run = "test {{}} = a || test -e '{self.path('sign')}' && echo train {{}} >> '{log}'"
[task.report]
needs = ["train"]
run = "echo report >> '{log}'"
""")
        job = int(self.grid.souk("submit", "--file", file).out)
        self.assertEqual(self.grid.souk("wait", job).code, 1)
        facts = self.grid.job(job)
        self.assertEqual((facts["tasks"], facts["succeeded"], facts["failed"], facts["canceled"]), (4, 2, 1, 1), facts)
        why = self.grid.souk("why", job).text
        self.assertIn(f"task {job}.3 (train) on worker-1: exit code 1", why)
        self.make("sign")
        self.assertEqual(self.grid.souk("rerun", job).code, 0)
        self.assertEqual(self.grid.souk("wait", job).code, 0)
        with open(log) as lines:
            self.assertEqual(lines.read(), "prepare\ntrain a\ntrain b\nreport\n")  # what had succeeded did not run again
        tasks = self.grid.souk("tasks", job, "--json").json
        self.assertEqual([task["state"] for task in tasks], ["succeeded"] * 4)

    def test_what_waits_still_waits_for_the_same_after_the_manager_was_killed(self):
        first = self.grid.submit("--hold", "--shell", f"echo first >> '{self.path('log')}'")
        second = self.grid.submit("--after", first, "--shell", f"echo second >> '{self.path('log')}'")
        failed = self.grid.submit("false")
        self.assertEqual(self.grid.souk("wait", failed).code, 1)
        third = self.grid.submit("--hold", "--after", f"{failed}:any", "--shell", f"echo third >> '{self.path('log')}'")
        self.grid.kill("manager")
        until(lambda: self.grid.souk("run", "true").code == 0, "the manager is back")
        self.assertFalse(os.path.exists(self.path("log")), "nothing that was held ran")
        self.assertIn("held", self.grid.souk("why", first).text)
        self.assertIn(f"job {first}", self.grid.souk("why", second).text)
        for job in (first, third):
            self.assertEqual(self.grid.souk("release", job).code, 0)
        for job in (second, third):
            self.assertEqual(self.grid.souk("wait", job).code, 0, self.grid.souk("why", job).text)
        with open(self.path("log")) as lines:
            written = lines.read().split()
        self.assertLess(written.index("first"), written.index("second"))
        self.assertIn("third", written)

    def test_the_history_of_a_task_names_the_worker_that_was_lost(self):
        job = self.grid.submit("--shell", f"echo x >> '{self.path('log')}'; test $(wc -l < '{self.path('log')}') = 2 || sleep 60")
        until(lambda: os.path.exists(self.path("log")), "it runs")
        self.grid.kill("worker-1")
        self.assertEqual(self.grid.souk("wait", job).code, 0)
        self.assertIn("lost", self.grid.souk("why", f"{job}.1").text)


class Users(unittest.TestCase):
    def test_two_users_cannot_see_each_others_jobs(self):
        grid = Grid()
        self.addCleanup(grid.close)
        self.assertEqual(grid.souk("user", "add", "alice").code, 0)
        self.assertEqual(grid.souk("user", "add", "bob").code, 0)
        profile = {name: os.path.join(grid.folder, "users", name + ".toml") for name in ("alice", "bob")}
        done = grid.souk("--profile", profile["alice"], "run", "echo", "secret")
        self.assertEqual((done.code, done.text), (0, "secret\n"), done)
        slow = grid.souk("--profile", profile["alice"], "submit", "sleep", "100")
        self.assertEqual(slow.code, 0, slow)
        self.assertEqual(len(grid.souk("--profile", profile["alice"], "jobs", "--json").json), 2)
        self.assertEqual(grid.souk("--profile", profile["bob"], "jobs", "--json").json, [])
        for words in (["job", 1], ["cat", 1], ["tasks", 1], ["cancel", 2], ["wait", 1]):
            done = grid.souk("--profile", profile["bob"], *words)
            self.assertNotEqual(done.code, 0, (words, done))
            self.assertNotIn("secret", done.text)
            self.assertIn("no job", done.err)
        self.assertEqual(grid.souk("--profile", profile["alice"], "job", 2, "--json").json[0]["state"], "running")
        self.assertEqual(grid.souk("--profile", profile["alice"], "cancel", 2).code, 0)

    def test_an_admin_sees_and_cancels_everybodys_jobs(self):
        grid = Grid("--admin", "alice@souk.localhost")
        self.addCleanup(grid.close)
        for name in ("alice", "bob"):
            self.assertEqual(grid.souk("user", "add", name).code, 0)
        profile = {name: os.path.join(grid.folder, "users", name + ".toml") for name in ("alice", "bob")}
        self.assertEqual(grid.souk("--profile", profile["bob"], "submit", "sleep", "100").code, 0)
        jobs = grid.souk("--profile", profile["alice"], "jobs", "--all", "--json").json
        self.assertEqual([job["owner"] for job in jobs], ["bob@souk.localhost"])
        self.assertEqual(grid.souk("--profile", profile["alice"], "jobs", "--json").json, [])  # her own
        self.assertEqual(grid.souk("--profile", profile["alice"], "cancel", 1).code, 0)
        until(lambda: grid.souk("--profile", profile["bob"], "job", 1, "--json").json[0]["state"] == "canceled", "canceled by the admin")

    def test_a_grid_elsewhere_is_used_by_its_profile_alone(self):
        grid = Grid("--slots", 3)
        self.addCleanup(grid.close)
        self.assertEqual(grid.souk("user", "add", "alice").code, 0)
        profile = os.path.join(grid.folder, "users", "alice.toml")
        with tempfile.TemporaryDirectory() as elsewhere:
            done = grid.souk("--dir", os.path.join(elsewhere, "no grid"), "--profile", profile, "status")
            self.assertEqual(done.code, 0, done)
            self.assertIn("3 slots", done.text)
            self.assertEqual(grid.souk("--dir", elsewhere, "--profile", profile, "run", "echo", "from afar").text, "from afar\n")

    def test_limits_are_told_and_kept(self):
        grid = Grid("--slots", 4, "--limit", "*:running=2,queued=6")
        self.addCleanup(grid.close)
        job = grid.submit("--array", "1-6", "sleep", "60")
        until(lambda: grid.job(job)["running"] == 2, "as many run as may")
        refused = grid.souk("submit", "--submit-wait", "0s", "--array", "1-3", "true")
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("you have 4 tasks queued, at most 6 (--limit)", refused.err)
        self.assertIn("as many tasks at a time as allowed: 2", grid.souk("why", job).text)
        self.assertEqual(grid.job(job)["running"], 2)  # two slots stay free
        self.assertEqual(grid.souk("cancel", job).code, 0)

    def test_an_attempt_knows_which_run_it_is(self):
        grid = Grid()
        self.addCleanup(grid.close)
        done = grid.souk("run", "--retries", 3, "--shell", 'echo run $SOUK_ATTEMPT; test "$SOUK_ATTEMPT" = 3')
        self.assertEqual((done.code, done.text), (0, "run 3\n"), done)

    def test_only_those_allowed_submit(self):
        grid = Grid("--allow", "alice@souk.localhost")
        self.addCleanup(grid.close)
        for name in ("alice", "bob"):
            self.assertEqual(grid.souk("user", "add", name).code, 0)
        profile = {name: os.path.join(grid.folder, "users", name + ".toml") for name in ("alice", "bob")}
        self.assertEqual(grid.souk("--profile", profile["alice"], "run", "echo", "yes").text, "yes\n")
        refused = grid.souk("--profile", profile["bob"], "run", "echo", "no")
        self.assertEqual((refused.code, refused.text), (2, ""), refused)
        self.assertIn("--allow bob@souk.localhost", refused.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
