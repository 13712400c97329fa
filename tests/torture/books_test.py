#!/usr/bin/env python3
"""The books of torture, with a grid that lies: what is wrong must be found, or a torture that finds nothing says nothing."""
import os
import sys
import tempfile
import types
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from books import Books
from faults import KINDS, Fault, schedule
from work import Job, Task, plan


class LyingGrid:
    """Answers as souk does, of one job that went well, until told otherwise."""

    lease_s = 4

    def __init__(self, folder, job):
        self.ledger = folder
        count = len(job.tasks)
        self.jobs = [{"job": 7, "name": job.name, "state": "succeeded", "tasks": count, "canceled": 0}]
        self.tasks = [{"job": 7, "task": task.number, "state": "succeeded", "attempts": 1, "cause": "exited", "exit_code": 0} for task in job.tasks]
        self.outputs = [{"job": 7, "task": task.number, "stdout": task.output().decode()} for task in job.tasks]
        for task in job.tasks:
            self.run(task, "w1", 100.0)

    def run(self, task, worker, at):
        with open(os.path.join(self.ledger, task.key), "a") as file:
            file.write(f"start {worker} 7 {task.number} 1 {at}\nend {worker} 7 {task.number} 1 {at + 0.5}\n")

    def ask(self, command, *words, timeout=0):
        return {"jobs": self.jobs, "tasks": self.tasks, "cat": self.outputs}[command]


class TheBooks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.job = Job("ada", "ada-1", "submit", [Task("ada-1", n, 10, 40, 0, 0) for n in (1, 2, 3)], 0)
        self.job.number = 7
        self.grid = LyingGrid(folder.name, self.job)
        self.faults = []

    def found(self, adoption_until=0):
        books = Books(self.grid, [self.job], self.faults)
        books.check(adoption_until)
        return "\n".join(books.wrong)

    def test_all_is_well(self):
        self.assertEqual(self.found(), "")

    def test_an_accepted_job_that_is_gone(self):
        self.grid.jobs.clear()
        self.assertIn("accepted as job 7, which is not there", self.found())

    def test_a_job_that_nobody_accepted_and_that_ran(self):
        self.grid.jobs.clear()
        self.job.number = None
        self.assertIn("is no job of the manager, but 3 of its tasks ran", self.found())

    def test_a_job_accepted_twice(self):
        self.grid.jobs.append({**self.grid.jobs[0], "job": 8})
        self.assertIn("was accepted 2 times", self.found())

    def test_a_job_and_a_task_that_did_not_end(self):
        self.grid.tasks[1]["state"] = "running"
        self.assertIn("task 7.2 (ada-1.2, submit) has not ended", self.found())
        self.grid.jobs[0]["state"] = "running"
        self.assertIn("job 7 ada-1 (submit) has not ended", self.found())

    def test_a_task_that_is_missing(self):
        del self.grid.tasks[2]
        self.assertIn("has tasks [1, 2], not 1 to 3", self.found())

    def test_a_wrong_outcome_and_a_wrong_output(self):
        self.grid.tasks[0].update(state="failed", exit_code=1)
        self.grid.outputs[1]["stdout"] = self.job.tasks[1].output().decode()[:-1] + "?"
        found = self.found()
        self.assertIn("task 7.1 (ada-1.1, submit) ended wrong", found)
        self.assertIn("task 7.2 (ada-1.2, submit) has an output of 40 bytes, not these 40; the first difference is at 39", found)

    def test_a_success_that_never_ran(self):
        os.unlink(os.path.join(self.grid.ledger, self.job.tasks[0].key))
        self.assertIn("succeeded without having run", self.found())

    def test_a_cancel_that_nobody_asked_for_or_that_did_nothing(self):
        self.grid.tasks[0]["state"] = "canceled"
        self.assertIn("is canceled, and nobody asked for it", self.found())
        self.job.cancel_tried = self.job.cancel_told = True
        self.grid.jobs[0].update(canceled=1)
        self.assertIn("was canceled and is succeeded", self.found())

    def test_a_second_start_needs_a_fault_that_explains_it(self):
        self.grid.run(self.job.tasks[0], "w2", 103.0)
        self.assertIn("no fault explains it", self.found())
        self.faults = [(101.0, Fault(1, "worker-kill", "w3", 0, ""), None)]
        self.assertIn("no fault explains it", self.found())
        self.faults = [(101.0, Fault(1, "worker-kill", "w1", 0, ""), None)]
        self.assertEqual(self.found(), "")
        self.assertIn("only managers, servers and submitters had been killed", self.found(adoption_until=200))

    def test_a_task_that_began_too_early(self):
        self.job.kind, self.job.after = "file", {2: [1]}
        self.assertIn("task 2 began before task 1", self.found())

    def test_a_job_nobody_planned(self):
        self.grid.jobs.append({**self.grid.jobs[0], "job": 9, "name": "stranger"})
        self.assertIn("a job nobody planned", self.found())


class ThePlan(unittest.TestCase):
    def test_the_same_seed_gives_the_same_faults_and_jobs(self):
        one, other, third = [[str(fault) + f" at {fault.at}" for fault in schedule(seed, 600, list(KINDS), 6, 4, 2.2, 120)] for seed in (42, 42, 43)]
        self.assertEqual(one, other)
        self.assertNotEqual(one, third)
        self.assertGreater(len(one), 100)
        self.assertEqual(vars(plan("ada", 1, 5).tasks[0]), vars(plan("ada", 1, 5).tasks[0]))

    def test_every_kind_of_fault_comes_up(self):
        seen = {fault.kind for seed in range(3) for fault in schedule(seed, 1800, list(KINDS), 6, 4, 2.2, 300)}
        self.assertEqual(seen, set(KINDS))


if __name__ == "__main__":
    unittest.main()
