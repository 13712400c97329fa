#!/usr/bin/env python3
"""Managers that are out of date: replaced by a newer one, or with a store that was put back from a copy. Workers know, and nothing runs twice unseen."""
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from site_of import Marks, Site, until  # noqa: E402
from grid import Grid  # noqa: E402


def copy_store(source, target):
    """As a backup would: the database with all that is committed."""
    os.makedirs(target)
    old, new = sqlite3.connect(os.path.join(source, "grid.sqlite")), sqlite3.connect(os.path.join(target, "grid.sqlite"))
    old.backup(new)
    old.close(), new.close()


class Stale(unittest.TestCase):
    def setUp(self):
        self.site = Site(["w1", "w2"])
        self.addCleanup(self.site.close)
        self.marks = Marks(self.site)

    def make(self, jid=Site.COMPONENT, slots=2):
        self.site.manager(jid=jid)
        self.site.worker("w1", jid=jid, slots=slots)
        self.site.workers(1, jid=jid)

    def put_back(self, copy):
        shutil.rmtree(self.site.path("store"))
        shutil.copytree(copy, self.site.path("store"))

    def test_a_store_from_a_copy_takes_nothing_until_told_to_go_on_and_runs_nothing_twice_unseen(self):
        self.make()
        done = self.site.submit("--array", "1-3", "--shell", self.marks.command("true"))
        self.assertEqual(self.site.souk("wait", done).code, 0)
        job = self.site.submit("--hold", "--array", "1-4", "--shell", self.marks.command("true"))
        copy_store(self.site.path("store"), self.site.path("copy"))
        self.site.souk("release", job)
        self.assertEqual(self.site.souk("wait", job).code, 0)  # what the copy does not know
        later = self.site.submit("--array", "1-2", "--shell", self.marks.command("true"))
        self.assertEqual(self.site.souk("wait", later).code, 0)
        long = self.site.submit("--shell", self.marks.lasting(4).replace("{}", "1"))
        until(lambda: self.site.job(long)["running"] == 1, "one runs while the manager dies")
        for _ in range(2):  # a life that is lost, and one more: the worker has obeyed a later epoch than the copy will begin
            self.site.end("manager")
            self.site.manager()
            self.site.workers(1)
        self.site.end("manager")
        self.put_back(self.site.path("copy"))

        self.site.manager()
        until(lambda: "fenced" in self.site.log("manager"), "it hears from the worker that it is out of date", 20)
        refused = self.site.souk("submit", "true")
        self.assertNotEqual(refused.code, 0)
        self.assertIn("takes nothing", refused.err)
        self.assertEqual(self.marks.starts(job).keys(), {1, 2, 3, 4})
        self.site.end("manager")

        self.site.manager(options=["--restored"])
        self.site.workers(1)
        facts = self.site.job(job)
        self.assertTrue(facts["held"], facts)
        self.assertEqual(facts["waiting"], 4)
        self.assertIn("put back from a copy", facts["note"])
        self.assertEqual(self.site.job(done)["succeeded"], 3)  # what the copy knew to be done stays so
        until(lambda: "lost epoch" in self.site.log("manager") or "dropped result" in self.site.log("manager"), "the result of the lost world is set aside", 20)
        self.assertEqual({len(starts) for starts in self.marks.starts(job).values()}, {1}, "nothing of it ran again by itself")
        fresh = self.site.submit("--array", "1-2", "--shell", self.marks.command("true"))
        self.assertGreater(fresh, 1000)
        self.assertEqual(self.site.souk("wait", fresh).code, 0)

        self.site.end("manager")  # which forgets nothing of that
        self.site.manager()
        self.site.workers(1)
        self.assertEqual(self.site.job(job)["waiting"], 4)
        self.assertEqual(self.site.souk("release", job).code, 0)
        self.assertEqual(self.site.souk("wait", job).code, 0, self.site.all_logs())
        self.assertEqual({len(starts) for starts in self.marks.starts(job).values()}, {2}, "released, they ran again")
        self.assertGreater(self.site.submit("true"), fresh)

    def test_a_copy_that_is_put_back_again_and_again_shares_no_number_with_what_came_of_it_before(self):
        self.make()
        self.assertEqual(self.site.souk("run", "true").code, 0)
        copy_store(self.site.path("store"), self.site.path("copy"))
        numbers = []
        for _ in range(3):
            self.site.end("manager")
            self.put_back(self.site.path("copy"))
            self.site.manager(options=["--restored"])
            self.site.workers(1)
            numbers.append(self.site.submit("true"))
            self.assertEqual(self.site.souk("wait", numbers[-1]).code, 0, self.site.all_logs())
        self.assertEqual(len(set(numbers)), 3, f"the worker had seen each number before: {numbers}")
        epochs = re.findall(r"store read epoch=(\d+)", self.site.log("manager"))
        self.assertEqual(len(set(epochs)), len(epochs), epochs)

    def test_a_copy_of_the_same_life_is_known_by_the_jobs_that_it_lacks(self):
        self.make()
        self.assertEqual(self.site.souk("run", "true").code, 0)
        copy_store(self.site.path("store"), self.site.path("copy"))  # a backup beside the running manager: no epoch tells it from the store of today
        self.assertEqual(self.site.souk("run", "echo", "later").text, "later\n")
        self.site.end("manager")
        self.put_back(self.site.path("copy"))
        self.site.manager()
        until(lambda: "fenced" in self.site.log("manager"), "it hears of a job that it does not have", 20)
        self.assertIn("was given job 2, and this store has none above 1", self.site.log("manager"))
        refused = self.site.souk("submit", "true")
        self.assertNotEqual(refused.code, 0)
        self.assertIn("takes nothing", refused.err)

    def test_a_job_that_comes_before_the_workers_were_asked_is_not_taken_by_a_store_that_is_out_of_date(self):
        self.make()
        self.assertEqual(self.site.souk("run", "true").code, 0)
        copy_store(self.site.path("store"), self.site.path("copy"))
        self.assertEqual(self.site.souk("run", "true").code, 0)
        self.site.end("manager")
        self.put_back(self.site.path("copy"))
        opened = self.site.log("manager").count("market open")
        self.site.freeze("w1")  # which would say at once that the store is out of date
        self.site.manager()
        until(lambda: self.site.log("manager").count("market open") > opened, "the market is open")
        early = self.site.start("submit", "true")
        with self.assertRaises(subprocess.TimeoutExpired):
            early.wait(0.5)  # an answer takes some milliseconds
        self.site.thaw("w1")
        _, err = early.communicate(timeout=60)
        self.assertNotEqual(early.returncode, 0, self.site.all_logs())
        self.assertIn(b"takes nothing", err)
        self.assertNotIn("job submitted", self.site.log("manager").split("store read")[-1])

    def test_who_waits_for_a_job_hears_that_its_number_is_another_job_s_now(self):
        self.site.manager()
        mine = self.site.submit("--hold", "true")
        waiting = self.site.start("wait", mine, "--progress")
        until(lambda: self.seen_by(waiting), "it follows the job")
        waiting.send_signal(signal.SIGSTOP)
        self.site.end("manager")
        shutil.rmtree(self.site.path("store"))
        self.site.manager()
        self.assertEqual(self.site.submit("--hold", "true"), mine)
        waiting.send_signal(signal.SIGCONT)
        _, err = waiting.communicate(timeout=60)
        self.assertNotEqual(waiting.returncode, 0)
        self.assertIn(b"knows another job by that number", err)

    def seen_by(self, process):
        """Whether it has shown the state of its job."""
        os.set_blocking(process.stderr.fileno(), False)
        return bool(process.stderr.read())

    def test_a_copy_leaps_over_whatever_epoch_a_worker_names(self):
        self.make()
        copy_store(self.site.path("store"), self.site.path("copy"))
        self.site.end("manager")
        store = sqlite3.connect(os.path.join(self.site.path("store"), "grid.sqlite"))
        store.execute("UPDATE meta SET value=500000000 WHERE name='epoch'")  # as if it had been started so often
        store.commit(), store.close()
        self.site.manager()
        self.site.workers(1)
        self.site.end("manager")
        self.put_back(self.site.path("copy"))
        self.site.manager(options=["--restored"])
        self.site.workers(1)
        self.assertIn("leaping over lost epochs", self.site.log("manager"))
        self.assertIn("store read epoch=500000002 ", self.site.log("manager"))
        self.assertEqual(self.site.souk("run", "echo", "on").text, "on\n")

    def test_an_old_manager_that_wakes_up_is_obeyed_in_nothing_and_ends(self):
        jid = Site.ACCOUNT
        self.make(jid)
        job = self.site.submit("--array", "1-6", "--shell", self.marks.lasting(0.7), jid=jid)
        until(lambda: self.site.job(job, jid)["succeeded"] >= 1, "it began")
        self.site.freeze("manager")
        copy_store(self.site.path("store"), self.site.path("copy"))  # as if its disk had been taken to another machine
        old = self.site.processes["manager"]
        self.site.manager("newer", store=self.site.path("copy"), jid=jid)
        until(lambda: "market open" in self.site.log("newer"), "the newer one took over")
        done = self.site.souk("wait", job, jid=jid)
        self.assertEqual(done.code, 0, (done, self.site.all_logs()))
        starts = {item: len(at) for item, at in self.marks.starts(job).items()}
        self.site.thaw("manager")
        self.assertEqual(old.wait(timeout=30), 4, self.site.log("manager"))
        self.assertIn("another manager took over", self.site.log("manager"))
        self.assertEqual(self.site.souk("run", "echo", "newer", jid=jid).text, "newer\n")
        self.assertEqual({item: len(at) for item, at in self.marks.starts(job).items()}, starts, "the old one started nothing")
        self.assertEqual(self.site.job(job, jid)["succeeded"], 6)


class Folder(unittest.TestCase):
    """The same with `souk up`."""

    def test_up_says_that_its_store_is_a_copy_and_goes_on_with_it_when_told(self):
        grid = Grid("--workers", 1, "--slots", 1)
        self.addCleanup(grid.close)
        store, copy = os.path.join(grid.folder, "manager"), os.path.join(grid.folder, "copy")
        held = grid.submit("--hold", "echo", "held")
        self.assertEqual(grid.souk("down").code, 0)
        shutil.copytree(store, copy)
        for _ in range(2):  # lives that the copy lacks
            self.assertEqual(grid.souk("up", "--workers", 1, "--slots", 1).code, 0)
            self.assertEqual(grid.souk("run", "true").code, 0)
            self.assertEqual(grid.souk("down").code, 0)
        shutil.rmtree(store)
        shutil.copytree(copy, store)
        refused = grid.souk("up", "--workers", 1, "--slots", 1)
        self.assertEqual(refused.code, 1, (refused, grid.logs()))
        self.assertIn("older than what its workers have seen", refused.err)
        self.assertIn("up --restored", refused.err)
        done = grid.souk("up", "--workers", 1, "--slots", 1, "--restored")
        self.assertEqual(done.code, 0, (done, grid.logs()))
        self.assertIn("put back from a copy", grid.souk("status").text)
        self.assertIn("put back from a copy", grid.job(held)["note"])
        self.assertEqual(grid.souk("up", "--restored").code, 2, "it runs already")
        self.assertGreater(grid.submit("true"), 1000)
        self.assertEqual(grid.souk("release", held).code, 0)
        grid.kill("manager")  # started again it holds nothing anew
        self.assertEqual(grid.souk("wait", held).code, 0, grid.logs())
        self.assertEqual(grid.souk("cat", held).text, "held\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
