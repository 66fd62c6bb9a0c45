"""picows: a WebSocket over TLS per channel, binary messages, on asyncio."""

import asyncio
import ssl

from channel import End, certificate, say, serve
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server


async def connect(end: End):  # noqa: ANN201
    links: list[WSTransport] = []
    complete = asyncio.Event()

    class Listener(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            links.append(transport)
            if len(links) == end.channels:
                complete.set()

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            end.on_frame(frame.get_payload_as_bytes())

    if end.is_far:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate())
        end.server = await ws_create_server(lambda request: Listener(), "127.0.0.1", end.port, ssl=tls)
        say(listening=True)
    else:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        for _ in range(end.channels):
            await ws_connect(Listener, f"wss://127.0.0.1:{end.port}/", ssl_context=tls)
    await complete.wait()
    return lambda channel, frame: links[channel].send(WSMsgType.BINARY, frame), None


serve(connect)
