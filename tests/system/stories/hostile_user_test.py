#!/usr/bin/python3
"""A user with an account and bad intentions: bombs of jobs, monstrous forms, expressions that explode, names that climb out of folders. Each is refused with words,
others are served meanwhile, and the manager's memory stays bounded."""
import asyncio
import os
import sys
import tempfile
import time
import unittest
from xml.etree import ElementTree

from slixmpp.exceptions import IqError

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from chat_client_test import MANAGER, Person, text_of
from grid import Grid, until

GROWTH_MAX = 160 << 20  # bytes of the manager's memory that all of this may cost; 80 MiB were seen, most of it what the largest forms took while they were read


class HostileUser(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="souk policy ")
        policy = os.path.join(folder, "policy.toml")
        with open(policy, "w") as file:
            file.write('[[rule]]\nname = "guests"\nwho = "@souk.localhost"\nroles = "submitter"\nqueued = 1000\nper-minute = 600\nbytes = "4MiB"\n')
        cls.grid = Grid("--slots", 1, "--policy", policy)
        for name in ("eve", "alice"):
            assert cls.grid.souk("user", "add", name).code == 0
        cls.grid.souk("run", "true")
        cls.before = cls.memory()

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    @classmethod
    def memory(cls):
        with open(f"/proc/{cls.grid.pid('manager')}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)
        self.eve = await Person(self.grid, "eve").online()
        self.addAsyncCleanup(self.eve.leave)
        self.pid = self.grid.pid("manager")

    async def asyncTearDown(self):
        done = await asyncio.to_thread(lambda: self.grid.souk("--profile", os.path.join(self.grid.folder, "users", "alice.toml"), "run", "echo", "served"))
        self.assertEqual(done.text, "served\n", done)
        self.assertEqual(self.grid.pid("manager"), self.pid)  # it did not die and come back
        self.assertLess(self.memory() - self.before, GROWTH_MAX)

    async def submits(self, **fields):
        asked = await self.eve.command("submit")
        return await self.eve.command("submit", asked["sessionid"], "complete", **fields)

    async def test_a_bomb_of_jobs_meets_her_limits(self):
        told = []
        for _ in range(40):
            told.append(text_of(await self.submits(command="sleep 100", array="1-100", hold="1")))
        taken = [one for one in told if "Not done" not in one]
        self.assertLessEqual(len(taken), 10)
        self.assertGreater(len(taken), 8)
        self.assertIn("you have 1000 tasks queued, at most 1000 (rule 'guests' (policy.toml line 1))", told[-1].replace("&apos;", "'"))
        huge = text_of(await self.submits(command="true", array="1-999999999"))
        self.assertIn("Not done", huge)
        eve = ("--profile", os.path.join(self.grid.folder, "users", "eve.toml"))
        self.assertEqual((await asyncio.to_thread(lambda: self.grid.souk(*eve, "cancel", "--all"))).code, 0)
        log = (await asyncio.to_thread(lambda: self.grid.souk("audit"))).text
        self.assertIn("refused by=eve@souk.localhost/phone what=submit", log)
        self.assertLess(log.count("refused by=eve"), 35)  # and not one line for each

    async def test_a_form_of_a_million_fields(self):
        # As many as the server lets through in one stanza, and far more than a form may have.
        asked = await self.eve.command("submit")
        for fields, values in ((5_000, 1), (300, 1), (1, 60_000)):
            iq = self.eve.client.make_iq_set(ito=MANAGER)
            iq["command"]["node"], iq["command"]["action"], iq["command"]["sessionid"] = "submit", "complete", asked["sessionid"]
            form = ElementTree.SubElement(iq["command"].xml, "{jabber:x:data}x", {"type": "submit"})
            for number in range(fields):
                field = ElementTree.SubElement(form, "{jabber:x:data}field", {"var": f"f{number}"})
                for _ in range(values):
                    ElementTree.SubElement(field, "{jabber:x:data}value").text = "x"
            try:
                answer = await iq.send(timeout=30)
                self.assertIn("Not done", text_of(answer["command"]), (fields, values))
            except IqError as refused:
                self.assertIn(refused.condition, ("bad-request", "not-acceptable", "policy-violation", "resource-constraint"))

    async def test_a_million_fields_and_more_than_a_server_takes(self):
        # It ends her stream, not the manager's.
        iq = self.eve.client.make_iq_set(ito=MANAGER)
        lost = asyncio.get_running_loop().create_future()
        self.eve.client.add_event_handler("disconnected", lambda _: lost.done() or lost.set_result(True))
        self.eve.client.send_raw(f"<iq type='set' id='bomb' to='{MANAGER}'><command xmlns='http://jabber.org/protocol/commands' node='submit' action='complete'>"
                                 "<x xmlns='jabber:x:data' type='submit'>" + "<field var='f'><value/></field>" * 1_000_000 + "</x></command></iq>")
        await asyncio.wait_for(lost, 60)

    async def test_expressions_that_explode(self):
        began = time.process_time()
        for monster in ("(" * 50_000 + "1" + ")" * 50_000, "!" * 50_000 + "true", "-" * 50_000 + "1", " || ".join(["os == \"linux\""] * 5_000), "matches(os, \"" + "(a*)*" * 2_000 + "b\")",
                        "os == \"" + "x" * 60_000 + "\"", "1" + "0" * 50_000 + " < cpus", "a." * 20_000 + "b", "min(" * 20_000 + "1", "\"" + "\\" * 50_001):
            for field in ("requirement", "rank"):
                told = text_of(await self.submits(command="true", **{field: monster}))
                self.assertIn("Not done", told, monster[:40])
        # The longest that is taken is judged for each worker, and costs next to nothing.
        for most in range(4_000, 0, -200):
            told = text_of(await self.submits(command="true", requirement=" && ".join(["cpus >= 0"] * (most // 13))))
            if "Not done" not in told:
                break
        self.assertNotIn("Not done", told)

    async def test_names_that_climb_out_of_folders(self):
        outside = os.path.join(self.grid.folder, "..", "souk-climbed")
        climb = "../" * 12 + "tmp/souk-climbed"
        for words in (("submit", "--service", climb, "x"), ("submit", "--need", climb + "=1", "true"), ("submit", "--resource", climb + "=1", "true")):
            done = await asyncio.to_thread(lambda: self.grid.souk(*words))
            self.assertNotEqual(done.code, 0, (words, done))
        done = await asyncio.to_thread(lambda: self.grid.souk("user", "add", climb))
        self.assertNotEqual(done.code, 0, done)
        # Where a name is only a name, it stays one.
        done = await asyncio.to_thread(lambda: self.grid.souk("run", "--name", climb, "--env", f"WHERE={climb}", "--shell", "pwd; ls -a | wc -l"))
        self.assertEqual(done.code, 0, done)
        self.assertNotIn("..", done.text)
        for path in (outside, "/tmp/souk-climbed"):
            self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main(verbosity=2)
