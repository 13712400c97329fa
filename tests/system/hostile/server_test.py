#!/usr/bin/python3
"""A server that bounds nothing lets through what no stanza should be: a hundred megabytes, depth without end, millions of elements. Manager and worker read none of it into memory: they
refuse it, or give up the stream and come back, and go on with their work."""
import asyncio
import logging
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostile import MANAGER, ROOM, Cost, OnAGrid, log_of, server_with
from grid import until
from people import Person

MUC = "http://jabber.org/protocol/muc"
MONSTERS = {  # what is monstrous, and where it goes
    "text": ("<status>" + "x" * (100 << 20) + "</status>", "room", "worker"),
    "depth": ("<a>" * 2_000 + "</a>" * 2_000, "manager iq", "worker iq"),
    "elements": ("<a/>" * 300_000, "manager iq", "worker"),
}


class UnboundedServer(OnAGrid):
    people = ("eve",)

    @classmethod
    def setUpClass(cls):
        server_with(replaced=[("stanza_size_limit = [0-9]*", "stanza_size_limit = 1000000000"), ("component_stanza_size_limit = [0-9]*", "component_stanza_size_limit = 1000000000")])
        super().setUpClass()
        cls.worker = cls.grid.souk("workers", "--json").json[0]["jid"]

    async def test_what_no_stanza_should_be(self):
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # slixmpp leaves tasks behind
        cost = Cost(self.grid, manager_mib=128, worker_mib=128)  # 250,000 elements are 75 MiB
        places = {"room": ROOM + "/eve", "worker": self.worker, "manager": MANAGER}
        for what, (inside, *where) in MONSTERS.items():
            for place in where:
                with self.subTest(what=what, place=place):
                    to = places[place.split()[0]]
                    self.go += "."  # another for each
                    job = self.grid.submit("--shell", self.held("echo right"))
                    await asyncio.to_thread(until, lambda: self.grid.job(job)["running"] == 1, "it is at work while that comes")
                    eve = await Person(self.grid, "eve", what + place, ROOM).online(available=False)
                    eve.client.send_raw(f"<presence to='{to}'><x xmlns='{MUC}'/>{inside}</presence>" if "iq" not in place else f"<iq type='set' id='monster' to='{to}'><q xmlns='urn:q'>{inside}</q></iq>")
                    while eve.client.transport.get_write_buffer_size() > 0:
                        await asyncio.sleep(0.05)  # until the server has taken all of it
                    await asyncio.to_thread(until, lambda: self.grid.souk("status").code == 0, "the server, which does nothing else for seconds, is through with it")
                    self.may_end()
                    done = await asyncio.to_thread(lambda: self.grid.souk("wait", job))
                    self.assertEqual(done.code, 0, done)
                    self.assertEqual((await asyncio.to_thread(lambda: self.grid.souk("cat", job))).text, "right\n")
                    self.assertEqual((await asyncio.to_thread(lambda: self.grid.souk("run", "echo", what))).text, what + "\n")
                    cost.check()
                    await eve.leave()
        for name in ("manager", "worker-1"):
            await asyncio.to_thread(until, lambda: "one stanza of over 16 MiB" in log_of(self.grid, name), f"{name} gave up the stream")


if __name__ == "__main__":
    unittest.main(verbosity=2)
