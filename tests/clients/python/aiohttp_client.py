"""
PyPI's aiohttp against a running peer with the WebSocket path /nano: one more implementation of the protocol below, on an event loop,
with compression and a subprotocol offered.
usage: python aiohttp_client.py <port>
"""

import asyncio

import aiohttp

from support import HEARTBEAT, Packets, behaves, port

loop = asyncio.new_event_loop()


async def connect():
    session = aiohttp.ClientSession()
    # The peer names no subprotocol, and the client goes on without one.
    socket = await session.ws_connect(f"ws://127.0.0.1:{port()}/nano", compress=15, protocols=["nano"], autoping=True)
    return session, socket


session, socket = loop.run_until_complete(connect())
assert socket.protocol is None and not socket.compress, (socket.protocol, socket.compress)


def receive(seconds):
    try:
        return loop.run_until_complete(socket.receive_bytes(timeout=max(seconds, 0.001)))
    except asyncio.TimeoutError:
        return None


client = Packets(lambda bytes: loop.run_until_complete(socket.send_bytes(bytes)), receive)
loop.run_until_complete(socket.ping(b"are you there?"))
# Text frames are bytes like others.
loop.run_until_complete(socket.send_str(bytes([HEARTBEAT, 0, 0, 0]).decode()))
behaves(client)
message = loop.run_until_complete(socket.receive(timeout=5))
assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4000), message
loop.run_until_complete(session.close())
print("ok: aiohttp")
