"""People at the grid with a stock client (slixmpp): logged in, in the room, at the commands. For stories."""
import asyncio
import os

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError

DOMAIN = "souk.localhost"
MUC = "http://jabber.org/protocol/muc"
PATIENCE = 20


class Person:
    """One who is logged in. What it hears of the room is in `heard`, in order: `ada 110`, `(dnd)worker-1`, `-bob 307`, `ada: hello`."""

    def __init__(self, grid, name, resource="phone", room=None, domain=DOMAIN, password=None):
        if password is None:
            with open(os.path.join(grid.folder, "users", name + ".password")) as file:
                password = file.read().strip()
        self.name, self.jid, self.market = name, f"{name}@{domain}", room
        self.client = ClientXMPP(f"{self.jid}/{resource}", password)
        for plugin in ("xep_0030", "xep_0004", "xep_0050", "xep_0045", "xep_0199"):
            self.client.register_plugin(plugin)
        self.room = self.client["xep_0045"]
        self.heard, self.changed = [], asyncio.Event()
        self.seen = {}  # nick -> (show, or `unavailable`; status) in the room
        self.messages = asyncio.Queue()
        self.up = asyncio.get_event_loop().create_future()
        self.client.add_event_handler("session_start", lambda _: self.up.done() or self.up.set_result(True))
        self.client.add_event_handler("message", lambda m: m["type"] == "chat" and self.messages.put_nowait(m))
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
        gone = presence["type"] == "unavailable"
        nick = presence["muc"]["nick"]
        self.seen[nick] = ("unavailable" if gone else presence["show"], presence["status"])
        self.note(("-" if gone else f"({presence['show']})" if presence["show"] else "") + nick + "".join(f" {code}" for code in codes))

    async def online(self, available=True):
        await asyncio.wait_for(self.up, PATIENCE)
        if available:
            self.client.send_presence()
        return self

    async def join(self, nick=None):
        return await self.room.join_muc_wait(self.market, nick or self.name, timeout=PATIENCE)

    async def until(self, true, what):
        async def wait():
            while not true():
                self.changed.clear()
                await self.changed.wait()
        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"{self.name} never {what}; heard {self.heard}; sees {self.seen}")

    async def sees(self, true, what):
        await self.until(lambda: true(self.seen), "saw " + what)

    async def hears(self, *all_of):
        await self.until(lambda: set(all_of) <= set(self.heard), f"heard {all_of}")

    async def hears_in_order(self, *words, since):
        """One after the other, others between them; `since` is how many it had heard before."""
        def in_order():
            rest = iter(self.heard[since:])
            return all(word in rest for word in words)
        await self.until(in_order, f"heard {words} in this order")

    def say(self, body, to=None, kind="groupchat"):
        self.client.send_message(mto=to or self.market, mbody=body, mtype=kind)

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

    async def command(self, node, session=None, action="execute", to="grid.souk.localhost", **fields):
        iq = self.client.make_iq_set(ito=to)
        iq["command"]["node"], iq["command"]["action"] = node, action
        if session:
            iq["command"]["sessionid"] = session
        if fields:
            form = self.client["xep_0004"].make_form(ftype="submit")
            for var, value in fields.items():
                form.add_field(var=var, value=value)
            iq["command"].append(form)
        return (await iq.send(timeout=PATIENCE))["command"]

    async def message(self):
        return await asyncio.wait_for(self.messages.get(), PATIENCE)

    async def leave(self):
        await self.client.disconnect()
