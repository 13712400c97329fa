#!/usr/bin/python3
"""What users' programs and the manager say to each other on the wire: pages of jobs and results, and the event that brings the result of a job of one task.
Some of it in the words of PROTOCOL.md, said by a stock client; some seen between `souk` and the server, where stanzas can be lost and overtake each other."""
import asyncio
import base64
import json
import os
import re
import socket
import sqlite3
import sys
import threading
import unittest
import zlib
from xml.etree import ElementTree

from slixmpp.exceptions import IqError

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid, until
from people import PATIENCE, Person

MANAGER, JOB = "grid.souk.localhost", "urn:souk:job:1"


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def message(**of):
    """Protocol Buffers: message(f1=7, f6=b'text')."""
    return b"".join(varint(int(name[1:]) << 3 | 2) + varint(len(value)) + value if isinstance(value, bytes) else varint(int(name[1:]) << 3) + varint(value) for name, value in of.items())


def fields(data):
    """The other way: number -> values, as they came."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        found.setdefault(key >> 3, []).append(value)
    return found


def payload_in(element):
    data = base64.b64decode(element.text or "")
    return zlib.decompress(data) if element.get("encoding") == "zlib" else data


class Between:
    """A way to the server that sees every stanza. `keep(stanza)` says for one from the server whether it goes on now: True, False (lost), or `later`: behind the next one that goes."""

    def __init__(self, grid, keep=lambda stanza: True):
        self.keep, self.asked, self.brought, self.later = keep, b"", [], b""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.server = ("127.0.0.1", grid.port())
        self.profile = os.path.join(grid.folder, "between.toml")
        with open(os.path.join(grid.folder, "user.toml")) as file, open(self.profile, "w") as copy:
            copy.write(re.sub(r"(?m)^port = \d+", f"port = {self.listening.getsockname()[1]}", file.read()))
        os.chmod(self.profile, 0o600)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            server = socket.create_connection(self.server)
            threading.Thread(target=self.out, args=(client, server), daemon=True).start()
            threading.Thread(target=self.back, args=(server, client), daemon=True).start()

    def out(self, client, server):
        try:
            while data := client.recv(65536):
                self.asked += data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def back(self, server, client):
        """Stanzas of the level below the stream are told apart by their names: none has one of these within it."""
        rest = b""
        try:
            while data := server.recv(65536):
                rest += data
                while whole := re.match(rb"(?s).*?(?:</(iq|message|presence)>|<(?:iq|message|presence)[^<]*/>)", rest):
                    stanza, rest = whole.group(), rest[whole.end():]
                    self.brought.append(stanza)
                    goes = self.keep(stanza)
                    if goes == "later":
                        self.later += stanza
                    elif goes:
                        client.sendall(stanza + self.later)
                        self.later = b""
                if not re.search(rb"<(iq|message|presence)", rest):  # of the stream and the login
                    client.sendall(rest)
                    rest = b""
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listening.close()


class OnTheWire(unittest.IsolatedAsyncioTestCase):
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--workers", 1, "--slots", 2, *cls.options)
        for name in ("alice", "bob", "carol"):
            assert cls.grid.souk("user", "add", name).code == 0

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)

    async def person(self, name):
        person = await Person(self.grid, name).online()
        self.addAsyncCleanup(person.leave)
        return person

    async def ask(self, person, node, request, zipped=False):
        iq = person.client.make_iq_set(ito=MANAGER)
        iq["command"]["node"], iq["command"]["action"] = node, "execute"
        element = ElementTree.SubElement(iq["command"].xml, f"{{{JOB}}}{node}")
        element.text = base64.b64encode(zlib.compress(request) if zipped else request).decode()
        if zipped:
            element.set("encoding", "zlib")
        answer = await iq.send(timeout=PATIENCE)
        return fields(payload_in(answer.xml.find(f".//{{{JOB}}}{node}")))

    def of(self, name, *words):
        return self.grid.souk("--profile", os.path.join(self.grid.folder, "users", name + ".toml"), *words)


class Wire(OnTheWire):
    async def test_pages_of_jobs_go_on_below_a_number(self):
        carol = await self.person("carol")
        jobs = [int((await asyncio.to_thread(self.of, "carol", "submit", "--hold", "true")).out) for _ in range(5)]
        await asyncio.to_thread(self.of, "bob", "submit", "--hold", "true")
        pages, below = [], {}
        for _ in range(4):
            answer = await self.ask(carol, "status", message(f3=2, **below))  # limit
            self.assertIn(2, answer, "of the grid every page tells")
            pages.append([fields(job)[1][0] for job in answer.get(1, [])])
            below = {"f6": pages[-1][-1]} if pages[-1] else {}
        self.assertEqual(pages, [[jobs[4], jobs[3]], [jobs[2], jobs[1]], [jobs[0]], []])

    async def test_a_large_job_comes_in_one_stanza_too(self):
        alice = await self.person("alice")
        lines = b"".join(message(f1=b"%060d" % n) for n in range(1, 20_001))
        job = message(f2=message(f1=b"true"), f4=lines, f15=1)  # command, lines, hold
        answer = await self.ask(alice, "submit", message(f1=job, f4=b"large"), zipped=True)
        self.assertEqual(answer[2], [20_000])
        self.assertEqual((await self.ask(alice, "submit", message(f1=job, f4=b"large"), zipped=True))[1], answer[1], "the same key")
        for task in (1, 20_000):
            told = await asyncio.to_thread(self.of, "alice", "tasks", f"{answer[1][0]}.{task}", "--json")
            self.assertEqual(json.loads(told.out)["item"], f"{task:060}")
        with self.assertRaises(IqError) as refused:
            await self.ask(alice, "submit", message(f1=job + message(f14=1)), zipped=True)  # its deadline passed long ago
        self.assertEqual(refused.exception.condition, "not-acceptable")
        with open(os.path.join(self.grid.folder, "manager/audit.log"), encoding="utf-8") as log:
            self.assertTrue(any("refused" in line and "deadline" in line for line in log), "in the audit log, as of a small one")

    async def test_a_page_of_results_says_whether_the_next_task_waits(self):
        alice = await self.person("alice")
        go = os.path.join(self.grid.folder, "go")
        job = int((await asyncio.to_thread(self.of, "alice", "submit", "--array", "1-4", "--shell", f"test {{}} -lt 3 || while ! [ -e '{go}' ]; do sleep 0.02; done")).out)
        await asyncio.to_thread(until, lambda: self.grid.souk("--profile", os.path.join(self.grid.folder, "users/alice.toml"), "job", job, "--json").json[0]["succeeded"] == 2, "two have ended")

        async def page(**more):
            answer = await self.ask(alice, "results", message(f1=job, f6=1, **more))  # ended_only
            return [fields(result)[1][0] for result in answer.get(1, [])], answer.get(2, [0])[0], answer.get(6, [0])[0]
        self.assertEqual(await page(), ([1, 2], 3, 1))
        self.assertEqual(await page(f4=1), ([1], 2, 0), "full: the next one may have ended")
        self.assertEqual(await page(f2=3), ([], 3, 1))
        with open(go, "w"):
            pass
        self.assertEqual((await asyncio.to_thread(self.of, "alice", "wait", job)).code, 0)
        self.assertEqual(await page(), ([1, 2, 3, 4], 0, 0))

    def run_between(self, keep):
        between = Between(self.grid, keep)
        self.addCleanup(between.close)
        done = self.grid.souk("--profile", between.profile, "run", "sh", "-c", "echo told; exit 5")
        self.assertEqual((done.code, done.text), (5, "told\n"), (done, between.brought))
        events = [stanza for stanza in between.brought if b"type='headline'" in stanza or b'type="headline"' in stanza]
        return between, events, len(re.findall(rb"<results xmlns=['\"]urn:souk:job:1", between.asked))

    def test_the_news_of_the_end_of_one_task_bring_its_result(self):
        between, events, asked = self.run_between(lambda stanza: True)
        self.assertEqual(asked, 0, "nobody asks for what came")
        self.assertIn(b"<results", events[-1])
        result = fields(fields(payload_in(ElementTree.fromstring(re.search(rb"<results.*?</results>", events[-1]).group())))[1][0])
        self.assertEqual((result[1], fields(result[6][0])[8]), ([1], [b"told\n"]))

    def test_if_these_news_are_lost_the_result_is_asked_for(self):
        between, events, asked = self.run_between(lambda stanza: b"headline" not in stanza)
        self.assertTrue(any(b"<results" in event for event in events), "they were sent")
        self.assertEqual(asked, 1)

    def test_these_news_count_when_they_overtake_the_answer_to_the_submission_too(self):
        held = []

        def keep(stanza):  # the answer waits until the last news came
            if b"<submit" in stanza and not held:
                held.append(stanza)
                return "later"
            return not held or b"<results" in stanza or b"headline" not in stanza
        between, events, asked = self.run_between(keep)
        self.assertEqual(len(held), 1)
        self.assertLess(next(i for i, stanza in enumerate(between.brought) if b"<submit" in stanza), next(i for i, stanza in enumerate(between.brought) if b"<results" in stanza))
        self.assertEqual(asked, 0, "nobody asks for what came")

    def untold(self):
        with sqlite3.connect(f"file:{self.grid.folder}/manager/grid.sqlite?mode=ro".replace(" ", "%20"), uri=True) as db:
            return db.execute("SELECT count(*) FROM untold").fetchone()[0]

    def test_that_an_owner_was_told_is_on_disk_soon_though_nothing_else_is_written(self):
        self.assertEqual(self.grid.souk("run", "true").code, 0)
        until(self.no_untold, "the note that it was told", 10)

    def no_untold(self):
        return self.untold() == 0


class LittleMemory(OnTheWire):
    options = ("--memory-max", "16MiB")

    async def test_a_job_in_one_stanza_counts_as_what_it_is_inflated_to(self):
        alice = await self.person("alice")
        job = message(f2=message(f1=b"true"), f4=b"".join([message(f1=b"x" * 1000)] * 3000), f15=1)
        with self.assertRaises(IqError) as refused:
            await self.ask(alice, "submit", message(f1=job), zipped=True)
        self.assertEqual(refused.exception.condition, "not-acceptable")
        self.assertIn("larger than the 1.4 MiB of requests", refused.exception.text)


class End(unittest.TestCase):
    def test_that_an_owner_was_told_is_on_disk_when_the_manager_ends(self):
        grid = Grid("--workers", 1)
        try:
            self.assertEqual(grid.souk("run", "true").code, 0)
            self.assertEqual(grid.souk("down").code, 0)
            self.assertEqual(Wire.untold(type("", (), {"grid": grid})()), 0)
        finally:
            grid.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
