#!/usr/bin/python3
"""People in a market that the manager serves itself, with a stock client (slixmpp): who sees whom, who may talk, what admins can do, and what a client
finds out about the room (XEP-0045, XEP-0030, XEP-0410)."""
import asyncio
import base64
import os
import signal
import sys
import unittest
from xml.etree import ElementTree

from slixmpp.exceptions import PresenceError
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid
from people import DOMAIN, MUC, PATIENCE, Person

SERVICE, ROOM = "grid.souk.localhost", "market@grid.souk.localhost"


class ServedMarket(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--workers", 2, "--slots", 1, "--admin", f"boss@{DOMAIN}")
        for name in ("alice", "bob", "boss", "eve"):
            assert cls.grid.souk("user", "add", name).code == 0

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)  # its remarks on slow steps would bury a failure

    async def person(self, name, resource="phone"):
        person = await Person(self.grid, name, resource, ROOM).online()
        self.addAsyncCleanup(person.leave)
        return person

    async def test_people_see_the_market_and_talk(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        inside = await alice.join()
        self.assertIn("Commands: manager@grid.souk.localhost", inside[1]["subject"])
        await alice.hears("manager", "worker-1", "worker-2", "alice 100 110")
        self.assertEqual({nick: (alice.room.get_jid_property(ROOM, nick, "affiliation"), alice.room.get_jid_property(ROOM, nick, "role")) for nick in alice.room.get_roster(ROOM)},
                         {"manager": ("owner", "moderator"), "worker-1": ("none", "visitor"), "worker-2": ("none", "visitor"), "alice": ("none", "participant")})
        await alice.sees(lambda seen: seen["manager"][1] == "2 workers", "how many there are")  # told once a second
        await bob.join()
        await alice.hears("bob")
        bob.say("hello")
        await alice.hears("bob: hello")
        await bob.hears("bob: hello")
        bob.say("psst", to=ROOM + "/alice", kind="chat")
        await bob.hears("no: feature-not-implemented")
        bob.room.set_subject(ROOM, "mine now")
        await bob.hears("no: forbidden")
        bob.room.leave_muc(ROOM, "bob")
        await alice.hears("-bob")

    async def test_a_name_is_one_persons(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        await alice.join("queen")
        for taken in ("queen", "manager", "worker-1"):
            with self.assertRaises(PresenceError) as refused:
                await bob.join(taken)
            self.assertEqual(refused.exception.condition, "conflict")
        await bob.join("king")
        await alice.hears("king")
        bob.client.send_presence(pto=ROOM + "/bishop")  # XEP-0045 §7.6
        await alice.hears("-king 303", "bishop")

    async def test_who_is_in_finds_out_by_pinging_itself(self):
        alice = await self.person("alice")
        self.assertEqual(await alice.ping(ROOM + "/alice"), "not-acceptable")
        await alice.join()
        self.assertEqual(await alice.ping(ROOM + "/alice"), "pong")
        self.assertEqual(await alice.ping(ROOM + "/nobody"), "item-not-found")
        alice.room.leave_muc(ROOM, "alice")
        self.assertEqual(await alice.ping(ROOM + "/alice"), "not-acceptable")
        self.assertEqual(await alice.ping(ROOM), "pong")
        self.assertEqual(await alice.ping(SERVICE), "pong")

    async def test_discovery_tells_of_the_service_and_the_room(self):
        alice = await self.person("alice")
        disco = alice.client["xep_0030"]
        service = (await disco.get_info(jid=SERVICE))["disco_info"]
        self.assertIn(("conference", "text"), {identity[:2] for identity in service["identities"]})
        self.assertLessEqual({MUC, "http://jabber.org/protocol/commands", "urn:souk:grid:1"}, set(service["features"]))
        self.assertEqual([item[0] for item in (await disco.get_items(jid=SERVICE))["disco_items"]["items"]], [ROOM])
        self.assertIn(ROOM + "/manager", {item[0] for item in (await disco.get_items(jid=ROOM))["disco_items"]["items"]})
        room = await disco.get_info(jid=ROOM)
        self.assertLessEqual({MUC, "muc_persistent", "muc_moderated", "muc_nonanonymous", "muc_open", "muc_public", "muc_unsecured"}, set(room["disco_info"]["features"]))
        told = {field.get("var"): "".join(field.itertext()) for field in room.xml.iter("{jabber:x:data}field")}
        self.assertEqual(told["muc#roominfo_occupants"], "3")
        manager = (await disco.get_info(jid="manager@grid.souk.localhost/souk"))["disco_info"]
        self.assertNotIn(MUC, manager["features"])
        for wrong in (ROOM + "/worker-1", "other@grid.souk.localhost"):
            self.assertNotIn("muc_open", str(await alice.answer_to(disco.get_info(jid=wrong))))
        with self.assertRaises(PresenceError) as refused:
            await alice.room.join_muc_wait("other@grid.souk.localhost", "alice", timeout=PATIENCE)
        self.assertEqual(refused.exception.condition, "item-not-found")

    async def test_a_worker_that_says_hello_is_greeted_in_the_stanza_that_lets_it_in(self):
        offer = []  # the caps hash of worker-1, whose offer the manager knows

        def look(presence):
            caps = presence.xml.find("{http://jabber.org/protocol/caps}c")
            if presence["muc"]["nick"] == "worker-1" and caps is not None and presence["type"] != "unavailable":
                offer[:] = [caps.get("ver")]
        alice = await self.person("alice")
        alice.client.add_event_handler("groupchat_presence", look)
        await alice.join()
        await alice.hears("worker-1")

        def varint(number):
            return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)

        version = self.grid.souk("--version").text.split()[-1].encode()

        async def joins(nick, ver, epoch_seen):
            """What one hears that joins with a hello, until it was greeted in either way: names of presences, `hello` behind them if it rode there, or an iq's `asked`."""
            one = Person(self.grid, "alice", nick, ROOM)
            self.addAsyncCleanup(one.leave)
            heard, greeted = [], asyncio.Event()

            def on_stanza(stanza):
                hello = stanza.find("{urn:souk:task:1}hello")
                if stanza.tag.endswith("presence") and stanza.get("from", "").startswith(ROOM):
                    heard.append(stanza.get("from").split("/")[1] + (" hello of " + hello.get("nick") if hello is not None else ""))
                if stanza.tag.endswith("iq") and hello is not None:
                    heard.append("asked")
                if hello is not None:
                    greeted.set()
            one.client.register_handler(Callback("all", MatchXPath("{jabber:client}presence"), lambda stanza: on_stanza(stanza.xml)))
            one.client.register_handler(Callback("iqs", MatchXPath("{jabber:client}iq"), lambda stanza: on_stanza(stanza.xml)))
            await one.online(available=False)
            presence = one.client.make_presence(pto=f"{ROOM}/{nick}")
            hello = b"\x0a" + varint(len(version)) + version + b"\x10\x01\x40" + varint(epoch_seen)
            for text in (f"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://souk.invalid/caps' ver='{ver}'/>", f"<x xmlns='{MUC}'/>",
                         f"<hello xmlns='urn:souk:task:1'>{base64.b64encode(hello).decode()}</hello>"):
                presence.append(ElementTree.fromstring(text))
            presence.send()
            await asyncio.wait_for(greeted.wait(), PATIENCE)
            return heard
        listed = lambda: {one["worker"] for one in self.grid.souk("workers", "--json").json}
        self.assertEqual(await joins("quick", offer[0], 1), ["quick hello of manager"])
        self.assertIn("quick", await asyncio.to_thread(listed))
        # Who has obeyed a later manager has to say so in its own words.
        self.assertEqual(await joins("late", offer[0], 1000), ["manager", "late", "asked"])

    async def test_the_settings_can_be_read_and_not_changed(self):
        alice = await self.person("alice")
        form = await alice.room.get_room_config(ROOM)
        values = form.get_values()
        self.assertEqual((values["muc#roomconfig_moderatedroom"], values["muc#roomconfig_whois"], values["muc#roomconfig_persistentroom"]), (True, "anyone", True))
        form["type"] = "submit"
        self.assertEqual(await alice.answer_to(alice.room.set_room_config(ROOM, form)), "not-allowed")
        self.assertEqual(await alice.answer_to(alice.room.destroy(ROOM)), "not-allowed")
        self.assertEqual((await alice.ping(ROOM)), "pong")

    async def test_an_admin_kicks_a_person_and_drains_a_worker(self):
        alice, boss = await self.person("alice"), await self.person("boss")
        await alice.join()
        await boss.join()
        await alice.hears("boss")
        self.assertEqual(alice.room.get_jid_property(ROOM, "boss", "role"), "moderator")
        self.assertEqual(await alice.answer_to(alice.room.set_role(ROOM, "boss", "none")), "forbidden")
        self.assertEqual(await boss.answer_to(boss.room.set_role(ROOM, "manager", "none")), "not-allowed")
        await boss.room.set_role(ROOM, "worker-1", "none")
        await alice.hears("(xa)worker-1")
        states = lambda: {one["worker"]: one["state"] for one in self.grid.souk("workers", "--json").json}
        self.assertEqual(await asyncio.to_thread(states), {"worker-1": "draining", "worker-2": "free"})
        done = await asyncio.to_thread(lambda: self.grid.souk("run", "--array", "1-4", "sh", "-c", "echo $SOUK_WORKER"))
        self.assertEqual(set(done.text.split()), {"worker-2"}, done)
        # Its next life is the same worker.
        before = len(alice.heard)
        self.grid.kill("worker-1")
        await alice.hears_in_order("-worker-1", "(xa)worker-1", since=before)
        before = len(alice.heard)
        await boss.room.set_role(ROOM, "worker-1", "participant")
        await alice.hears_in_order("worker-1", since=before)
        self.assertEqual(await asyncio.to_thread(states), {"worker-1": "free", "worker-2": "free"})
        await boss.room.set_role(ROOM, "alice", "none", reason="too loud")
        await alice.hears("-alice 110 307")
        await alice.join()

    async def test_who_is_banned_stays_out_also_of_the_next_life(self):
        eve, boss = await self.person("eve"), await self.person("boss")
        await eve.join()
        await boss.join()
        self.assertEqual(await eve.answer_to(eve.room.set_affiliation(ROOM, "outcast", jid=f"alice@{DOMAIN}")), "forbidden")
        self.assertEqual(await boss.answer_to(boss.room.set_affiliation(ROOM, "outcast", jid=f"boss@{DOMAIN}")), "not-allowed")
        await boss.room.set_affiliation(ROOM, "outcast", jid=f"eve@{DOMAIN}")
        await eve.hears("-eve 110 301")
        await boss.hears("-eve 301")
        self.assertEqual(await boss.room.get_affiliation_list(ROOM, "outcast"), [f"eve@{DOMAIN}"])
        boss.heard.clear()
        self.grid.kill("manager")
        await boss.hears("-boss 110 332")  # the next life tells it to come in again
        await boss.join()
        with self.assertRaises(PresenceError) as refused:
            await eve.join()
        self.assertEqual(refused.exception.condition, "forbidden")
        await boss.room.set_affiliation(ROOM, "none", jid=f"eve@{DOMAIN}")
        await eve.join()

    async def test_a_manager_that_stops_says_so_and_people_and_workers_come_back(self):
        alice = await self.person("alice")
        await alice.join()
        alice.heard.clear()
        self.grid.kill("manager", signal.SIGTERM)
        await alice.hears("-alice 110 332")
        alice.heard.clear()
        await alice.hears("-alice 110 332")  # of the next life: a client that came back too early, and heard that nobody is there, comes again
        alice.heard.clear()
        await alice.join()
        await alice.hears("manager", "worker-1", "worker-2")
        done = await asyncio.to_thread(lambda: self.grid.souk("run", "echo", "back"))
        self.assertEqual(done.text, "back\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
