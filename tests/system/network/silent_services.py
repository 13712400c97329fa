"""Services of a server that never answer: connected as components SILENT0.DOMAIN and so on, secret x. DOMAIN COUNT on the command line; says `there` when all are."""
import hashlib
import re
import socket
import sys
import time

links = []
for number in range(int(sys.argv[2])):
    link = socket.create_connection(("127.0.0.1", 5347), 10)
    link.sendall(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='silent{number}.{sys.argv[1]}'>".encode())
    said = b""
    while not (found := re.search(rb"<stream:stream[^>]* id=['\"]([^'\"]*)['\"][^>]*>", said)):
        said += link.recv(9999)
    link.sendall(b"<handshake>" + hashlib.sha1(found.group(1) + b"x").hexdigest().encode() + b"</handshake>")
    assert b"handshake" in link.recv(9999)
    links.append(link)
print("there", flush=True)
time.sleep(99)
