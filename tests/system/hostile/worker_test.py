#!/usr/bin/python3
"""A worker that lies: about tasks that it never got, about its own twice, with what it said in another life, after it was banned, and in masses. Written against PROTOCOL.md with a
stock XMPP library. What others run is theirs, results that count are those of who was given the task, and the manager serves everybody else meanwhile."""
import asyncio
import base64
import os
import random
import signal
import sys
import unittest
import zlib
from xml.etree import ElementTree

from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostile import HOSTED, MANAGER, ROOM, Cost, Honest, OnAGrid, enters, log_of
from grid import until
from people import DOMAIN, PATIENCE, Person
from wire_test import fields, message, payload_in, varint

TASK, INFO = "urn:souk:task:1", "http://jabber.org/protocol/disco#info"
SEAL_BITS = 24  # of an attempt's number, below the manager's own: docs/SECURITY.md
FORGED = "2026-01-01T00:00:00.000 info worker joined worker=99 jid=ada@souk.localhost/desk"


def attempt(epoch, number, job, task):
    return message(f1=epoch, f2=number, f3=job, f4=task)


def result(of, out):
    return message(f1=of, f2=message(f5=1000, f8=out, f10=len(out)))


def many(field, what):
    """A repeated field: many(1, [b"...", b"..."])."""
    return b"".join(varint(field << 3 | 2) + varint(len(one)) + one for one in what)


class Liar(Person):
    """Joins the market as a worker, takes what it is given, and runs nothing."""

    def __init__(self, grid, name, resource="liar", slots=4, version="0.1.0"):
        super().__init__(grid, name, resource, ROOM)
        self.slots, self.version, self.epoch, self.given, self.stopped, self.greetings = slots, version, 0, [], [], 0
        self.answer_to_assign = self.held = b""
        self.client.remove_handler("Disco Info")
        self.client.register_handler(Callback("souk", MatchXPath("{jabber:client}iq"), self.on_iq))

    def on_iq(self, iq):
        if iq["type"] not in ("get", "set"):
            return
        element = next(iter(iq.xml), None)
        if element.tag == f"{{{INFO}}}query":
            field = lambda var, value: f"<field var='{var}'><value>{value}</value></field>"
            form = field("FORM_TYPE", "urn:souk:offer:1") + "".join(field(*one) for one in {"slots": self.slots, "cpus": self.slots, "memory-bytes": 1 << 40, "disk-bytes": 1 << 40, "os": "linux", "arch": "x86_64"}.items())
            return self.answer(iq, f"<query xmlns='{INFO}' node='{element.get('node', '')}'><feature var='{TASK}'/><x xmlns='jabber:x:data' type='result'>{form}</x></query>")
        if element.tag == f"{{{TASK}}}hello":
            hello = fields(payload_in(element))
            self.epoch, self.greetings = hello[1][0], self.greetings + 1
            self.answer(iq, f"<hello xmlns='{TASK}'>{self.text(message(f1=self.version.encode(), f2=self.slots, f5=('busy' + chr(10) + FORGED).encode()) + self.held)}</hello>")
        elif element.tag == f"{{{TASK}}}assign":
            for one in fields(payload_in(element)).get(3, []):
                part = fields(one)
                self.given.append((self.epoch, part[1][0], part[2][0], part[3][0]))
            self.answer(iq, self.payload("assign", self.answer_to_assign))
        elif element.tag == f"{{{TASK}}}stop":
            self.stopped += fields(payload_in(element)).get(1, [])
            self.answer(iq, "")
        self.changed.set()

    @staticmethod
    def text(data):
        return base64.b64encode(data).decode()

    def payload(self, name, data):
        return f"<{name} xmlns='{TASK}' encoding='zlib'>{self.text(zlib.compress(data))}</{name}>" if len(data) > 512 else f"<{name} xmlns='{TASK}'>{self.text(data)}</{name}>"

    def answer(self, iq, inside):
        self.client.send_raw(f"<iq type='result' id='{iq['id']}' to='{iq['from']}'>{inside}</iq>")

    def comes_in(self):
        self.client.send_raw(f"<presence to='{ROOM}/{self.client.boundjid.resource}'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://souk.invalid/caps' ver='mine'/>"
                             "<x xmlns='http://jabber.org/protocol/muc'/></presence>")

    async def works(self):
        before = self.greetings
        self.comes_in()
        await self.until(lambda: self.greetings > before, "was greeted")
        return self

    async def says(self, name, data):
        """The condition of the refusal, or `taken`."""
        iq = self.client.make_iq_set(ito=MANAGER)
        iq.append(ElementTree.fromstring(self.payload(name, data)))
        answer = await self.answer_to(iq.send(timeout=PATIENCE))
        return answer if isinstance(answer, str) else "taken"

    def reports(self, *results):
        return self.says("report", many(1, results))


class LyingWorker(OnAGrid):
    options, people = ("--admin", f"boss@{DOMAIN}"), ("mallory", "boss")

    async def liar(self, resource="liar", **more):
        liar = await Liar(self.grid, "mallory", resource, **more).online(available=False)
        self.addAsyncCleanup(liar.leave)
        return await liar.works()

    async def submit(self, *words):
        return await asyncio.to_thread(self.grid.submit, *words)

    async def results(self, job):
        self.assertEqual((await asyncio.to_thread(lambda: self.grid.souk("wait", job))).code, 0)
        return (await asyncio.to_thread(lambda: self.grid.souk("cat", job))).text.splitlines()

    def dropped(self, job, why):
        return [line for line in log_of(self.grid, "manager").splitlines() if f"dropped result task={job}." in line and why in line]

    async def test_what_it_says_of_tasks_it_never_got_changes_nothing(self):
        liar = await self.liar()
        mine = await self.submit("--require", 'name == "liar"', "true")
        await liar.until(lambda: liar.given, "was given a task, and so learned how far the numbers are")
        last, chance = liar.given[-1][1] >> SEAL_BITS, random.Random(17)
        self.assertEqual(await liar.reports(result(attempt(*liar.given[-1]), b"")), "taken")
        await self.results(mine)
        job = await self.submit("--require", 'name == "worker-1"', "--array", "1-8", "--shell", self.held("echo right {}"))
        await asyncio.to_thread(until, lambda: self.grid.job(job)["running"] == 2, "two run")

        def guesses(*epochs):
            """Every attempt that there may be; what follows the number in it can only be guessed."""
            return [attempt(epoch, number << SEAL_BITS | chance.getrandbits(SEAL_BITS), job, task) for epoch in epochs for number in range(last + 1, last + 25) for task in (1, 2, 8)]

        async def says(*epochs):
            """Done, handed back, and held by it."""
            odd = [attempt(liar.epoch, 1, 2**64 - 1, 1), attempt(liar.epoch, 2, job, 2**64 - 1), attempt(liar.epoch, 3, job, 0), b""]
            self.assertEqual(await liar.reports(*(result(one, b"wrong\n") for one in guesses(*epochs) + odd)), "taken")
            self.assertEqual(await liar.says("report", many(2, guesses(*epochs) + odd)), "taken")
            self.assertEqual(await liar.says("lease", many(1, guesses(*epochs) + odd)), "taken")
        before = liar.epoch
        await says(before, 0, before - 1, before + 1, 2**64 - 1)
        # The manager's next life knows of what runs by what workers claim. The liar is the first to be asked.
        liar.held = many(4, guesses(before))
        honest = self.grid.pid("worker-1")
        os.kill(honest, signal.SIGSTOP)
        try:
            self.grid.kill("manager")
            async with asyncio.timeout(PATIENCE):
                while liar.epoch == before:
                    if not HOSTED:  # there it is still in the room
                        liar.comes_in()
                    await asyncio.sleep(0.1)
            await says(before)
        finally:
            os.kill(honest, signal.SIGCONT)
        self.may_end()
        self.assertGreater(liar.epoch, before)
        self.assertEqual(await self.results(job), [f"right {n}" for n in range(1, 9)])
        tasks = (await asyncio.to_thread(lambda: self.grid.souk("tasks", job, "--json"))).json
        self.assertEqual({(task["worker"], task["attempts"]) for task in tasks}, {("worker-1", 1)})
        self.assertTrue(self.dropped(job, "never given to this worker"))
        await liar.until(lambda: liar.stopped, "was told to stop what it does not have")
        # Of malformed ones it hears what is wrong.
        for wrong in (b"\xff" * 100, many(1, [b"\xff\xff"]), many(1, [message(f1=attempt(1, 1, job, 1), f2=message(f8=b"long", f10=1))])):
            self.assertEqual(await liar.says("report", wrong), "bad-request")
        self.cost.check(same_life=False)

    async def test_what_it_was_given_it_says_once(self):
        liar = await self.liar("twice")
        job = await self.submit("--require", 'name == "twice"', "--retries", "3", "true")
        await liar.until(lambda: liar.given, "was given the task")
        mine = attempt(*liar.given[-1])
        other = await self.liar("accomplice")
        # Another stream of the same account, with the very bytes.
        self.assertEqual(await other.reports(result(mine, b"of the accomplice\n")), "taken")
        self.assertEqual(await liar.reports(result(mine, b"first\n"), result(mine, b"second\n")), "taken")
        self.assertEqual(await liar.reports(result(mine, b"third\n")), "taken")
        self.assertEqual(await self.results(job), ["first"])
        self.assertEqual(len(self.dropped(job, "")), 3)
        # In the manager's next life what it recorded is as old as it is.
        self.grid.kill("manager")
        await asyncio.to_thread(until, lambda: self.grid.souk("run", "--require", 'name == "worker-1"', "echo", "back").text == "back\n", "the next life works")
        again = await self.submit("--require", 'name == "twice"', "true")
        self.assertIn(await liar.reports(result(mine, b"of another life\n")), ("item-not-found", "service-unavailable", "taken"))
        if liar.epoch == liar.given[0][0]:  # it joins again where it has to; in a hosted room it is still there, and was greeted anew
            await liar.works()
        await liar.until(lambda: liar.given[-1][2] == again, "was given the new task")
        now = liar.given[-1]
        self.assertGreater(now[0], liar.given[0][0])
        replayed = [mine, attempt(liar.given[0][0], now[1], again, 1), attempt(now[0], liar.given[0][1] + 999, again, 1)]
        self.assertEqual(await liar.reports(*(result(one, b"replayed\n") for one in replayed)), "taken")
        self.assertEqual(await liar.reports(result(attempt(*now), b"new\n")), "taken")
        self.assertEqual((await self.results(job), await self.results(again)), (["first"], ["new"]))

    async def test_who_is_banned_says_nothing_any_more(self):
        liar = await self.liar()
        job = await self.submit("--rank", 'name == "liar"', "--shell", "echo right")
        await liar.until(lambda: liar.given, "was given the task")
        mine = attempt(*liar.given[-1])
        boss = ("--profile", os.path.join(self.grid.folder, "users", "boss.toml"))
        done = await asyncio.to_thread(lambda: self.grid.souk(*boss, "workers", "ban", f"mallory@{DOMAIN}"))
        self.assertEqual(done.code, 0, done)
        try:
            await asyncio.to_thread(until, lambda: len(self.grid.souk("workers", "--json").json) == 1, "it is out")
            for name, data in (("report", many(1, [result(mine, b"wrong\n")])), ("report", many(2, [mine])), ("lease", many(1, [mine]))):
                self.assertEqual(await liar.says(name, data), "item-not-found", name)
            self.assertEqual(await self.results(job), ["right"])
            for resource in ("liar", "another"):
                back = await Liar(self.grid, "mallory", resource).online(available=False)
                self.addAsyncCleanup(back.leave)
                self.assertEqual(await enters(back, resource), "forbidden")
                self.assertEqual(await back.says("lease", b""), "item-not-found")
            self.assertEqual(back.greetings + liar.greetings, 1)
        finally:
            await asyncio.to_thread(lambda: self.grid.souk(*boss, "workers", "unban", f"mallory@{DOMAIN}"))

    async def test_one_of_another_version_does_not_work_though_it_would(self):
        liar = await self.liar("old", version="9.0.0")
        await asyncio.to_thread(until, lambda: f'cannot greet jid={liar.client.boundjid.full} why="it is version 9.0.0"' in log_of(self.grid, "manager"), "the manager says so")
        self.assertNotIn("old", [worker["worker"] for worker in (await asyncio.to_thread(lambda: self.grid.souk("workers", "--json"))).json])

    async def test_a_ban_hits_whom_it_names_and_not_who_took_that_for_a_name(self):
        decoy = f"decoy@{DOMAIN}"
        boss = ("--profile", os.path.join(self.grid.folder, "users", "boss.toml"))
        liar = await Liar(self.grid, "mallory", decoy).online(available=False)
        self.addAsyncCleanup(liar.leave)
        self.assertEqual(await enters(liar, decoy), "in" if HOSTED else "not-acceptable")
        done = await asyncio.to_thread(lambda: self.grid.souk(*boss, "workers", "ban", decoy))
        try:
            self.assertEqual((done.code, done.text), (0, decoy + "\n"), done)
        finally:
            await asyncio.to_thread(lambda: self.grid.souk(*boss, "workers", "unban", decoy, f"mallory@{DOMAIN}"))

    async def test_masses_of_it_keep_nobody_waiting(self):
        cost = Cost(self.grid, manager_mib=160)  # a report of 90,000 results takes 70 MiB while it is read
        liar = await self.liar("legion", slots=1024)
        theirs = await self.submit("--require", 'name == "worker-1"', "--shell", self.held("echo right"))
        # A million refusals in each answer to what it is given.
        liar.answer_to_assign = varint(1 << 3 | 2) + varint(1_000_000) + b"\x01" * 1_000_000
        bomb = await self.submit("--require", 'name == "legion"', "--array", "1-100000", "true")
        every = lambda field: many(field, [attempt(liar.epoch, 1, theirs, 1)] * 90_000)
        masses = [liar.payload("lease", every(1)), liar.payload("report", every(2)), liar.payload("report", many(1, [result(attempt(liar.epoch, 1, theirs, 1), b"wrong\n")] * 90_000)),
                  liar.payload("report", many(3, [message(f1=attempt(liar.epoch, n, theirs, 1), f4=b"x" * 30) for n in range(5000)]))]
        for one in masses:
            self.assertLess(len(one), 512 << 10)
        with Honest(self.grid) as honest:
            for n in range(200):
                liar.client.send_raw(f"<iq type='set' id='m{n}' to='{MANAGER}'>{masses[n % len(masses)]}</iq>")
                await asyncio.sleep(0.02)
            await asyncio.to_thread(until, lambda: len(honest.took) > 2, "honest tasks ran")
        self.may_end()
        self.assertEqual(await self.results(theirs), ["right"])
        self.assertEqual((await asyncio.to_thread(lambda: self.grid.souk("cancel", bomb))).code, 0)
        self.assertNotIn(FORGED, log_of(self.grid, "manager").splitlines(), "no entry of the log is its own")
        self.assertIn("busy\\n" + FORGED, log_of(self.grid, "manager"))
        cost.check()


if __name__ == "__main__":
    unittest.main(verbosity=2)
