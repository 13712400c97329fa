#!/usr/bin/env python3
"""Cables that are cut without a word, and programs that freeze: leases end, work moves, what comes late is taken once or not at all.

Every start of a task leaves a mark on disk, whatever the grid says of it. Workers, and a manager, are in network namespaces of their own, with TLS."""
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from site_of import Marks, Site, can_cut, main, until  # noqa: E402
from terminal import Terminal  # noqa: E402

LEASE = 3


class Stories(unittest.TestCase):
    def finished(self, job, tasks, jid=Site.COMPONENT):
        """The job is done well, every output is there once, and no task ran longer than it had to be asked for."""
        done = self.site.souk("wait", job, jid=jid)
        self.assertEqual(done.code, 0, (done, self.site.all_logs()))
        facts = self.site.job(job, jid)
        self.assertEqual((facts["state"], facts["succeeded"]), ("succeeded", tasks), facts)
        self.assertEqual(self.site.souk("cat", job, jid=jid).text, "".join(f"out {i}\n" for i in range(1, tasks + 1)))
        return facts

    def two(self, command, jid=Site.COMPONENT):
        """A job of which each worker runs one task; of the task that w1 has the number."""
        job = self.site.submit("--array", "1-2", "--shell", command, jid=jid)
        until(lambda: self.marks.starts(job) in ({1: ["w1"], 2: ["w2"]}, {1: ["w2"], 2: ["w1"]}), "both work")
        return job, next(item for item, workers in self.marks.starts(job).items() if workers == ["w1"])

    def requeued(self, job, task):
        """Waits for it; after how long."""
        began = time.monotonic()
        until(lambda: f"requeued task={job}.{task} " in self.site.log("manager"), "its lease ended", LEASE * 4 + 10)
        return time.monotonic() - began

    def none_ran_twice(self, job):
        self.assertEqual({len(at) for at in self.marks.starts(job).values()}, {1}, self.site.all_logs())


class Cuts(Stories):
    def setUp(self):
        self.site = Site(["w1", "w2"], cables=["w1", "w2", "m"])
        self.addCleanup(self.site.close)
        self.marks = Marks(self.site)

    def make(self, jid=Site.COMPONENT, cable=None):
        self.site.manager(jid=jid, cable=cable, lease=LEASE)
        self.site.worker("w1", jid=jid, cable="w1")
        self.site.worker("w2", jid=jid, cable="w2")
        self.site.workers(2, jid=jid)

    def cut_in_the_middle(self, up, down):
        """w1 runs one task when it is cut off; the lease ends, the other worker gets it; what w1 brings after the cut is over changes nothing."""
        self.make()
        job, mine = self.two(self.marks.held())
        self.site.cut("w1", up=up, down=down)
        requeued = self.requeued(job, mine)
        self.assertGreater(requeued, LEASE * 0.6)
        self.assertLess(requeued, LEASE * 2 + 3)
        self.marks.may_end("w1")
        until(lambda: "cause=exited exit_code=0" in self.site.log("w1"), "w1 ended its task all the same")
        self.marks.may_end("w2")
        self.finished(job, 2)
        self.site.heal("w1")
        until(lambda: f"dropped result task={job}.{mine} " in self.site.log("manager"), "the late result came")
        self.site.workers(2)
        self.assertEqual(self.marks.starts(job), {mine: ["w1", "w2"], 3 - mine: ["w2"]})
        self.finished(job, 2)
        self.assertEqual(self.site.souk("run", "--array", "1-4", "echo", "{}").text, "1\n2\n3\n4\n")  # and all is well again
        print(f"  cut {'up ' if up else ''}{'down' if down else ''}: requeued after {requeued:.1f} s, lease {LEASE} s")

    def test_nothing_goes_up_from_a_worker(self):
        self.cut_in_the_middle(up=True, down=False)

    def test_nothing_comes_down_to_a_worker(self):
        self.cut_in_the_middle(up=False, down=True)

    def test_nothing_goes_either_way(self):
        self.cut_in_the_middle(up=True, down=True)

    def test_a_cut_shorter_than_the_lease_costs_nothing(self):
        self.make()
        job, _ = self.two(self.marks.held())
        self.site.cut("w1")
        time.sleep(LEASE / 3)
        self.site.heal("w1")
        self.marks.may_end("w1", "w2")
        self.finished(job, 2)
        self.none_ran_twice(job)

    def test_a_worker_that_comes_back_first_is_believed_and_the_newer_attempt_is_stopped(self):
        self.make()
        job, mine = self.two(self.marks.held())
        self.site.end("w2", signal.SIGTERM)  # its task, and that of w1, wait for somebody
        self.site.cut("w1")
        self.requeued(job, mine)
        self.site.heal("w1")
        until(lambda: self.site.job(job)["running"] == 1, "its worker is heard of")
        self.marks.may_end("w1")
        self.finished(job, 2)
        self.assertEqual(len(self.marks.starts(job)[mine]), 1, "what it ran was still wanted, and was not run again")

    def test_a_manager_that_is_cut_off_blames_nobody(self):
        jid = Site.ACCOUNT
        self.make(jid, cable="m")
        job, _ = self.two(self.marks.lasting(LEASE * 2), jid)
        self.site.cut("m")
        until(lambda: all("cause=exited exit_code=0" in self.site.log(name) for name in ("w1", "w2")), "all tasks have ended, and so would have their leases")
        self.site.heal("m")
        self.finished(job, 2, jid)
        self.none_ran_twice(job)
        self.assertNotIn("requeued task=", self.site.log("manager"))


class Frozen(Stories):
    def setUp(self):
        self.site = Site(["w1", "w2"])
        self.addCleanup(self.site.close)
        self.marks = Marks(self.site)
        self.site.manager(lease=LEASE)
        self.site.worker("w1"), self.site.worker("w2")
        self.site.workers(2)

    def test_a_worker_that_stands_still_loses_its_work_and_its_late_result_counts_once_or_not(self):
        job, mine = self.two(self.marks.held())
        self.site.freeze("w1")
        self.requeued(job, mine)
        self.marks.may_end("w1", "w2")
        until(lambda: self.marks.starts(job)[mine] == ["w1", "w2"], "the other one runs it")
        self.site.thaw("w1")
        self.finished(job, 2)
        self.assertEqual(len(self.marks.starts(job)[mine]), 2)
        self.assertEqual(self.site.souk("run", "--array", "1-4", "echo", "{}").text, "1\n2\n3\n4\n")

    def test_a_worker_that_comes_late_after_server_and_manager_were_started_anew_finds_its_work_kept(self):
        job = self.site.submit("--shell", self.marks.held().replace("{}", "1"))
        until(lambda: self.site.job(job)["running"] == 1 and self.marks.starts(job), "it runs")
        worker = self.marks.starts(job)[1][0]
        self.site.freeze(worker)
        self.site.end("manager")
        self.site.end("server")
        self.site.start_server()
        joined = self.site.log("manager").count("worker joined")
        self.site.manager(lease=LEASE)
        until(lambda: self.site.log("manager").count("worker joined") > joined, "the other one is there, and idle")
        self.site.submit("--hold", "true")  # taken when those that are there had their time for an answer
        self.site.thaw(worker)
        self.marks.may_end("w1", "w2")
        self.finished(job, 1)
        self.assertEqual(self.marks.starts(job), {1: [worker]}, "nobody else began it")

    def test_a_manager_that_stands_still_wakes_up_and_ends_no_lease(self):
        job, _ = self.two(self.marks.held())
        self.site.freeze("manager")
        time.sleep(LEASE * 2)
        self.site.thaw("manager")
        self.marks.may_end("w1", "w2")
        self.finished(job, 2)
        self.none_ran_twice(job)
        self.assertNotIn("requeued task=", self.site.log("manager"))

    def test_a_server_that_stands_still_costs_no_second_run(self):
        job, _ = self.two(self.marks.held())
        self.site.freeze("server")
        time.sleep(LEASE * 0.6)
        self.site.thaw("server")
        self.marks.may_end("w1", "w2")
        self.finished(job, 2)
        self.none_ran_twice(job)


class Waiting(Stories):
    """`souk wait` and `run` that are in progress when manager or server die."""

    def setUp(self):
        self.site = Site(["w1"])
        self.addCleanup(self.site.close)
        self.marks = Marks(self.site)
        self.site.manager()
        self.site.worker("w1", slots=6)
        self.site.workers(1)

    def survives(self, broken):
        job = self.site.submit("--array", "1-4", "--shell", self.marks.held())
        running = self.site.start("run", "--array", "1-2", "--shell", self.marks.held())
        waiting = self.site.start("wait", "--progress", job)
        screen = Terminal(self.site.words("wait", "--progress", job))
        until(lambda: len(self.marks.starts(job)) == 4 and len(self.marks.starts(job + 1)) == 2, "all run")
        self.assertIn(b" 0 of 4 done", waiting.stderr.readline())  # so both have asked for news
        self.assertIn(b" 0/4, ", screen.block(20))
        broken()
        self.marks.may_end("w1")
        done = self.site.finish(waiting)
        self.assertEqual(done.code, 0, (done, self.site.all_logs()))
        done = self.site.finish(running)
        self.assertEqual((done.code, done.text), (0, "out 1\nout 2\n"), done)
        code, text = screen.see_through()
        self.assertEqual(code, 0, text)
        self.finished(job, 4)
        self.none_ran_twice(job)

    def test_through_the_death_of_the_manager(self):
        def broken():
            self.site.end("manager")
            self.site.manager()
        self.survives(broken)

    def test_through_the_death_of_the_server(self):
        def broken():
            self.site.end("server")
            self.site.start_server()
        self.survives(broken)


if __name__ == "__main__":
    main(can_cut() if "Cuts" in sys.argv else "")
