#!/usr/bin/env python3
"""Old jobs are forgotten, and a store can be looked through at any time."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import SOUK, Grid, until

MANAGER = os.path.join(os.path.dirname(SOUK), "souk-manager")


class Keep(unittest.TestCase):
    def setUp(self):
        self.grid = Grid("--workers", 1, "--slots", 2, "--keep", "2s")
        self.addCleanup(self.grid.close)

    def check(self):
        return subprocess.run([MANAGER, "--check", "--json", "--state", os.path.join(self.grid.folder, "manager")], capture_output=True, text=True, timeout=60)

    def test_old_jobs_go_but_not_those_that_others_wait_for_and_no_number_comes_again(self):
        first = self.grid.submit("--array", "1-20", "--", "echo", "{}")
        waited_for = self.grid.submit("--", "true")
        self.assertEqual(self.grid.souk("wait", first, waited_for).code, 0)
        waits = self.grid.submit("--after", waited_for, "--hold", "--", "echo", "ran")
        until(lambda: self.grid.souk("job", first).code != 0, "the first job is forgotten")
        for words in (["job", first], ["cat", first], ["tasks", first], ["why", first], ["cancel", first], ["rerun", first]):
            done = self.grid.souk(*words)
            self.assertNotEqual(done.code, 0, words)
            self.assertIn(f"job {first} is no longer kept (--keep 2s)", done.err)
        self.assertIn("there is no job 99 of yours", self.grid.souk("job", 99).err)
        self.assertEqual(self.grid.job(waited_for)["state"], "succeeded")  # as old, but needed

        self.grid.kill("manager")
        self.assertEqual(self.grid.souk("release", waits).code, 0)
        waited = self.grid.souk("wait", waits)
        self.assertEqual(waited.code, 0, waited)
        until(lambda: self.grid.souk("jobs", "--json").out == b"", "all are forgotten")
        self.grid.kill("manager")
        self.assertEqual(self.grid.submit("--", "true"), waits + 1)
        checked = self.check()
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_a_store_is_looked_through_beside_its_manager_and_without_it(self):
        job = self.grid.submit("--array", "1-50", "--hold", "--", "true")
        checked = self.check()
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        report = json.loads(checked.stdout)
        self.assertEqual((report["good"], report["in_use"], report["jobs_open"], report["tasks_open"], report["last_job"]), (True, True, 1, 50, job))
        self.assertEqual(self.grid.souk("down").code, 0)
        report = json.loads(self.check().stdout)
        self.assertEqual((report["good"], report["in_use"], report["tasks_open"]), (True, False, 50))
        store = os.path.join(self.grid.folder, "manager", "grid.sqlite")
        with open(store, "r+b") as file:  # the first page's head, where every table is found
            file.seek(100)
            file.write(b"\xff" * 40)
        checked = self.check()
        self.assertEqual(checked.returncode, 1, checked.stdout + checked.stderr)
        self.assertFalse(json.loads(checked.stdout)["good"])
        os.unlink(store)
        checked = self.check()
        self.assertEqual(checked.returncode, 2, checked.stdout + checked.stderr)
        self.assertIn("--state DIR", checked.stderr)


if __name__ == "__main__":
    unittest.main()
