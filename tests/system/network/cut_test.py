#!/usr/bin/env python3
"""Cables that are cut without a word, and programs that freeze: leases end, work moves, what comes late is taken once or not at all.

Every start of a task leaves a mark on disk, whatever the grid says of it. Workers, and a manager, are in network namespaces of their own, with TLS."""
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from site_of import Marks, Site, can_cut, until  # noqa: E402

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

    def commits(self, job, task):
        """Results that reached the manager and counted: the store has one row a task; what was dropped is in the log."""
        return self.site.log("manager").count(f"dropped result task={job}.{task} ")


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
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(LEASE + 4))
        until(lambda: self.site.job(job)["running"] == 2, "both work")
        mine = next(item for item, workers in self.marks.starts(job).items() if workers == ["w1"])
        began = time.monotonic()
        self.site.cut("w1", up=up, down=down)
        until(lambda: f"requeued task={job}.{mine} " in self.site.log("manager"), "its lease ended", LEASE * 4 + 10)
        requeued = time.monotonic() - began
        self.assertGreater(requeued, LEASE * 0.6)
        self.assertLess(requeued, LEASE * 2 + 3)
        until(lambda: "cause=exited exit_code=0" in self.site.log("w1"), "w1 ended its task all the same", 30)
        self.site.heal("w1")
        self.finished(job, 2)
        self.site.workers(2)
        until(lambda: self.commits(job, mine) or "owed" not in self.site.log("w1")[-1:], "the late result was answered", 40)
        starts = self.marks.starts(job)
        self.assertEqual(sorted(len(at) for at in starts.values()), [1, 2] if len(starts[mine]) == 2 else [1, 1], starts)
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
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(3))
        until(lambda: self.site.job(job)["running"] == 2, "both work")
        self.site.cut("w1")
        time.sleep(LEASE / 3)
        self.site.heal("w1")
        self.finished(job, 2)
        self.assertEqual({len(at) for at in self.marks.starts(job).values()}, {1}, self.site.all_logs())

    def test_a_worker_that_comes_back_first_is_believed_and_the_newer_attempt_is_stopped(self):
        self.make()
        # Longer than TCP may pause before it tries again after such a cut (0.2 s, doubled each time: 12.6 s): it still runs when its worker is heard of.
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(LEASE + 20))
        until(lambda: self.site.job(job)["running"] == 2, "both work")
        mine = next(item for item, workers in self.marks.starts(job).items() if workers == ["w1"])
        self.site.end("w2", signal.SIGTERM)  # its task, and that of w1, wait for somebody
        self.site.cut("w1")
        until(lambda: f"requeued task={job}.{mine} " in self.site.log("manager"), "its lease ended", LEASE * 4 + 10)
        self.site.heal("w1")
        self.finished(job, 2)
        self.assertEqual(len(self.marks.starts(job)[mine]), 1, "what it ran was still wanted, and was not run again")

    def test_a_manager_that_is_cut_off_blames_nobody(self):
        jid = Site.ACCOUNT
        self.make(jid, cable="m")
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(LEASE * 2), jid=jid)
        until(lambda: self.site.job(job, jid)["running"] == 2, "both work")
        self.site.cut("m")
        time.sleep(LEASE * 2 + 1)  # longer than any lease, and all tasks have ended
        self.site.heal("m")
        self.finished(job, 2, jid)
        self.assertEqual({len(at) for at in self.marks.starts(job).values()}, {1}, self.site.all_logs())
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
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(LEASE + 2))
        until(lambda: self.site.job(job)["running"] == 2, "both work")
        mine = next(item for item, workers in self.marks.starts(job).items() if workers == ["w1"])
        self.site.freeze("w1")
        until(lambda: f"requeued task={job}.{mine} " in self.site.log("manager"), "its lease ended", LEASE * 4)
        until(lambda: self.marks.starts(job)[mine] == ["w1", "w2"], "the other one runs it", 30)
        self.site.thaw("w1")
        self.finished(job, 2)
        self.assertEqual(len(self.marks.starts(job)[mine]), 2)
        self.assertEqual(self.site.souk("run", "--array", "1-4", "echo", "{}").text, "1\n2\n3\n4\n")

    def test_a_worker_that_comes_late_after_server_and_manager_were_started_anew_finds_its_work_kept(self):
        job = self.site.submit("--shell", self.marks.command(9).replace("{}", "1"))
        until(lambda: self.site.job(job)["running"] == 1 and self.marks.starts(job), "it runs")
        worker = self.marks.starts(job)[1][0]
        self.site.freeze(worker)
        self.site.end("manager")
        self.site.end("server")
        self.site.start_server()
        joined = self.site.log("manager").count("worker joined")
        self.site.manager(lease=LEASE)
        until(lambda: self.site.log("manager").count("worker joined") > joined, "the other one is there, and idle")
        time.sleep(5)  # longer than those that are there have for their answers
        self.site.thaw(worker)
        self.finished(job, 1)
        self.assertEqual(self.marks.starts(job), {1: [worker]}, "nobody else began it")

    def test_a_manager_that_stands_still_wakes_up_and_ends_no_lease(self):
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(LEASE * 3))
        until(lambda: self.site.job(job)["running"] == 2, "both work")
        self.site.freeze("manager")
        time.sleep(LEASE * 2)
        self.site.thaw("manager")
        self.finished(job, 2)
        self.assertEqual({len(at) for at in self.marks.starts(job).values()}, {1}, self.site.all_logs())
        self.assertNotIn("requeued task=", self.site.log("manager"))

    def test_a_server_that_stands_still_costs_no_second_run(self):
        job = self.site.submit("--array", "1-2", "--shell", self.marks.command(LEASE * 2))
        until(lambda: self.site.job(job)["running"] == 2, "both work")
        self.site.freeze("server")
        time.sleep(LEASE * 0.6)
        self.site.thaw("server")
        self.finished(job, 2)
        self.assertEqual({len(at) for at in self.marks.starts(job).values()}, {1}, self.site.all_logs())


class Waiting(Stories):
    """`souk wait` and `run` that are in progress when manager or server die."""

    def setUp(self):
        self.site = Site(["w1"])
        self.addCleanup(self.site.close)
        self.marks = Marks(self.site)
        self.site.manager()
        self.site.worker("w1", slots=4)
        self.site.workers(1)

    def on_a_terminal(self, *words):
        """Started with a terminal as its output, as by a person; what it wrote, and how it ended."""
        import pty
        profile = self.site.profile("ada", "ada@souk.test", Site.COMPONENT)
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(os.environ["SOUK"], [os.environ["SOUK"], "--profile", profile, *map(str, words)])
        return pid, terminal

    def see_through(self, pid, terminal):
        text = b""
        while True:
            try:
                block = os.read(terminal, 65536)
            except OSError:
                break
            if not block:
                break
            text += block
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode(errors="replace")

    def survives(self, broken):
        job = self.site.submit("--array", "1-4", "--shell", self.marks.command(4))
        waiting = self.site.start("wait", job)
        running = self.site.start("run", "--array", "1-2", "--shell", "sleep 1; echo {}")
        until(lambda: len(self.marks.starts(job)) == 4, "all run")
        seen = self.on_a_terminal("wait", "--progress", job)
        time.sleep(0.5)  # for both to have asked for news
        broken()
        done = self.site.finish(waiting)
        self.assertEqual(done.code, 0, (done, self.site.all_logs()))
        done = self.site.finish(running)
        self.assertEqual((done.code, done.text), (0, "1\n2\n"), done)
        code, text = self.see_through(*seen)
        self.assertEqual(code, 0, text)
        self.finished(job, 4)
        self.assertEqual({len(at) for at in self.marks.starts(job).values()}, {1}, "and nothing ran twice")

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
    if len(sys.argv) > 1 and sys.argv[1].startswith("Cuts") and (why := can_cut()):
        print("skipped: " + why)
        sys.exit(77)
    unittest.main(verbosity=2)
