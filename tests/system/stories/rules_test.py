#!/usr/bin/python3
"""Who may do what in a grid, and whose tasks a worker runs: a policy file, bans, an audit log, and an owner who commands a worker from a phone (slixmpp)."""
import asyncio
import glob
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

from slixmpp.exceptions import IqError

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from chat_client_test import Person, values
from grid import Grid, SOUK, until

WORKER = os.path.join(os.path.dirname(SOUK), "souk-worker")
DOMAIN = "souk.localhost"


def jid(name):
    return f"{name}@{DOMAIN}"


class Worker:
    """One more, started by hand with the account of one of the grid's users. Tasks run bare: a sandbox is another story (sandbox_test.py)."""

    def __init__(self, test, grid, account, *options, name=None, sandbox="none", path=None):
        self.name = name or "of-" + account
        self.folder = tempfile.mkdtemp(prefix="souk worker ", dir=grid.folder)
        profile = os.path.join(grid.folder, "worker.toml" if account == "worker" else f"users/{account}.toml")
        self.log = open(os.path.join(self.folder, "log"), "wb+")
        self.process = subprocess.Popen([WORKER, "--profile", profile, "--work", os.path.join(self.folder, "work"), "--name", self.name, "--slots", "2", "--sandbox", sandbox, *options], stderr=self.log,
                                        env=grid.environment() | ({"PATH": path} if path else {}))
        test.addCleanup(self.stop)
        self.grid = grid
        try:
            until(self.seen, f"{self.name} is in the market")
        except AssertionError as never:
            raise AssertionError(f"{never}\n{self.text()}")

    def text(self):
        with open(self.log.name, errors="replace") as file:
            return file.read()

    def seen(self):
        return next((one for one in self.grid.souk("workers", "--json").json if one["worker"] == self.name), None)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Stage(unittest.TestCase):
    def grid(self, *options, people=()):
        grid = Grid(*options)
        self.addCleanup(grid.close)
        for name in people:
            self.assertEqual(grid.souk("user", "add", name).code, 0)
        self.as_ = lambda name: ("--profile", os.path.join(grid.folder, "users", name + ".toml"))
        return grid

    def policy(self, text):
        if not hasattr(self, "file"):
            self.file = os.path.join(tempfile.mkdtemp(prefix="souk policy "), "policy.toml")
        with open(self.file + ".new", "w") as file:
            file.write(text)
        os.rename(self.file + ".new", self.file)
        return self.file

    def audit(self, grid, *words):
        done = grid.souk("audit", "--json", *words)
        self.assertEqual(done.code, 0, done)
        return done.json


RULES = f"""
[groups]
staff = ["{jid('ada')}"]

[[rule]]
name = "staff"
who = "group:staff"
roles = "admin"

[[rule]]
name = "students"
who = ["{jid('bob')}", "{jid('carl')}"]
roles = "submitter"
queued = 6
running = 1
per-minute = 4
bytes = "256KiB"

[[rule]]
name = "onlookers"
who = "{jid('wanda')}"
roles = "watcher"
"""


class Policies(Stage):
    def test_roles_and_limits_are_those_of_the_file_and_it_changes_while_the_grid_runs(self):
        grid = self.grid("--slots", 4, "--policy", self.policy(RULES), people=("ada", "bob", "carl", "wanda", "eve"))
        # Roles.
        done = grid.souk(*self.as_("bob"), "submit", "--array", "1-3", "sleep", "60")
        self.assertEqual(done.code, 0, done)
        until(lambda: grid.souk(*self.as_("bob"), "job", 1, "--json").json[0]["running"] == 1, "one runs")
        self.assertIn("as many tasks at a time as allowed: 1", grid.souk(*self.as_("bob"), "why", 1).text)
        refused = grid.souk(*self.as_("eve"), "submit", "true")
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("no rule of 'policy.toml' names eve@souk.localhost", refused.err)
        refused = grid.souk(*self.as_("wanda"), "submit", "true")
        self.assertIn("rule 'onlookers' (policy.toml line ", refused.err)
        self.assertIn("does not make wanda@souk.localhost a submitter", refused.err)
        self.assertEqual([job["owner"] for job in grid.souk(*self.as_("wanda"), "jobs", "--all", "--json").json], [jid("bob")])
        self.assertEqual(len(grid.souk(*self.as_("wanda"), "workers", "--json").json), 1)
        for words in (["cat", 1], ["cancel", 1], ["why", 1], ["hold", 1]):
            self.assertNotEqual(grid.souk(*self.as_("wanda"), *words).code, 0, words)
        self.assertEqual(grid.souk(*self.as_("carl"), "jobs", "--all", "--json").json, [])
        # Limits.
        refused = grid.souk(*self.as_("bob"), "submit", "--submit-wait", "0s", "--array", "1-5", "true")
        self.assertIn("you have 2 tasks queued, at most 6 (rule 'students' (policy.toml line", refused.err)
        for times in range(4):
            refused = grid.souk(*self.as_("carl"), "submit", "--submit-wait", "0s", "--hold", "true")
            self.assertEqual(refused.code, 0, refused)
        refused = grid.souk(*self.as_("carl"), "submit", "--submit-wait", "0s", "true")
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("you submitted 4 times in a minute, as often as you may (rule 'students'", refused.err)
        # Another file, at once; and one that is broken changes nothing.
        self.policy(RULES.replace("per-minute = 4\n", "").replace("queued = 6\n", "").replace("running = 1", "running = 3").replace("[[rule]]", f"""[[rule]]\nwho = "{jid('eve')}"\nroles = "submitter"\n[[rule]]""", 1))
        until(lambda: grid.souk(*self.as_("bob"), "job", 1, "--json").json[0]["running"] == 3, "three run")
        self.assertEqual(grid.souk(*self.as_("eve"), "submit", "--hold", "true").code, 0)
        self.assertEqual(grid.souk(*self.as_("ada"), "cancel", 1).code, 0)
        self.policy("[[rule]]\nwho = 'anyone'\nroles = 'king'\n")
        until(lambda: any(one["did"] == "refused" and one["what"] == "policy" for one in self.audit(grid)), "the broken file was refused")
        self.assertEqual(grid.souk(*self.as_("eve"), "submit", "--hold", "true").code, 0)
        # Bytes.
        big = grid.souk(*self.as_("bob"), "run", "--shell", "head -c 220000 /dev/urandom")
        self.assertEqual(big.code, 0, big)
        too_much = (*self.as_("bob"), "submit", "--env", "X=" + "x" * 60000, "true")
        refused = grid.souk(*too_much)
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("and they may take 0.2 MiB (rule 'students'", refused.err)
        self.policy(RULES)
        # The manager dies; its next life counts what is kept.
        grid.kill("manager")
        refused = grid.souk(*too_much)
        self.assertIn("may take 0.2 MiB", refused.err, refused)
        # What happened is in the audit log, which others cannot read.
        log = self.audit(grid)
        submits = [one for one in log if one["did"] == "submit" and one["by"].startswith(jid("bob") + "/")]
        self.assertEqual((submits[0]["job"], submits[0]["tasks"]), ("1", "3"))
        self.assertTrue(any(one["did"] == "cancel" and one["by"].startswith(jid("ada")) and one["owner"] == jid("bob") for one in log), log)
        self.assertTrue(any(one["did"] == "refused" and one["what"] == "submit" and "onlookers" in one["why"] for one in log), log)
        self.assertEqual(os.stat(os.path.join(grid.folder, "manager", "audit.log")).st_mode & 0o777, 0o600)
        self.assertEqual(self.audit(grid, "--since", "0s"), [])
        self.assertIn("submit by=" + jid("bob"), grid.souk("audit").text)

    def test_a_policy_that_cannot_be_used_starts_no_manager(self):
        text = self.policy("[[rule]]\nwho = 'group:none'\nroles = 'admin'\n")
        manager = os.path.join(os.path.dirname(SOUK), "souk-manager")
        grid = self.grid()
        done = subprocess.run([manager, "--profile", os.path.join(grid.folder, "manager.toml"), "--state", tempfile.mkdtemp(dir=grid.folder), "--policy", text], capture_output=True, timeout=30)
        self.assertEqual(done.returncode, 2, done)
        self.assertIn(b"line 2: there is no group 'none'", done.stderr)

    def test_who_may_work_no_longer_is_given_nothing_and_who_may_is(self):
        work = f"""[[rule]]\nwho = "{jid('vera')}"\nroles = ["worker"]\n"""
        other = f"""[[rule]]\nwho = "{jid('ada')}"\nroles = "admin"\n"""
        grid = self.grid("--slots", 1, "--policy", self.policy(work + other), people=("ada", "vera"))
        vera = Worker(self, grid, "vera")
        job = grid.submit("--require", f'name == "{vera.name}"', "--shell", "sleep 60")
        until(lambda: grid.job(job)["running"] == 1, "it runs at vera's")
        self.policy(other)
        until(lambda: vera.seen() is None, "vera's worker counts no more")
        until(lambda: grid.job(job)["waiting"] == 1, "its task waits again")
        self.policy(work + other)
        until(lambda: grid.job(job)["running"] == 1, "it runs there again")


class Bans(Stage):
    def test_a_worker_that_is_banned_is_out_at_once_and_its_tasks_go_elsewhere(self):
        grid = self.grid("--slots", 1, "--admin", jid("ada"), people=("ada", "mallory"))
        bad = Worker(self, grid, "mallory")
        where = os.path.join(bad.folder, "where")
        job = grid.submit("--rank", f'name == "{bad.name}"', "--shell", f"echo $SOUK_WORKER >> '{where}'; test $SOUK_WORKER != {bad.name} || sleep 60")
        until(lambda: os.path.exists(where) and grid.job(job)["running"] == 1, "it runs at mallory's")
        done = grid.souk("workers", "ban", bad.name)
        self.assertEqual(done.code, 2, done)
        self.assertIn("only admins of the grid may do that", done.err)
        done = grid.souk(*self.as_("ada"), "workers", "ban", bad.name, "--reason", "it lies")
        self.assertEqual((done.code, done.text), (0, jid("mallory") + "\n"), done)
        self.assertIn("1 worker put out", done.err)
        self.assertEqual(grid.souk("wait", job).code, 0)
        with open(where) as file:
            self.assertEqual(file.read().split(), [bad.name, "worker-1"])
        self.assertEqual(bad.process.wait(20), 3)
        self.assertEqual(grid.souk(*self.as_("ada"), "workers", "bans").text, jid("mallory") + "\n")
        again = subprocess.run([WORKER, "--profile", os.path.join(grid.folder, "users/mallory.toml"), "--work", os.path.join(bad.folder, "more"), "--name", "another"], capture_output=True, timeout=60, env=grid.environment())
        self.assertEqual(again.returncode, 3, again)
        self.assertEqual(grid.souk(*self.as_("ada"), "workers", "ban", jid("ada")).code, 2)  # an admin
        self.assertEqual(grid.souk(*self.as_("ada"), "workers", "ban", "nobody").code, 2)
        self.assertEqual(grid.souk(*self.as_("ada"), "workers", "unban", jid("mallory")).code, 0)
        Worker(self, grid, "mallory", name="better")
        did = [(one["did"], one.get("whom")) for one in self.audit(grid)]
        self.assertIn(("ban", jid("mallory")), did)
        self.assertIn(("unban", jid("mallory")), did)


class Rumours(Stage):
    def change(self, worker, words, *rows):
        """Of what it will say that it remembers. Whether that is true the manager cannot see."""
        if worker.process.poll() is None:
            worker.process.terminate()
            self.assertEqual(worker.process.wait(20), 0)
        store = sqlite3.connect(glob.glob(os.path.join(glob.escape(worker.state), "results-*.sqlite"))[0])
        store.executemany(words, rows)
        store.commit(), store.close()

    def remembers(self, worker, epoch, jobs):
        """As if it had obeyed a later life of the manager, and been given its jobs."""
        self.change(worker, "INSERT OR REPLACE INTO meta VALUES(?,?)", ("epoch", epoch), ("jobs_seen", jobs))

    def back(self, worker, account):
        profile = os.path.join(self.grid_.folder, f"users/{account}.toml")
        worker.process = subprocess.Popen([WORKER, "--profile", profile, "--work", os.path.join(worker.folder, "work"), "--state", worker.state, "--name", worker.name,
                                           "--slots", "2", "--sandbox", "none"], stderr=worker.log, env=self.grid_.environment())

    def log(self):
        with open(os.path.join(self.grid_.folder, "log", "manager.log"), errors="replace") as file:
            return file.read()

    def worker(self, account):
        state = os.path.join(tempfile.mkdtemp(prefix="souk state ", dir=self.grid_.folder), "state")
        made = Worker(self, self.grid_, account, "--state", state)
        made.state = state
        return made

    def test_what_a_worker_was_never_given_it_does_not_have_after_a_restart_either(self):
        self.grid_ = grid = self.grid("--slots", 1, people=("mallory",))
        mallory = self.worker("mallory")
        go = os.path.join(grid.folder, "go")
        job = grid.submit("--array", "1-2", "--require", 'name == "worker-1"', "--shell", f"until test -e '{go}'; do sleep 0.05; done; echo right")
        until(lambda: grid.job(job)["running"] == 1, "one runs, and one waits")
        epoch = int(re.search(r"store read epoch=(\d+)", self.log()).group(1))
        wrong = b"\x50\x06"  # an Outcome: exit code 0, six bytes of output
        self.change(mallory, "INSERT INTO results(epoch,number,job,task,outcome,out,err) VALUES(?,?,?,?,?,?,x'')",
                    *((epoch, number << 24 | number, job, 1 + number % 2, wrong, b"wrong\n") for number in range(1, 41)))
        grid.kill("manager")
        self.back(mallory, "mallory")
        until(lambda: "claims of what it was never given" in self.log(), "it says that it has both of them")
        until(lambda: mallory.seen() and mallory.seen()["state"] == "free", "it is believed nothing of that")
        self.assertEqual(grid.job(job)["running"], 1)
        with open(go, "w"):
            pass
        self.assertEqual(grid.souk("wait", job).code, 0)
        self.assertEqual(grid.souk("cat", job).text, "right\nright\n")
        self.assertEqual({task["worker"] for task in grid.souk("tasks", job, "--json").json}, {"worker-1"})

    def test_no_worker_alone_stops_the_manager_and_who_does_is_banned(self):
        self.grid_ = grid = self.grid("--slots", 1, "--admin", jid("ada"), people=("ada", "mallory", "eve"))
        log = self.log
        mallory, eve = self.worker("mallory"), self.worker("eve")
        votes = grid.submit("--quorum", "2/2", "--require", f'name == "{eve.name}"', "--shell", "echo lie; : {}")
        until(lambda: "1 result of it is in" in grid.souk("why", votes).text, "eve voted")
        self.remembers(mallory, 0, 1_000_000)
        self.back(mallory, "mallory")
        until(lambda: "not believed" in log(), "she says that she was given a job that the store does not have")
        self.assertEqual(grid.souk("run", "echo", "on").text, "on\n")
        told = grid.souk("status").text
        self.assertIn(f"workers of {jid('mallory')} say that the store is out of date, and no others do", told)
        self.remembers(mallory, 1_000_000, 1_000_000)
        self.back(mallory, "mallory")
        until(lambda: "it has obeyed epoch 1000000" in log(), "and of a later life")
        self.assertEqual(grid.souk("run", "echo", "on").text, "on\n")
        # Two of them are believed: that is what a copy of a store looks like.
        self.remembers(eve, 1_000_000, 1_000_000)
        self.back(eve, "eve")
        until(lambda: "fenced why" in log(), "two owners say so")
        refused = grid.souk("submit", "true")
        self.assertNotEqual(refused.code, 0)
        self.assertIn("takes nothing", refused.err)
        done = grid.souk(*self.as_("ada"), "workers", "ban", eve.name)
        self.assertEqual((done.code, done.text), (0, jid("eve") + "\n"), done)
        until(lambda: "fenced no longer" in log(), "the word of one is left")
        until(lambda: grid.souk("run", "echo", "on").text == "on\n", "it goes on")
        self.assertNotIn("1 result of it is in", grid.souk("why", votes).text, "what she said counts no more in the next life either")
        self.assertEqual(grid.souk(*self.as_("ada"), "workers", "bans").text, jid("eve") + "\n")
        grid.kill("manager")
        self.assertEqual(grid.souk("run", "echo", "on").text, "on\n")
        self.assertEqual(log().count("fenced why"), 1)

    def without(self, facts):
        """As if the manager's store did not have them."""
        store = sqlite3.connect(os.path.join(self.grid_.folder, "manager", "grid.sqlite"))
        store.execute("DELETE FROM meta WHERE name LIKE ?", (facts,))
        store.commit(), store.close()

    def test_who_comes_first_in_a_life_is_not_taken_for_the_only_owner(self):
        self.grid_ = grid = self.grid("--slots", 1, people=("mallory",))
        mallory = self.worker("mallory")
        self.assertEqual(grid.souk("run", "--require", 'name == "worker-1"', "echo", "on").text, "on\n")
        self.remembers(mallory, 1_000_000, 1_000_000)
        other = grid.pid("worker-1")
        os.kill(other, signal.SIGSTOP)
        try:
            self.without("worker %")  # as a stop in good order leaves it
            grid.kill("manager")
            self.back(mallory, "mallory")
            until(lambda: "it has obeyed epoch 1000000" in self.log(), "she says that the store is old")
            until(lambda: "not believed" in self.log(), "others worked here once")
        finally:
            os.kill(other, signal.SIGCONT)
        self.assertEqual(grid.souk("run", "echo", "on").text, "on\n")
        self.assertNotIn("fenced why", self.log())

    def test_what_was_done_for_a_manager_without_a_key_is_taken_by_the_next_that_has_one(self):
        self.grid_ = grid = self.grid("--slots", 1, people=("mallory",))
        mallory = self.worker("mallory")
        epoch = int(re.search(r"store read epoch=(\d+)", self.log()).group(1))
        self.change(mallory, "DELETE FROM results")  # it is stopped
        job = grid.submit("--require", f'name == "{mallory.name}"', "echo", "once more")
        self.change(mallory, "INSERT INTO results(epoch,number,job,task,outcome,out,err) VALUES(?,?,?,?,?,?,x'')", (epoch, 7, job, 1, b"\x50\x05", b"done\n"))
        self.without("claims-%")
        grid.kill("manager")
        self.back(mallory, "mallory")
        self.assertEqual(grid.souk("wait", job).code, 0, grid.logs())
        self.assertEqual(grid.souk("cat", job).text, "done\n")


class Acceptance(Stage):
    def test_a_worker_runs_the_tasks_of_those_its_owner_accepts(self):
        everybody = f"""[groups]\nfriends = ["{jid('bob')}"]\n[[rule]]\nwho = "@{DOMAIN}"\nroles = ["submitter", "worker"]\n"""
        grid = self.grid("--slots", 1, "--policy", self.policy(everybody), people=("vera", "bob", "carl"))
        vera = Worker(self, grid, "vera", "--accept", "mine", "--accept", "group:friends")
        self.assertEqual(vera.seen()["accept"], [jid("vera"), "group:friends"])
        self.assertIn("accepts    tasks of vera@souk.localhost, group:friends only\n", grid.souk("workers", vera.name).text)
        there = ("--require", f'name == "{vera.name}"')
        for friend in ("vera", "bob"):
            done = grid.souk(*self.as_(friend), "run", *there, "--shell", "echo $SOUK_WORKER")
            self.assertEqual(done.text, vera.name + "\n", done)
        done = grid.souk(*self.as_("carl"), "submit", *there, "true")
        job = int(done.out)
        self.assertIn("their owners take tasks of others, not these", grid.souk(*self.as_("carl"), "why", job).text)
        done = grid.souk(*self.as_("carl"), "run", "--array", "1-20", "--shell", "echo $SOUK_WORKER")
        self.assertEqual(set(done.text.split()), {"worker-1"}, done)
        self.policy(everybody.replace('["bob', '["carl@souk.localhost", "bob'))
        self.assertEqual(grid.souk(*self.as_("carl"), "wait", job).code, 0)  # a friend now

    def test_a_worker_where_no_sandbox_works_takes_its_owners_tasks_and_the_others_are_told(self):
        grid = self.grid("--slots", 1, people=("vera", "carl"))
        broken = os.path.join(grid.folder, "bwrap")  # as where the kernel lets nobody make namespaces
        with open(broken, "w") as file:
            file.write("#!/bin/sh\nexit 1\n")
        os.chmod(broken, 0o755)
        nowhere = {"sandbox": "auto", "path": grid.folder + ":/usr/bin:/bin"}
        vera = Worker(self, grid, "vera", **nowhere)
        self.assertEqual((vera.seen()["accept"], vera.seen()["sandbox"]), ([jid("vera")], "none"))
        there = ("--require", f'name == "{vera.name}"')
        self.assertEqual(grid.souk(*self.as_("vera"), "run", *there, "--shell", "echo $SOUK_WORKER").text, vera.name + "\n")
        job = int(grid.souk(*self.as_("carl"), "submit", *there, "true").out)
        self.assertIn("their owners take tasks of others, not these", grid.souk(*self.as_("carl"), "why", job).text)
        self.assertNotIn("refused", vera.text())
        # Both rules hold: not those of carl for want of a sandbox, not vera's by --accept.
        other = Worker(self, grid, "vera", "--accept", jid("carl"), name="other", **nowhere)
        self.assertEqual(other.seen()["accept"], [jid("carl")])
        # Its services are its owner's programs, and answer anyone.
        calls = Worker(self, grid, "vera", "--service", "echo=/bin/cat", name="calls", **nowhere)
        self.assertEqual(calls.seen()["accept"], [])


class Phone(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)

    async def person(self, name):
        person = await Person(self.grid, name).online()
        self.addAsyncCleanup(person.leave)
        return person

    async def test_an_owner_commands_the_worker_and_nobody_else_does(self):
        self.grid = grid = Grid("--slots", 1)
        self.addCleanup(grid.close)
        for name in ("vera", "mallory"):
            self.assertEqual(grid.souk("user", "add", name).code, 0)
        worker = await asyncio.to_thread(Worker, self, grid, "worker", "--owner", jid("vera"), name="desk")
        to = worker.seen()["jid"]
        vera, mallory = await self.person("vera"), await self.person("mallory")
        state = lambda: worker.seen()["state"]

        async def becomes(what, value):
            await asyncio.to_thread(until, lambda: what() == value, f"it becomes {value}")

        items = await vera.client["xep_0050"].get_commands(to)
        self.assertEqual({item[1] for item in items["disco_items"]["items"]}, {"status", "pause", "resume", "limits", "log", "drain"})
        for node in ("status", "pause", "drain", "limits", "log", "nonsense"):
            with self.assertRaises(IqError) as refused:
                await mallory.command(node, to=to)
            self.assertEqual(refused.exception.condition, "forbidden")
        self.assertEqual(state(), "free")
        told = str(await vera.command("status", to=to))
        self.assertIn("free: 2 slots", told)
        self.assertIn(to, told)
        self.assertEqual((await vera.command("pause", to=to))["status"], "completed")
        await becomes(state, "paused")
        self.assertIn("held back  paused by its owner", await asyncio.to_thread(lambda: grid.souk("workers", "desk").text))
        await vera.command("pause", to=to)  # once more is no toggle
        await becomes(state, "paused")
        await vera.command("resume", to=to)
        await becomes(state, "free")
        # Limits: a form, with what is wrong told on it.
        asked = await vera.command("limits", to=to)
        self.assertEqual(asked["status"], "executing")
        self.assertEqual(values(asked)["slots"], "")
        again = await vera.command("limits", asked["sessionid"], "complete", to=to, slots="many")
        self.assertEqual(again["status"], "executing")
        self.assertIn("no number of slots", str(again))
        done = await vera.command("limits", asked["sessionid"], "complete", to=to, slots="1", hours="")
        self.assertEqual((done["status"], values(done)["slots"]), ("completed", "1"))
        await becomes(lambda: worker.seen()["slots"], 1)
        self.assertEqual(worker.seen()["rule"], "its owner leaves 1 slot")
        await vera.command("limits", asked["sessionid"], "complete", to=to, slots="")
        await becomes(lambda: worker.seen()["slots"], 2)
        # The log tells who tried.
        log = str(await vera.command("log", to=to))
        self.assertIn("not its owner", log)
        self.assertIn("mallory@souk.localhost", log)
        done = await vera.command("drain", to=to)
        self.assertEqual(done["status"], "completed")
        self.assertEqual(await asyncio.to_thread(worker.process.wait, 20), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
