"""names.py NAME ADDRESS: a name server on 127.0.0.1:53 that knows one name (RFC 1035, A records alone)."""

import socket
import struct
import sys

name, address = sys.argv[1], socket.inet_aton(sys.argv[2])
wanted = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", file=sys.stderr, flush=True)
while True:
    query, client = server.recvfrom(512)
    end = query.index(b"\0", 12) + 1
    question, (kind,) = query[12 : end + 4], struct.unpack("!H", query[end : end + 2])
    known = query[12:end].lower() == wanted
    answers = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + address if known and kind == 1 else b""
    flags = 0x8180 if known else 0x8183
    server.sendto(query[:2] + struct.pack("!HHHHH", flags, 1, 1 if answers else 0, 0, 0) + question + answers, client)
