#!/usr/bin/env python3
"""A proxy for tests, on ADDRESS PORT: HTTP CONNECT or SOCKS5 by the first byte. Names are looked up here. One line on stdout for each tunnel; `refuse` refuses all."""
import socket
import struct
import sys
import threading


def pump(source, sink):
    try:
        while block := source.recv(65536):
            sink.sendall(block)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def exactly(client, size):
    got = b""
    while len(got) < size:
        block = client.recv(size - len(got))
        if not block:
            raise OSError("gone")
        got += block
    return got


def serve(client, refuse):
    try:
        first = exactly(client, 1)
        if first == b"\x05":
            exactly(client, exactly(client, 1)[0])
            client.sendall(b"\x05\xff" if refuse else b"\x05\x00")
            if refuse:
                return
            kind = exactly(client, 4)[3]
            host = socket.inet_ntoa(exactly(client, 4)) if kind == 1 else exactly(client, exactly(client, 1)[0]).decode()
            port = struct.unpack(">H", exactly(client, 2))[0]
            good, bad, word = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", b"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", "socks5"
        else:
            head = first
            while not head.endswith(b"\r\n\r\n"):
                head += exactly(client, 1)
            host, port = head.split()[1].decode().rsplit(":", 1)
            good, bad, word = b"HTTP/1.1 200 Connection established\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "http"
            if refuse:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
        try:
            server = socket.create_connection((host, int(port)), 10)
        except OSError:
            client.sendall(bad)
            return
        server.settimeout(None)
        print(f"tunnel {word} {host}:{port}", flush=True)
        client.sendall(good)
        threading.Thread(target=pump, args=(server, client), daemon=True).start()
        pump(client, server)
    except OSError:
        pass
    finally:
        client.close()


listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print(f"port {listener.getsockname()[1]}", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0], "refuse" in sys.argv[3:]), daemon=True).start()
