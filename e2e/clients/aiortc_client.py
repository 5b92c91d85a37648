"""aiortc publishes the test card and a tone, or plays and says what it decoded.

Usage: aiortc_client.py publish URL CODEC | play URL
"""

import asyncio
import json
import signal
import sys
import urllib.request
from urllib.parse import urljoin

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError


async def request(method, url, body=None):
    """Returns the URL of the session and the text of the answer."""

    def send():
        headers = {"Content-Type": "application/sdp"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)) as response:
            return urljoin(url, response.headers.get("Location", "")), response.read().decode()

    return await asyncio.to_thread(send)


async def exchange(pc, url):
    await pc.setLocalDescription(await pc.createOffer())
    session, answer = await request("POST", url, pc.localDescription.sdp.encode())
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return session


async def publish(pc, url, codec):
    card = MediaPlayer("testsrc2=size=640x360:rate=20", format="lavfi")
    tone = MediaPlayer("sine=frequency=440:sample_rate=48000", format="lavfi")
    pc.addTransceiver(tone.audio, "sendonly")
    video = pc.addTransceiver(card.video, "sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([each for each in codecs if each.name in (codec, "rtx")])
    return await exchange(pc, url)


async def play(pc, url):
    received = {"frames": 0, "soundMs": 0}

    async def count(track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if track.kind == "video":
                received["frames"] += 1
            else:
                received["soundMs"] += 1000 * frame.samples / frame.sample_rate
            print(json.dumps(received), flush=True)

    tasks = []
    pc.on("track", lambda track: tasks.append(asyncio.ensure_future(count(track))))
    for kind in ("audio", "video"):
        pc.addTransceiver(kind, "recvonly")
    return await exchange(pc, url)


async def main(role, url, *codec):
    stopped = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stopped.set)
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    session = await {"publish": publish, "play": play}[role](pc, url, *codec)
    await stopped.wait()
    await request("DELETE", session)
    await pc.close()


asyncio.run(main(*sys.argv[1:]))
