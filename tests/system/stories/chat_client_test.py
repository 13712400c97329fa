#!/usr/bin/python3
"""A stock client (slixmpp) uses the grid as a person would: service discovery, the room, commands by forms only, and messages."""
import asyncio
import os
import sys
import unittest
from xml.etree import ElementTree

from slixmpp.exceptions import IqError, IqTimeout

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid, HOSTED
from people import PATIENCE, Person

MANAGER, ROOM = "grid.souk.localhost", "market@rooms.souk.localhost" if HOSTED else "market@grid.souk.localhost"


def values(command):
    return {field["var"]: field["value"] for field in command["form"].get_fields().values() if field["var"]}


def text_of(command):
    return str(command)


class ChatClient(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--workers", 1, "--slots", 2)
        for name in ("alice", "bob"):
            assert cls.grid.souk("user", "add", name).code == 0

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)  # its remarks on slow steps would bury a failure

    async def person(self, name):
        person = await Person(self.grid, name).online()
        self.addAsyncCleanup(person.leave)
        return person

    async def test_discovers_the_commands_and_the_room(self):
        alice = await self.person("alice")
        items = await alice.client["xep_0050"].get_commands(MANAGER)
        self.assertEqual({item[1] for item in items["disco_items"]["items"]}, {"submit", "status", "results", "cancel", "workers", "why", "hold", "release", "rerun", "invite", "invitations", "revoke"})
        info = await alice.client["xep_0030"].get_info(jid=MANAGER)
        self.assertIn("http://jabber.org/protocol/commands", info["disco_info"]["features"])
        room = await alice.client["xep_0030"].get_info(jid=ROOM)
        self.assertLessEqual({"muc_persistent", "muc_moderated", "muc_nonanonymous"}, set(room["disco_info"]["features"]))

    async def test_submits_by_form_hears_of_the_end_and_reads_the_results(self):
        alice = await self.person("alice")
        asked = await alice.command("submit")
        self.assertEqual(asked["status"], "executing")
        self.assertIn("<actions", text_of(asked))
        self.assertIn("<complete", text_of(asked))
        done = await alice.command("submit", asked["sessionid"], "complete", command="echo $SOUK_ITEM of {}", items=["a b", "", "c'd"], name="my first", retries="0")
        self.assertEqual(done["status"], "completed")
        job = values(done)["job"]
        self.assertEqual(values(done)["tasks"], "2")
        self.assertNotIn("<reported", text_of(done))
        message = await alice.message()
        self.assertIn(f"Job {job} \"my first\" succeeded", message["body"])
        asked = await alice.command("results")
        self.assertEqual(values(asked)["job"], job)  # the newest is filled in
        results = await alice.command("results", asked["sessionid"], "complete", job=job, task="1", failed="0")
        self.assertEqual(results["status"], "completed")
        self.assertIn("a b of a b", text_of(results))
        self.assertIn("c'd of c'd", text_of(results).replace("&apos;", "'"))
        status = await alice.command("status")
        self.assertEqual(status["status"], "completed")
        self.assertIn("my first", text_of(status))
        self.assertIn("worker-1", text_of(await alice.command("workers")))

    async def test_a_mistake_is_told_on_the_form_and_can_be_mended(self):
        alice = await self.person("alice")
        asked = await alice.command("submit")
        for wrong, reason in (({"command": ""}, "command"), ({"command": "hostname", "retries": "many"}, "many"), ({"command": "hostname", "time_limit": "90"}, "unit"),
                              ({"command": "hostname", "array": "9-1"}, "9-1"), ({"command": "hostname", "env": "novalue"}, "novalue")):
            again = await alice.command("submit", asked["sessionid"], "complete", **wrong)
            self.assertEqual(again["status"], "executing", wrong)
            first = again["form"]["instructions"].splitlines()[0]
            self.assertIn("Not done", first)
            self.assertIn(reason, first)
            self.assertEqual(values(again)["command"], wrong["command"])  # what was typed stays
        done = await alice.command("submit", asked["sessionid"], "complete", command="hostname")
        self.assertEqual(done["status"], "completed")
        await alice.message()

    async def test_sessions_end_and_belong_to_one_person(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        asked = await alice.command("submit")
        stolen = await bob.command("submit", asked["sessionid"], "complete", command="hostname")
        self.assertEqual(stolen["status"], "completed")
        self.assertIn("Start the command again", text_of(stolen))
        canceled = await alice.command("submit", asked["sessionid"], "cancel")
        self.assertEqual(canceled["status"], "canceled")
        late = await alice.command("submit", asked["sessionid"], "complete", command="hostname")
        self.assertIn("Start the command again", text_of(late))
        for node in ("nonsense", ""):
            with self.assertRaises(IqError) as refused:
                await alice.command(node)
            self.assertIn(refused.exception.condition, ("item-not-found", "bad-request"))

    async def test_nobody_sees_or_cancels_anothers_job(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        asked = await alice.command("submit")
        job = values(await alice.command("submit", asked["sessionid"], "complete", command="echo hush; sleep 60", name="private"))["job"]
        self.assertNotIn("private", text_of(await bob.command("status")))
        for node in ("results", "cancel"):
            asked = await bob.command(node)
            answer = await bob.command(node, asked["sessionid"], "complete", job=job)
            self.assertEqual(answer["status"], "executing")
            self.assertIn("no job", answer["form"]["instructions"])
            self.assertNotIn("hush", text_of(answer))
        asked = await alice.command("cancel")
        self.assertEqual(values(asked)["job"], job)
        answer = await alice.command("cancel", asked["sessionid"], "complete", job=job)
        self.assertEqual(answer["status"], "completed")
        self.assertIn("canceled", (await alice.message())["body"])

    async def done(self, person, node, **fields):
        asked = await person.command(node)
        answer = await person.command(node, asked["sessionid"], "complete", **fields)
        self.assertEqual(answer["status"], "completed", text_of(answer))
        return answer

    async def test_a_held_job_says_why_it_waits_and_goes_on_when_released(self):
        alice = await self.person("alice")
        job = values(await self.done(alice, "submit", command="echo went on", hold="1", name="patient"))["job"]
        self.assertIn("held", values(await self.done(alice, "why", job=job))["why"])
        self.assertIn("held", text_of(await alice.command("status")))
        asked = await alice.command("release")
        self.assertEqual(values(asked)["job"], job)  # the one that is held is filled in
        await self.done(alice, "release", job=job)
        self.assertIn("succeeded", (await alice.message())["body"])
        self.assertIn("succeeded on worker-1", values(await self.done(alice, "why", job=job, task="1"))["why"])

    async def test_a_request_that_nobody_can_run_is_warned_of_and_explained(self):
        alice = await self.person("alice")
        tried = values(await self.done(alice, "submit", command="train", memory="900TiB", dry_run="1"))
        self.assertNotIn("job", tried)
        self.assertIn("memory", text_of(tried["warning"]))
        done = values(await self.done(alice, "submit", command="train", memory="900TiB", requirement="memroy > 1"))
        self.assertIn("did you mean memory?", text_of(done["warning"]))
        why = values(await self.done(alice, "why", job=done["job"], task="1"))
        self.assertIn("none of the 1 worker", why["why"])
        await self.done(alice, "cancel", job=done["job"])
        await alice.message()

    async def test_what_failed_runs_again_and_its_history_stays(self):
        alice = await self.person("alice")
        sign = os.path.join(self.grid.folder, "sign")
        job = values(await self.done(alice, "submit", command=f"test {{}} = good || test -e '{sign}' || {{ echo no sign >&2; exit 3; }}", items=["good", "bad"]))["job"]
        self.assertIn("1 failed", (await alice.message())["body"])
        self.assertIn("task " + job + ".2 on worker-1: exit code 3", text_of(await self.done(alice, "why", job=job)))
        with open(sign, "w"):
            pass
        self.assertEqual(values(await self.done(alice, "rerun", job=job))["tasks"], "1")
        self.assertIn("2 of 2 tasks succeeded", (await alice.message())["body"])
        history = text_of(await self.done(alice, "why", job=job, task="2"))
        self.assertIn("exit code 3", history)
        self.assertIn("no sign", history)
        asked = await alice.command("rerun")
        refused = await alice.command("rerun", asked["sessionid"], "complete", job=job)
        self.assertIn("every task", refused["form"]["instructions"])

    async def test_an_owner_who_is_offline_reads_the_outcome_later(self):
        alice = await Person(self.grid, "alice").online()
        asked = await alice.command("submit")
        job = values(await alice.command("submit", asked["sessionid"], "complete", command="sleep 1.5; exit 3", name="later"))["job"]
        await alice.leave()
        bob = await self.person("bob")  # keeps the loop busy until the job ended
        profile = os.path.join(self.grid.folder, "users", "alice.toml")
        ended = await asyncio.to_thread(lambda: self.grid.souk("--profile", profile, "wait", job))
        self.assertEqual(ended.code, 1, ended)
        back = await self.person("alice")
        message = await back.message()
        self.assertIn(f"Job {job} \"later\" failed", message["body"])
        self.assertIsNotNone(bob)

    async def test_a_person_in_the_room_sees_workers_get_busy_and_free(self):
        alice = await self.person("alice")
        await alice.client["xep_0045"].join_muc_wait(ROOM, "alice", timeout=PATIENCE)
        await alice.sees(lambda seen: "manager" in seen and "worker-1" in seen, "manager and worker")
        await alice.sees(lambda seen: seen["worker-1"][0] in ("", "available") and "free" in seen["worker-1"][1], "a free worker")
        job = self.grid.submit("--array", "1-2", "sleep", "60")
        await alice.sees(lambda seen: seen["worker-1"][0] == "dnd" and "busy" in seen["worker-1"][1], "a busy worker")
        self.assertEqual(self.grid.souk("cancel", job).code, 0)
        await alice.sees(lambda seen: seen["worker-1"][0] != "dnd" and "free" in seen["worker-1"][1], "a free worker again")

    async def test_strangers_iqs_do_not_stop_the_manager(self):
        alice = await self.person("alice")
        rubbish = ["", "AAAA", "not base64!", "//////8=", "A" * 200000]
        for name in ("report", "lease", "hello", "assign", "stop", "command", "nonsense"):
            for text in rubbish:
                iq = alice.client.make_iq_set(ito="manager@grid.souk.localhost/souk")
                element = ElementTree.Element("{urn:souk:task:1}" + name)
                element.text = text
                iq.append(element)
                with self.assertRaises((IqError, IqTimeout)):
                    await iq.send(timeout=PATIENCE)
        for node in ("submit", "status", "results", "cancel", "why", "hold", "release", "rerun"):
            for text in rubbish[1:]:
                for encoding in ("", "zlib", "rot13"):
                    iq = alice.client.make_iq_set(ito=MANAGER)
                    iq["command"]["node"], iq["command"]["action"] = node, "execute"
                    element = ElementTree.SubElement(iq["command"].xml, "{urn:souk:job:1}" + node)
                    element.text = text
                    if encoding:
                        element.set("encoding", encoding)
                    try:
                        await iq.send(timeout=PATIENCE)
                    except IqError:
                        pass
        self.assertEqual((await alice.command("status"))["status"], "completed")
        self.assertEqual(self.grid.souk("run", "echo", "still here").text, "still here\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
