#!/usr/bin/python3
"""People in a market that the manager serves itself, with a stock client (slixmpp): who sees whom, who may talk, what admins can do, and what a client
finds out about the room (XEP-0045, XEP-0030, XEP-0410)."""
import asyncio
import os
import signal
import sys
import unittest

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError, PresenceError

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid

SERVICE, ROOM, DOMAIN = "grid.souk.localhost", "market@grid.souk.localhost", "souk.localhost"
MUC = "http://jabber.org/protocol/muc"
PATIENCE = 20


class Person:
    """One who is logged in, and what it was told of the room: `ada 110`, `(dnd)worker-1`, `-bob 307`, `ada: hello`."""

    def __init__(self, grid, name, resource="phone"):
        with open(os.path.join(grid.folder, "users", name + ".password")) as file:
            password = file.read().strip()
        self.name = name
        self.client = ClientXMPP(f"{name}@{DOMAIN}/{resource}", password)
        for plugin in ("xep_0030", "xep_0004", "xep_0045", "xep_0199"):
            self.client.register_plugin(plugin)
        self.room = self.client["xep_0045"]
        self.heard, self.changed, self.statuses = [], asyncio.Event(), {}
        self.up = asyncio.get_event_loop().create_future()
        self.client.add_event_handler("session_start", lambda _: self.up.done() or self.up.set_result(True))
        self.client.add_event_handler("groupchat_presence", self.on_presence)
        self.client.add_event_handler("groupchat_message", lambda m: self.note(f"{m['mucnick']}: {m['body']}"))
        self.client.add_event_handler("groupchat_message_error", lambda m: self.note(f"no: {m['error']['condition']}"))
        self.client.add_event_handler("message_error", lambda m: self.note(f"no: {m['error']['condition']}"))
        self.client.connect(("127.0.0.1", grid.port()), force_starttls=False, disable_starttls=True)

    def note(self, what):
        self.heard.append(what)
        self.changed.set()

    def on_presence(self, presence):
        codes = sorted(int(one.get("code")) for one in presence.xml.iter(f"{{{MUC}#user}}status"))
        kind = "-" if presence["type"] == "unavailable" else f"({presence['show']})" if presence["show"] else ""
        self.statuses[presence["muc"]["nick"]] = presence["status"]
        self.note(kind + presence["muc"]["nick"] + "".join(f" {code}" for code in codes))

    async def online(self):
        await asyncio.wait_for(self.up, PATIENCE)
        self.client.send_presence()
        return self

    async def join(self, nick=None):
        return await self.room.join_muc_wait(ROOM, nick or self.name, timeout=PATIENCE)

    async def hears(self, *all_of):
        async def wait():
            while not set(all_of) <= set(self.heard):
                self.changed.clear()
                await self.changed.wait()
        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"{self.name} never heard {set(all_of) - set(self.heard)}; heard {self.heard}")

    def say(self, body, to=ROOM, kind="groupchat"):
        self.client.send_message(mto=to, mbody=body, mtype=kind)

    async def answer_to(self, asked):
        try:
            return await asked
        except IqError as error:
            return error.condition

    async def ping(self, to):
        iq = self.client.make_iq_get(ito=to)
        iq.enable("ping")
        answer = await self.answer_to(iq.send(timeout=PATIENCE))
        return answer if isinstance(answer, str) else "pong"

    async def leave(self):
        await self.client.disconnect()


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
        person = await Person(self.grid, name, resource).online()
        self.addAsyncCleanup(person.leave)
        return person

    async def test_people_see_the_market_and_talk(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        inside = await alice.join()
        self.assertIn("Commands: manager@grid.souk.localhost", inside[1]["subject"])
        await alice.hears("manager", "worker-1", "worker-2", "alice 100 110")
        self.assertEqual({nick: (alice.room.get_jid_property(ROOM, nick, "affiliation"), alice.room.get_jid_property(ROOM, nick, "role")) for nick in alice.room.get_roster(ROOM)},
                         {"manager": ("owner", "moderator"), "worker-1": ("none", "visitor"), "worker-2": ("none", "visitor"), "alice": ("none", "participant")})
        self.assertEqual(alice.statuses["manager"], "2 workers")
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
        self.grid.kill("worker-1")
        await boss.hears("-worker-1")
        alice.heard.clear()
        await alice.hears("(xa)worker-1")
        alice.heard.clear()
        await boss.room.set_role(ROOM, "worker-1", "participant")
        await alice.hears("worker-1")
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
