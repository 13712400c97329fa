#!/usr/bin/python3
"""Somebody with an account and no rights: poses as the manager to workers, takes others' names, looks like others, and floods everybody. Workers obey nobody but their manager, and
whoever uses the grid notices nothing."""
import asyncio
import base64
import os
import signal
import sys
import tempfile
import unittest
from xml.etree import ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostile import HOSTED, MANAGER, ROOM, SERVICE, Honest, OnAGrid, enters, log_of, sanitized, server_with
from grid import until
from people import DOMAIN, PATIENCE, Person
from wire_test import message

# Domains that look like the manager's or the people's: a suffix, a prefix, a Cyrillic letter. Whoever runs them makes what accounts they like.
LOOK_ALIKES = ["grid.souk.localhost.evil", "souk.localhost.evil", "xgrid.souk.localhost", "gr\u0456d.souk.localhost"]
PASSWORD = "knock-knock"
TASK, JOB = "urn:souk:task:1", "urn:souk:job:1"

HELLO = message(f1=1 << 30, f2=b"0.1.0", f3=30000)
ASSIGN = message(f1=1 << 30, f2=message(f1=1, f2=b"\x0a\x05touch\x0a\x10/tmp/souk-posed!"), f3=message(f1=1, f2=1, f3=1))
SUBMIT = message(f1=message(f2=b"\x0a\x04true"), f4=b"visitor")


class Visitor(OnAGrid):
    people = ("eve", "mallory", "nina")

    @classmethod
    def setUpClass(cls):
        server_with("".join(f'VirtualHost "{domain}"\n  authentication = "internal_plain"\n' for domain in LOOK_ALIKES),
                    [(name, domain, PASSWORD) for domain in LOOK_ALIKES for name in ("manager", "worker", "alice")])
        # Everybody may submit, wherever they come from, but for one: so that who asks is all that matters.
        policy = os.path.join(tempfile.mkdtemp(prefix="souk policy "), "policy.toml")
        with open(policy, "w") as file:
            file.write(f'[[rule]]\nname = "out"\nwho = "mallory@{DOMAIN}"\nroles = []\n[[rule]]\nname = "ours"\nwho = "@{DOMAIN}"\nroles = "submitter"\n'
                       f'[[rule]]\nname = "guests"\nwho = "@rooms.{DOMAIN}"\nroles = "submitter"\n')
        cls.options = ("--policy", policy)
        super().setUpClass()
        cls.worker = cls.grid.souk("workers", "--json").json[0]["jid"]

    async def person(self, name="eve", resource="phone", **more):
        person = await Person(self.grid, name, resource, ROOM, **more).online()
        self.addAsyncCleanup(person.leave)
        return person

    async def asked(self, person, to, element, payload, sender=None, space=TASK):
        iq = person.client.make_iq_set(ito=to, ifrom=sender)
        text = base64.b64encode(payload).decode()
        iq.append(ElementTree.fromstring(f"<command xmlns='http://jabber.org/protocol/commands' node='{element}' action='execute'><{element} xmlns='{JOB}'>{text}</{element}></command>" if space == JOB
                                         else f"<{element} xmlns='{TASK}'>{text}</{element}>"))
        answer = await person.answer_to(iq.send(timeout=PATIENCE))
        return answer if isinstance(answer, str) else "done"

    def runs(self, text="fine"):
        return asyncio.to_thread(lambda: self.assertEqual(self.grid.souk("run", "echo", text).text, text + "\n"))

    async def poses(self, person, sender=None):
        """All that a manager says, to the worker."""
        return {await self.asked(person, self.worker, element, payload, sender)
                for element, payload in (("hello", HELLO), ("assign", ASSIGN), ("command", message(f1=1, f3=b"x", f4=1)), ("stop", message(f1=message(f1=1, f2=1))))}

    async def test_a_worker_obeys_no_look_alike_of_its_manager(self):
        for domain in LOOK_ALIKES:
            manager = await self.person("manager", "souk", domain=domain, password=PASSWORD)
            self.assertEqual(await self.poses(manager), {"forbidden"}, domain)
            # Nor is it one of the people, or a worker.
            self.assertEqual(await self.asked(manager, SERVICE, "submit", SUBMIT, space=JOB), "forbidden", domain)
            worker = await self.person("worker", "worker-1", domain=domain, password=PASSWORD)
            self.assertIn(await self.asked(worker, MANAGER, "report", message(f1=message(f1=message(f1=1, f2=1, f3=1, f4=1)))), ("item-not-found", "forbidden"), domain)
            alice = await self.person("alice", domain=domain, password=PASSWORD)
            self.assertEqual(await self.asked(alice, SERVICE, "submit", SUBMIT, space=JOB), "forbidden", domain)
            await manager.leave(), await worker.leave(), await alice.leave()
        # The whole of the manager's address as a resource, and as a claim that the server overrules.
        eve = await self.person("eve", MANAGER)
        self.assertEqual(await self.poses(eve), {"forbidden"})
        self.assertIn(await self.poses(eve, sender=MANAGER), ({"forbidden"}, {"invalid-from"}))
        refused = log_of(self.grid, "worker-1")
        for who in ("manager@grid.souk.localhost.evil/souk", "manager@xgrid.souk.localhost/souk", f"eve@{DOMAIN}/{MANAGER}"):
            self.assertIn(f'refused from="{who}" condition=forbidden', refused)
        self.assertIn("grid itself uses it", self.grid.souk("user", "add", "manager").err)
        self.assertFalse(os.path.exists("/tmp/souk-posed!"))
        await self.runs()
        self.cost.check()

    async def test_what_is_asked_by_a_name_in_the_room_counts_for_nobody(self):
        mallory = await self.person("mallory")
        self.assertEqual(await self.asked(mallory, SERVICE, "submit", SUBMIT, space=JOB), "forbidden")
        await mallory.join()
        # A hosted room hands iqs on in the name that the asker has there: not the one that is shut out.
        for node, payload in (("submit", SUBMIT), ("status", b""), ("workers", b"")):
            self.assertIn(await self.asked(mallory, ROOM + "/manager", node, payload, space=JOB), ("forbidden", "service-unavailable"), node)
        self.assertIn(await self.asked(mallory, ROOM + "/worker-1", "assign", ASSIGN), ("forbidden", "service-unavailable", "item-not-found"))
        self.assertIn(await self.asked(mallory, ROOM + "/manager", "report", b""), ("item-not-found", "service-unavailable"))
        self.assertEqual(self.grid.souk("jobs", "--all", "--json").text.count("rooms." + DOMAIN), 0)
        await self.runs()

    async def test_nobody_takes_the_name_of_another(self):
        eve = await self.person("nina")  # what the other says in floods is counted
        names = ["manager", "worker-1", "\uff4danager"] + ([] if HOSTED else ["Manager", "MANAGER"])
        for taken in names:
            self.assertEqual(await enters(eve, taken), "conflict", taken)
        await eve.join("m\u0430nager")  # a Cyrillic a: another name, shown with its owner's address
        await eve.hears("manager")
        for taken in ("manager", "worker-1"):
            eve.client.send_presence(pto=f"{ROOM}/{taken}")
        await eve.ping(ROOM)
        self.assertIn("m\u0430nager", eve.seen)
        self.assertNotIn("-m\u0430nager 110 303", eve.heard)
        self.assertIn(await self.asked(eve, self.worker, "assign", ASSIGN), ("forbidden",))
        eve.room.leave_muc(ROOM, "m\u0430nager")
        await self.runs()
        self.assertNotIn("manager gone", log_of(self.grid, "worker-1"))

    @unittest.skipUnless(HOSTED, "a manager that serves its room leaves its name to nobody")
    async def test_who_takes_the_managers_name_while_it_is_away_is_nobody(self):
        eve = await self.person()
        await eve.join("eve")
        await eve.hears("manager")
        above = self.grid.state()["supervisor"]
        os.kill(above, signal.SIGSTOP)  # so that it starts no manager before eve has the name
        try:
            self.grid.kill("manager", signal.SIGTERM)
            await eve.hears("-manager")
            eve.client.send_presence(pto=f"{ROOM}/manager")
            await eve.hears("manager 110")
            self.assertEqual(await self.poses(eve), {"forbidden"})
            self.assertEqual(await self.asked(eve, ROOM + "/worker-1", "assign", ASSIGN), "forbidden")
        finally:
            os.kill(above, signal.SIGCONT)
        await self.runs("under another name")
        self.assertIn("manager-2", eve.seen)
        eve.room.leave_muc(ROOM, "manager")

    async def test_floods_keep_nobody_from_working(self):
        eve = await self.person()
        await eve.join("eve")
        raw = eve.client.send_raw

        def flood():
            for n in range(700):
                for to, what in ((self.worker, f"<assign xmlns='{TASK}'>AAAA</assign>"), (self.worker, "<command xmlns='http://jabber.org/protocol/commands' node='drain'/>"),
                                 (MANAGER, f"<report xmlns='{TASK}'>AAAA</report>"), (MANAGER, f"<lease xmlns='{TASK}'/>"), (SERVICE, "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
                                 (SERVICE, "<command xmlns='http://jabber.org/protocol/commands' node='submit' action='execute'/>"),
                                 (SERVICE, "<command xmlns='http://jabber.org/protocol/commands' node='workers' action='execute'/>")):
                    raw(f"<iq type='{'get' if 'disco' in what else 'set'}' id='f{n}' to='{to}'>{what}</iq>")
                raw(f"<presence to='{ROOM}/eve'><status>{n}</status></presence><presence to='{MANAGER}'/><presence to='{self.worker}'/>")
                raw(f"<message type='groupchat' to='{ROOM}'><body>{n}</body></message><message to='{MANAGER}'><body>{n}</body></message>")
                if n % 10 == 0:
                    raw(f"<presence type='unavailable' to='{ROOM}/eve'/><presence to='{ROOM}/eve-{n}'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
                yield n
        parts = ("server", "manager", "worker-1")
        before = {name: self.cost.processor(name) for name in parts}
        with Honest(self.grid) as honest:
            for n in flood():
                if n % 50 == 0:
                    await asyncio.sleep(0.01)  # 8,400 stanzas, as fast as the server takes them; their answers are read meanwhile
            for _ in range(60):
                if await eve.ping(SERVICE) == "pong":
                    break
            await asyncio.to_thread(until, lambda: len(honest.took) > 2, "honest tasks ran")
        spent = {name: self.cost.processor(name) - before[name] for name in parts}
        if not sanitized():
            self.assertLess(spent["manager"] + spent["worker-1"], spent["server"], "to refuse it costs less than to bring it")
        refused = log_of(self.grid, "worker-1")
        self.assertIn(f'refused from="eve@{DOMAIN}/phone" condition=forbidden', refused)
        self.assertLess(refused.count(f"eve@{DOMAIN}/phone"), 100)
        self.cost.check()


if __name__ == "__main__":
    unittest.main(verbosity=2)
