#!/usr/bin/env python3
"""Sends a file by HTTP upload (XEP-0363) and fetches it again, with a stock client: JID PASSWORD_FILE HOST PORT CA_FILE FILE UPLOAD_SERVICE. Prints `same` if it came back whole."""
import os
import ssl
import subprocess
import sys
from xml.etree import ElementTree

import slixmpp

jid, password, host, port, authority, path, service = sys.argv[1:]
UPLOAD = "{urn:xmpp:http:upload:0}"


class Client(slixmpp.ClientXMPP):
    def __init__(self):
        with open(password) as file:
            super().__init__(jid, file.read().strip())
        self.ssl_context = ssl.create_default_context(cafile=authority)
        self.ca_certs = authority
        self.add_event_handler("session_start", self.put)

    async def put(self, _):
        try:
            iq = self.make_iq_get(ito=service)
            iq.append(ElementTree.Element(UPLOAD + "request", {"filename": "a.bin", "size": str(os.path.getsize(path)), "content-type": "application/octet-stream"}))
            slot = (await iq.send(timeout=10)).xml.find(UPLOAD + "slot")
            put = slot.find(UPLOAD + "put")
            headers = [word for header in put for word in ("-H", f"{header.get('name')}: {header.text}")]
            curl = ["curl", "-s", "--noproxy", "*", "--cacert", authority, "-o", path + ".back", "-w", "%{http_code}"]
            sent = subprocess.run([*curl, "-H", "Expect:", "-H", "Content-Type: application/octet-stream", *headers, "-T", path, put.get("url")], capture_output=True, text=True, timeout=60)
            got = subprocess.run([*curl, slot.find(UPLOAD + "get").get("url")], capture_output=True, text=True, timeout=60)
            with open(path, "rb") as one, open(path + ".back", "rb") as other:
                print("same" if (sent.stdout, got.stdout, one.read()) == ("201", "200", other.read()) else (sent, got))
        except Exception as failure:
            print("failed:", repr(failure))
        self.disconnect()


client = Client()
client.connect((host, int(port)))
client.process(forever=False)
