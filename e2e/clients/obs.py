"""Publishes as OBS does: libdatachannel with the calls, the HTTP rules and the layers of OBS's whip-output.cpp.

Usage: obs.py URL LAYERS
"""

import os
import random
import signal
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

import av
from libdatachannel import (
    Configuration,
    Description,
    H264RtpPacketizer,
    NalUnit,
    OpusRtpPacketizer,
    PeerConnection,
    RtcpNackResponder,
    RtcpSrReporter,
    RtpPacketizationConfig,
)

AUDIO_MID, AUDIO_PAYLOAD_TYPE, AUDIO_CLOCK = "0", 111, 48_000
VIDEO_MID, VIDEO_PAYLOAD_TYPE, VIDEO_CLOCK = "1", 96, 90_000
MID_EXTENSION, RID_EXTENSION = 1, 2
FRAGMENT_MAX = 1200
POST_TIMEOUT_S = 8
WIDTH, HEIGHT, FPS = 640, 360, 25
OPUS_FRAME = 960  # 20 ms

CNAME, STREAM_ID = "CnameOfThisHost1", "StreamOfThisHost"


class Audio:
    """One Opus track."""

    def __init__(self, pc, ssrc):
        description = Description.Audio(AUDIO_MID, Description.Direction.SendOnly)
        description.add_opus_codec(AUDIO_PAYLOAD_TYPE)
        description.add_ssrc(ssrc, CNAME, STREAM_ID, f"{STREAM_ID}-audio")
        self.config = RtpPacketizationConfig(ssrc, CNAME, AUDIO_PAYLOAD_TYPE, AUDIO_CLOCK)
        self.track = pc.add_track(description)
        packetizer = OpusRtpPacketizer(self.config)
        packetizer.add_to_chain(RtcpSrReporter(self.config))
        packetizer.add_to_chain(RtcpNackResponder())
        self.track.set_media_handler(packetizer)
        self.encoder = av.CodecContext.create("libopus", "w")
        self.encoder.sample_rate, self.encoder.layout, self.encoder.format = AUDIO_CLOCK, "stereo", "s16"
        source = av.open("sine=frequency=440:sample_rate=48000", format="lavfi")
        resampler = av.AudioResampler("s16", "stereo", AUDIO_CLOCK, frame_size=OPUS_FRAME)
        self.frames = (part for frame in source.decode(audio=0) for part in resampler.resample(frame))

    def send_next(self):
        for packet in self.encoder.encode(next(self.frames)):
            self.track.send(bytes(packet))
        self.config.timestamp = (self.config.timestamp + OPUS_FRAME) % 2**32


class Layer:
    """One size of the picture: its encoder and its RTP state."""

    def __init__(self, ssrc, rid, width, height):
        self.ssrc, self.rid = ssrc, rid
        self.sequence_number = random.randrange(2**15)
        self.width, self.height = width - width % 2, height - height % 2
        self.encoder = av.CodecContext.create("libx264", "w")
        self.encoder.width, self.encoder.height, self.encoder.pix_fmt = self.width, self.height, "yuv420p"
        self.encoder.framerate, self.encoder.bit_rate = FPS, 1500 * self.width
        self.encoder.gop_size = FPS
        self.encoder.options = {"profile": "baseline", "preset": "ultrafast", "tune": "zerolatency"}

    def encode(self, frame):
        picture = frame.reformat(self.width, self.height, "yuv420p")
        picture.pict_type = av.video.frame.PictureType.NONE
        return [bytes(packet) for packet in self.encoder.encode(picture)]


class Video:
    """One H.264 track with one or several layers, of which the first is the largest."""

    def __init__(self, pc, ssrc, layers):
        sizes = [(WIDTH * (layers - i) // layers, HEIGHT * (layers - i) // layers) for i in range(layers)]
        self.layers = [Layer(ssrc + i, str(i), *size) for i, size in enumerate(sizes)]
        description = Description.Video(VIDEO_MID, Description.Direction.SendOnly)
        ext_map = Description.Entry.ExtMap
        description.add_ext_map(ext_map(MID_EXTENSION, "urn:ietf:params:rtp-hdrext:sdes:mid"))
        description.add_ext_map(ext_map(RID_EXTENSION, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"))
        if layers == 1:
            description.add_ssrc(ssrc, CNAME, STREAM_ID, f"{STREAM_ID}-video")
        else:
            description.add_attribute(f"msid:{STREAM_ID} {STREAM_ID}-video")
            for layer in self.layers:
                description.add_rid(layer.rid)
        description.add_h264_codec(VIDEO_PAYLOAD_TYPE)
        self.config = RtpPacketizationConfig(ssrc, CNAME, VIDEO_PAYLOAD_TYPE, VIDEO_CLOCK)
        self.config.mid_id, self.config.mid = MID_EXTENSION, VIDEO_MID
        self.config.rid_id = RID_EXTENSION
        packetizer = H264RtpPacketizer(NalUnit.Separator.StartSequence, self.config, FRAGMENT_MAX)
        packetizer.add_to_chain(RtcpSrReporter(self.config))
        packetizer.add_to_chain(RtcpNackResponder())
        self.track = pc.add_track(description)
        self.track.set_media_handler(packetizer)
        self.frames = av.open(f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FPS}", format="lavfi").decode(video=0)

    def send_next(self):
        frame = next(self.frames)
        for layer in self.layers:
            self.config.ssrc, self.config.rid = layer.ssrc, layer.rid
            self.config.sequence_number = layer.sequence_number
            for packet in layer.encode(frame):
                self.track.send(packet)
            layer.sequence_number = self.config.sequence_number
        self.config.timestamp = (self.config.timestamp + VIDEO_CLOCK // FPS) % 2**32


def fail(words):
    sys.exit(f"OBS would give up: {words}")


def connect(url, offer, layers):
    """Posts the offer and returns the session URL and the answer, or gives up where OBS does."""
    request = urllib.request.Request(url, offer.encode(), {"Content-Type": "application/sdp"}, method="POST")
    try:
        response = urllib.request.urlopen(request, timeout=POST_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        fail(f"response code {error.code}: {error.read().decode()}")
    body, location = response.read().decode(), response.headers["Location"]
    if response.status != 201:
        fail(f"response code {response.status}")
    if not body or "v=0" not in body:
        fail("no SDP returned")
    if not location:
        fail("no resource URL in the Location header")
    accepted = next((line for line in body.split("\r\n") if line.startswith("a=simulcast")), "").count(";") + 1
    if accepted != layers:
        fail(f"{accepted} of {layers} simulcast layers were accepted")
    if not location.startswith("http"):
        location = urlunsplit(urlsplit(response.url)._replace(path=location, query=""))
    return location, body[body.index("v=0") :]


def end(session):
    """OBS closes first, so the server may have ended the session by itself; OBS then writes a warning into its log."""
    request = urllib.request.Request(session, method="DELETE")
    try:
        with urllib.request.urlopen(request, timeout=POST_TIMEOUT_S) as response:
            if response.status != 200:
                fail(f"DELETE was answered with {response.status}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def main(url, layers):
    config = Configuration()
    config.disable_auto_gathering = True
    pc = PeerConnection(config)
    ssrc = random.randrange(1, 2**31)
    audio = Audio(pc, ssrc)
    video = Video(pc, ssrc + 1, layers)
    pc.set_local_description()
    session, answer = connect(url, str(pc.local_description()), layers)
    pc.set_remote_description(Description(answer, "answer"))
    pc.gather_local_candidates()

    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGINT, stop)
    began, sent = time.monotonic(), 0  # sent: Opus frames, of which two last as long as a picture
    while running:
        if audio.track.is_open() and video.track.is_open():
            audio.send_next()
            if sent % 2 == 0:
                video.send_next()
        sent += 1
        time.sleep(max(0, began + sent * OPUS_FRAME / AUDIO_CLOCK - time.monotonic()))
    pc.close()
    end(session)
    os._exit(0)  # the library's threads do not like to be cleaned up after


main(sys.argv[1], int(sys.argv[2]))
