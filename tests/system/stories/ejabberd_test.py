#!/usr/bin/env python3
"""A grid on ejabberd instead of Prosody, as bench/ejabberd puts it there: the same work, and the same when that server dies meanwhile."""
import glob
import os
import shutil
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ["SOUK_PROSODY"] = os.path.join(HERE, "..", "..", "..", "bench", "ejabberd")
from grid import Grid, until  # noqa: E402


class OnEjabberd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--workers", 3, "--slots", 2)

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    def test_it_works_and_its_server_may_die(self):
        grid, go = self.grid, os.path.join(self.grid.folder, "go")
        self.assertTrue(os.path.isdir(os.path.join(grid.folder, "server", "ejabberd", "mnesia")), "it is ejabberd that serves it")
        done = grid.souk("run", "--array", "1-200", "--shell", "echo $(({} * {})); exit $(({} % 2))")
        self.assertEqual((done.code, done.text), (1, "".join(f"{n * n}\n" for n in range(1, 201))), done)
        large = os.urandom(400 << 10).hex().encode()  # many stanzas
        self.assertEqual(grid.souk("run", "--stdin", "-", "cat", input=large).out, large)
        job = grid.submit("--array", "1-6", "--shell", f"until test -e '{go}'; do sleep 0.05; done; echo $SOUK_WORKER {{}}")
        until(lambda: grid.job(job)["running"] == 6, "all run")
        grid.kill("server")
        with open(go, "w"):
            pass
        until(lambda: grid.souk("wait", job).code == 0, "it is back, and they with their results")
        told = [line.split() for line in grid.souk("cat", job).text.splitlines()]
        self.assertEqual([item for _, item in told], ["1", "2", "3", "4", "5", "6"])
        self.assertEqual({worker for worker, _ in told}, {"worker-1", "worker-2", "worker-3"})
        self.assertEqual({task["attempts"] for task in grid.souk("tasks", job, "--json").json}, {1})


if __name__ == "__main__":
    if not shutil.which("erl") or not glob.glob("/usr/lib/*/ejabberd-2?.*/ebin"):
        print("skipped: there is no ejabberd")
        sys.exit(77)
    unittest.main(verbosity=2)
