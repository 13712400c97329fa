#!/usr/bin/env python3
"""The manager's disk is full, or only reads: nothing is lost, everybody is told, and it goes on by itself. Needs the right to mount."""
import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid, until

MIB = 1 << 20


def may_mount():
    probe = f"/tmp/souk-mount-{os.getpid()}"
    os.mkdir(probe)
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", probe], capture_output=True).returncode != 0:
            return False
        subprocess.run(["umount", probe], check=True)
        return True
    finally:
        os.rmdir(probe)


@unittest.skipUnless(may_mount(), "may not mount a small disk here")
class Disk(unittest.TestCase):
    def setUp(self):
        self.grid = Grid("--workers", 1, "--slots", 2)
        self.disk = os.path.join(self.grid.folder, "manager")
        self.assertEqual(self.grid.souk("down").code, 0)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", self.disk], check=True)
        self.addCleanup(self.close)
        self.up()

    def close(self):
        self.grid.souk("down")
        subprocess.run(["umount", self.disk], check=True)
        self.grid.close()

    def up(self):
        done = self.grid.souk("up", "--workers", 1, "--slots", 2)
        self.assertEqual(done.code, 0, done)

    def fill(self):
        """Leaves nothing free."""
        with open(os.path.join(self.disk, "filler"), "wb", buffering=0) as file:
            size = MIB
            while size:
                try:
                    if file.write(b"x" * size) < size:
                        size //= 2
                except OSError:
                    size //= 2

    def free(self):
        os.unlink(os.path.join(self.disk, "filler"))

    def trouble(self):
        return self.grid.souk("status", "--json").json[0]["grid"]["trouble"]

    def test_a_full_disk_refuses_jobs_loses_no_result_and_is_over_when_there_is_space(self):
        gate = os.path.join(self.grid.folder, "gate")
        script = f"while [ ! -e '{gate}' ]; do sleep 0.05; done; head -c 30000 /dev/zero | tr '\\0' $SOUK_TASK; echo end {{}}"
        done_before = self.grid.submit("--array", "1-3", "--", "echo", "{}")
        self.assertEqual(self.grid.souk("wait", done_before).code, 0)
        running = self.grid.submit("--array", "1-8", "--", "sh", "-c", script)
        until(lambda: self.grid.job(running)["running"] == 2, "two tasks run")
        self.fill()
        refused = self.grid.souk("submit", "--submit-wait", "0", "--", "true") if self.knows("--submit-wait") else self.grid.souk("submit", "--", "true")
        self.assertNotEqual(refused.code, 0, refused)
        self.assertIn("no new jobs for now: the manager's disk", refused.err)
        self.assertIn("what it has is kept", refused.err)
        open(gate, "w").close()
        # Its results cannot be written; what is on disk can be read all the same, and nobody hears that the job ended.
        self.assertEqual(self.grid.souk("cat", done_before).text, "1\n2\n3\n")
        until(lambda: "disk is full" in self.trouble(), "the trouble is shown")
        listed = self.grid.souk("jobs")
        self.assertIn("the manager's disk is full", listed.err)
        self.assertIn("Trouble: the manager's disk is full", self.grid.souk("status").text)
        time.sleep(2)  # more tasks end meanwhile
        self.assertEqual(self.grid.job(running)["ended_ms"], None)
        canceled = self.grid.souk("cancel", running)
        self.assertNotEqual(canceled.code, 0, canceled)
        self.assertIn("nothing can be changed for now", canceled.err)

        self.free()
        until(lambda: self.trouble() == "", "the trouble is over", 10)
        waited = self.grid.souk("wait", running)
        self.assertEqual(waited.code, 0, waited)
        self.assertEqual(self.grid.souk("cat", running).text, "".join(f"{str(t) * 30000}end {t}\n" for t in range(1, 9)))
        self.assertEqual(self.grid.souk("run", "--", "echo", "again").text, "again\n")
        with open(os.path.join(self.grid.folder, "log", "manager.log")) as log:
            self.assertEqual(log.read().count("trouble why="), 1)  # said once

    def knows(self, option):
        return option in self.grid.souk("submit", "--help").text

    def test_a_manager_killed_while_its_disk_is_full_comes_back_and_lacks_nothing(self):
        before = self.grid.submit("--array", "1-4", "--", "sh", "-c", "sleep 0.5; echo {}")
        until(lambda: self.grid.job(before)["succeeded"] >= 1, "a task ended")
        self.fill()
        time.sleep(1.5)
        self.grid.kill("manager")
        time.sleep(1)
        self.free()
        waited = self.grid.souk("wait", before)
        self.assertEqual(waited.code, 0, waited)
        self.assertEqual(self.grid.souk("cat", before).text, "1\n2\n3\n4\n")

    def test_a_disk_that_only_reads_is_said_to_be_one_and_used_again_when_it_writes(self):
        before = self.grid.submit("--", "echo", "kept")
        self.assertEqual(self.grid.souk("wait", before).code, 0)
        self.assertEqual(self.grid.souk("down").code, 0)
        subprocess.run(["mount", "-o", "remount,ro", self.disk], check=True)
        refused = self.grid.souk("up", "--workers", 1, "--slots", 2)
        self.assertNotEqual(refused.code, 0, refused)
        self.assertIn("Read-only file system", refused.err + refused.text)
        looked = subprocess.run([os.path.join(os.path.dirname(os.environ["SOUK"]), "souk-manager"), "--check", "--state", self.disk], capture_output=True, text=True, timeout=60)
        self.assertEqual(looked.returncode, 0, looked)  # of a snapshot, as of any other
        self.assertIn("1 ended", looked.stdout)
        subprocess.run(["mount", "-o", "remount,rw", self.disk], check=True)
        self.grid.souk("down")
        self.up()
        self.assertEqual(self.grid.souk("cat", before).text, "kept\n")


if __name__ == "__main__":
    ended = unittest.main(verbosity=2, exit=False).result
    # A class that is skipped as a whole counts as no test that ran.
    sys.exit(1 if not ended.wasSuccessful() else 77 if ended.skipped and len(ended.skipped) >= ended.testsRun else 0)
