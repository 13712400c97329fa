#!/usr/bin/env python3
"""More than the grid can take at once: who asks is slowed down with a clear word, nobody is disconnected, memory stays bounded.

SOUK names the program.
"""
import asyncio
import base64
import glob
import hashlib
import os
import signal
import sys
import threading
import time
import unittest

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stories"))
from grid import Grid, until  # noqa: E402


def peak_mib(pid):
    """The most memory a process ever had."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024


def lines(count):
    return "".join(f"item{number:06}\n" for number in range(count)).encode()


def log_of(grid, program):
    with open(os.path.join(grid.folder, "log", program + ".log"), errors="replace") as file:
        return file.read()


class Pressed(unittest.TestCase):
    def nobody_was_disconnected(self, grid):
        self.assertNotIn("disconnected why", log_of(grid, "manager"))
        for path in glob.glob(os.path.join(glob.escape(grid.folder), "log", "worker-*.log")):
            with open(path, errors="replace") as file:
                self.assertNotIn("lost the connection", file.read(), path)


class Submitters(Pressed):
    """A manager with 16 MiB for all that others send: 8 MiB of jobs, of which one owner may fill 5.6."""

    def setUp(self):
        self.grid = Grid("--slots", 2, "--memory-max", "16MiB")
        self.addCleanup(self.grid.close)
        for name in ("ada", "bob"):
            self.assertEqual(self.grid.souk("user", "add", name).code, 0)

    def profile(self, name):
        return ("--profile", os.path.join(self.grid.folder, "users", name + ".toml"))

    def fill(self):
        """Ada's jobs, until no more of them fits; each takes about 1.1 MiB."""
        jobs = []
        while True:
            done = self.grid.souk(*self.profile("ada"), "submit", "--hold", "--submit-wait", "0s", "--each-line", "-", "true", input=lines(15000))
            if done.code != 0:
                self.assertIn("the manager's memory is full of jobs that have not ended", done.err)
                return jobs
            jobs.append(int(done.out))
            self.assertLess(len(jobs), 20)

    def waiting(self, *words):
        """A submission of ada's that was told to wait."""
        process = self.grid.start(*self.profile("ada"), *words, stdin=-1)
        process.stdin.write(lines(15000))
        process.stdin.close()
        process.stdin = None
        said = process.stderr.readline().decode()
        self.assertIn("cannot submit yet: the manager's memory is full", said)
        self.assertIn("trying again for", said)
        return process

    def test_who_finds_the_grid_full_waits_and_gets_in_once(self):
        jobs = self.fill()
        self.assertEqual(len(jobs), 5)
        submit = self.waiting("submit", "--hold", "--each-line", "-", "true")
        run = self.waiting("run", "--unordered", "--each-line", "-", "--name", "late", "true")
        # Another owner finds room all the same, and a small job is not behind the large ones.
        self.assertEqual(self.grid.souk(*self.profile("bob"), "run", "echo", "there is room").text, "there is room\n")
        self.assertEqual(self.grid.souk(*self.profile("ada"), "cancel", *jobs).code, 0)
        done = self.grid.finish(submit)
        self.assertEqual(done.code, 0, done)
        until(lambda: any(job["name"] == "late" for job in self.grid.souk(*self.profile("ada"), "jobs", "--json").json), "the other was taken too")
        run.send_signal(signal.SIGINT)
        self.grid.finish(run)
        listed = self.grid.souk(*self.profile("ada"), "jobs", "--json").json
        self.assertEqual(len(listed), 7, listed)  # none came twice

    def test_patience_has_an_end_and_what_never_fits_is_refused_at_once(self):
        self.fill()
        done = self.grid.souk(*self.profile("ada"), "submit", "--submit-wait", "1s", "--each-line", "-", "true", input=lines(15000))
        self.assertEqual(done.code, 3, done)
        self.assertIn("it was asked for 1s", done.err)
        begun = time.monotonic()
        done = self.grid.souk(*self.profile("bob"), "submit", "--each-line", "-", "true", input=lines(100000))
        self.assertEqual(done.code, 2, done)
        self.assertIn("one owner may have at most 5.6 MiB (--memory-max)", done.err)
        self.assertLess(time.monotonic() - begun, 5)

    def test_a_request_that_never_finds_room_is_refused_at_once_also_on_an_idle_grid(self):
        done = self.grid.souk("submit", "--stdin", "-", "--", "wc", "-c", input=os.urandom(6 << 20))
        self.assertEqual(done.code, 2, done)
        self.assertIn("larger than the", done.err)
        self.assertNotIn("trying again", done.err)

    def test_ctrl_c_ends_the_waiting_and_leaves_no_job(self):
        jobs = self.fill()
        submit = self.waiting("submit", "--each-line", "-", "true")
        begun = time.monotonic()
        submit.send_signal(signal.SIGINT)
        done = self.grid.finish(submit)
        self.assertEqual(done.code, 130, done)
        self.assertIn("the job was not submitted", done.err)
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual(len(self.grid.souk(*self.profile("ada"), "jobs", "--json").json), len(jobs))

    def test_a_manager_away_for_a_moment_costs_only_time(self):
        self.grid.kill("manager", signal.SIGSTOP)
        submit = self.grid.start("submit", "--name", "patient", "true")
        time.sleep(0.5)  # it is asking by now; the sooner, the less is tested
        self.grid.kill("manager")
        done = self.grid.finish(submit)
        self.assertEqual(done.code, 0, done)
        named = [job for job in self.grid.souk("jobs", "--json").json if job["name"] == "patient"]
        self.assertEqual(len(named), 1, named)


class Flood(slixmpp.ClientXMPP):
    """Somebody's program that sends many jobs without waiting for an answer to any."""

    def __init__(self, jid, password, count):
        super().__init__(jid, password)
        self.count, self.answers = count, {}
        self.all_answered = asyncio.get_event_loop().create_future()
        self.add_event_handler("session_start", self.send_all)
        self.register_handler(Callback("answers", MatchXPath("{jabber:client}iq"), self.heard))

    async def send_all(self, _):
        # SubmitRequest { job { command { argv: "true" } } key: "..." }, written by hand
        for number in range(self.count):
            key = f"flood-{number}".encode()
            command = b"\x0a\x04true"
            job = bytes([0x12, len(command)]) + command
            request = bytes([0x0A, len(job)]) + job + bytes([0x22, len(key)]) + key
            self.send_raw(f"<iq type='set' id='flood-{number}' to='grid.souk.localhost'><command xmlns='http://jabber.org/protocol/commands' node='submit' action='execute'>"
                          f"<submit xmlns='urn:souk:job:1'>{base64.b64encode(request).decode()}</submit></command></iq>")

    def heard(self, iq):
        if iq["id"].startswith("flood-"):
            error = iq.xml.find("{jabber:client}error")
            self.answers[iq["id"]] = "taken" if error is None else next(child.tag.split("}")[1] for child in error)
            if len(self.answers) == self.count and not self.all_answered.done():
                self.all_answered.set_result(True)


class Floods(Pressed):
    def test_many_at_once_lose_and_double_nothing(self):
        grid = Grid("--slots", 2)
        self.addCleanup(grid.close)
        profiles = []
        for name in ("ada", "bob", "eve"):
            self.assertEqual(grid.souk("user", "add", name).code, 0)
            profiles.append(("--profile", os.path.join(grid.folder, "users", name + ".toml")))
        numbers, refused, lock = [], [], threading.Lock()

        def submit(who):
            for _ in range(4):
                done = grid.souk(*profiles[who % 3], "submit", "--array", "1-2", "true")
                with lock:
                    (numbers if done.code == 0 else refused).append(int(done.out) if done.code == 0 else done)
        threads = [threading.Thread(target=submit, args=(who,)) for who in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(refused, [])
        self.assertEqual(len(set(numbers)), 96)
        listed = [job for profile in profiles for job in grid.souk(*profile, "jobs", "--json").json]
        self.assertEqual(sorted(job["job"] for job in listed), sorted(numbers))
        self.nobody_was_disconnected(grid)

    def test_who_sends_one_is_not_behind_who_sends_thousands(self):
        grid = Grid("--slots", 1)
        self.addCleanup(grid.close)
        for name in ("ada", "bob"):
            self.assertEqual(grid.souk("user", "add", name).code, 0)
        with open(os.path.join(grid.folder, "users", "ada.password")) as file:
            password = file.read().strip()
        asyncio.set_event_loop(asyncio.new_event_loop())
        flood = Flood("ada@souk.localhost", password, 3000)
        took = []

        def other():
            begun = time.monotonic()
            done = grid.souk("--profile", os.path.join(grid.folder, "users", "bob.toml"), "submit", "true")
            took.append((time.monotonic() - begun, done))
        thread = threading.Thread(target=other)
        flood.add_event_handler("session_start", lambda _: thread.start())
        flood.connect(("127.0.0.1", grid.port()), force_starttls=False, disable_starttls=True)
        flood.loop.run_until_complete(asyncio.wait_for(flood.all_answered, 60))
        thread.join()
        self.assertEqual(took[0][1].code, 0, took)
        self.assertLess(took[0][0], 5)
        said = set(flood.answers.values())
        self.assertLessEqual(said, {"taken", "resource-constraint"})
        taken = list(flood.answers.values()).count("taken")
        self.assertGreater(taken, 0)
        self.assertEqual(log_of(grid, "manager").count("job submitted"), taken + 1)
        flood.disconnect()
        self.nobody_was_disconnected(grid)


class Large(Pressed):
    def test_a_large_command_for_many_workers(self):
        """8 MiB of standard input for each of 8 workers are 90 MiB on the wire: more than may wait for the server at any time."""
        grid = Grid("--workers", 8, "--slots", 1)
        self.addCleanup(grid.close)
        before = peak_mib(grid.pid("manager"))
        done = grid.souk("run", "--array", "1-16", "--stdin", "-", "--shell", "wc -c; sleep 0.2", input=os.urandom(8 << 20))
        self.assertEqual(done.text.split(), [str(8 << 20)] * 16, done)
        self.assertLess(peak_mib(grid.pid("manager")) - before, 160)
        self.nobody_was_disconnected(grid)

    def test_large_outputs_of_many_workers_share_little_room(self):
        """4 MiB for outputs on their way, of which each result of up to 1 MiB gets 2: they come one after the other, all whole."""
        grid = Grid("--workers", 4, "--slots", 2, "--memory-max", "16MiB")
        self.addCleanup(grid.close)
        before = peak_mib(grid.pid("manager"))
        job = grid.submit("--array", "1-40", "--shell", "--", "head -c 1048576 /dev/zero | tr '\\0' {#} | head -c 1048576; sleep 0.1")
        small = grid.souk("run", "--array", "1-8", "echo", "small {}")
        self.assertEqual(small.code, 0, small)
        self.assertEqual(grid.souk("wait", job).code, 0)
        out = grid.souk("cat", job).out
        expected = b"".join(str(task)[0].encode() * (1 << 20) for task in range(1, 41))
        self.assertEqual(hashlib.sha256(out).hexdigest(), hashlib.sha256(expected).hexdigest())
        self.assertLess(peak_mib(grid.pid("manager")) - before, 48)
        self.nobody_was_disconnected(grid)

    def test_ten_million_tasks_keep_nobody_waiting(self):
        grid = Grid("--slots", 2)
        self.addCleanup(grid.close)
        before = peak_mib(grid.pid("manager"))
        begun = time.monotonic()
        job = grid.submit("--array", "1-10000000", "true")
        until(lambda: grid.job(job)["succeeded"] > 10, "it runs")
        for words in (("status",), ("why", job), ("tasks", f"{job}.9999999"), ("cancel", job)):
            self.assertEqual(grid.souk(*words).code, 0, words)
        facts = until(lambda: (facts := grid.job(job))["ended_ms"] and facts, "it ended")
        self.assertEqual(facts["state"], "canceled")
        self.assertEqual(facts["succeeded"] + facts["canceled"], 10_000_000)
        self.assertLess(time.monotonic() - begun, 20)
        self.assertLess(peak_mib(grid.pid("manager")) - before, 40)

    def test_a_reader_that_stands_still_costs_nobody_anything(self):
        grid = Grid("--slots", 2)
        self.addCleanup(grid.close)
        before = peak_mib(grid.pid("manager"))
        follower = grid.start("run", "--array", "1-60", "--shell", "head -c 500000 /dev/zero; sleep 0.02")
        until(lambda: any(job["running"] for job in grid.souk("jobs", "--json").json), "it began")
        follower.send_signal(signal.SIGSTOP)
        self.assertEqual(grid.souk("run", "--array", "1-100", "echo", "{}").text, "".join(f"{i}\n" for i in range(1, 101)))
        self.assertEqual(grid.souk("wait", 1).code, 0)
        self.assertLess(peak_mib(grid.pid("manager")) - before, 60)
        follower.send_signal(signal.SIGCONT)
        done = grid.finish(follower)
        self.assertEqual((done.code, len(done.out)), (0, 60 * 500000), done.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
