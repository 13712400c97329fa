#!/usr/bin/env python3
"""A grid on which strangers' tasks run in sandboxes, from submit to the worker's answer."""
import os
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid


class Sandbox(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--slots", "2", "--sandbox", "auto")
        worker = cls.grid.souk("workers", "--json").json[0]
        if worker["sandbox"] not in ("bwrap", "cgroup"):
            cls.grid.close()
            plain = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
            if shutil.which("bwrap") and subprocess.run(plain, capture_output=True).returncode == 0:
                raise AssertionError("bwrap works, and no sandbox does: " + worker["sandbox_note"])
            raise unittest.SkipTest("no sandbox works here: " + worker["sandbox_note"])
        done = cls.grid.souk("user", "add", "eve")
        assert done.code == 0, done
        cls.eve = os.path.join(cls.grid.folder, "users", "eve.toml")

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    def by_eve(self, *words, **more):
        return self.grid.souk("--profile", self.eve, *words, **more)

    def test_a_stranger_sees_nothing_of_the_owner_who_sees_all(self):
        secret = os.path.join(self.grid.folder, "worker.toml")
        look = ("--shell", f"cat '{secret}' | wc -c; ls '{self.grid.folder}' | wc -l; pwd")
        mine = self.grid.souk("run", *look)
        self.assertEqual(mine.code, 0, mine)
        self.assertNotIn("0\n0\n", mine.text)
        hers = self.by_eve("run", *look)
        self.assertTrue(hers.text.startswith("0\n0\n/work/"), hers)
        self.assertEqual(self.by_eve("run", "--shell", "echo $HOME $TMPDIR $USER; test $HOME = $PWD").text.split()[2], "souk")
        many = self.by_eve("run", "--array", "1-200", "--", "echo", "{}")
        self.assertEqual((many.code, many.text), (0, "".join(f"{n}\n" for n in range(1, 201))), many)

    def test_the_owner_may_ask_for_one_as_well(self):
        bare, boxed = (self.grid.souk("run", *more, "--shell", "pwd").text for more in ((), ("--sandbox", "required")))
        self.assertFalse(bare.startswith("/work/"), bare)
        self.assertTrue(boxed.startswith("/work/"), boxed)

    def test_requirements_compare_levels(self):
        self.assertEqual(self.grid.souk("run", "--require", "sandbox >= bwrap", "echo", "here").text, "here\n")
        why = self.grid.souk("submit", "--dry-run", "--require", "sandbox < bwrap", "true")
        self.assertIn("sandbox < bwrap", why.text + why.err)

    def test_what_a_worker_does_not_run_waits_and_is_told(self):
        done = self.by_eve("submit", "--dry-run", "--network", "true")
        self.assertIn("network", done.text + done.err)

    def test_limits_are_told(self):
        done = self.by_eve("run", "--memory", "64MiB", "--shell", "exec python3 -c 'a = bytearray(200 << 20)'")
        self.assertNotEqual(done.code, 0, done)
        done = self.by_eve("run", "--disk", "1MiB", "--shell", "exec head -c 5M /dev/zero > f")
        self.assertNotEqual(done.code, 0, done)

    def test_the_grace_that_a_stranger_asks_for_does_not_outlast_the_owners_limits(self):
        began = time.monotonic()
        done = self.by_eve("run", "--time-limit", "1s", "--grace", "1h", "--shell", "trap '' TERM; while :; do read -t 1 x < /dev/zero; done")
        self.assertNotEqual(done.code, 0, done)
        self.assertLess(time.monotonic() - began, 60)

    def test_a_worker_says_what_is_in_force(self):
        done = self.grid.souk("workers", "worker-1")
        self.assertRegex(done.text, r"sandbox +(bwrap|cgroup): bwrap .*, seccomp")
        self.assertRegex(done.text, r"network +for tasks of its owner only")
        self.assertNotEqual(self.grid.souk("workers", "nobody").code, 0)


if __name__ == "__main__":
    ended = unittest.main(verbosity=2, exit=False).result
    # A class that is skipped as a whole counts as no test that ran.
    sys.exit(1 if not ended.wasSuccessful() else 77 if ended.skipped and len(ended.skipped) >= ended.testsRun else 0)
