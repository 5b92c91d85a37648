"""aiortc publishes so many VP8 pictures, with PictureID and TL0PICIDX (RFC 7741) from these numbers on, as browsers number those of
simulcast layers.

Usage: aiortc_pictures.py URL PICTURE_ID TL0PICIDX PICTURES
"""

import runpy
import sys
from itertools import count
from os.path import dirname, join

from aiortc.codecs.vpx import Vp8Encoder, VpxPayloadDescriptor
from av.video.frame import PictureType

url, picture_id, tl0picidx, pictures = sys.argv[1], *map(int, sys.argv[2:])
numbers = count()
encode = Vp8Encoder.encode


def encode_some(self, frame, force_keyframe=False):
    number = next(numbers)
    if number >= pictures:
        return [], 0
    # The test card's own frames are marked as key frames.
    frame.pict_type = PictureType.NONE
    payloads, timestamp = encode(self, frame, force_keyframe)
    return [numbered(payload, number) for payload in payloads], timestamp


def numbered(payload, number):
    descriptor, frame = VpxPayloadDescriptor.parse(payload)
    descriptor.picture_id = (picture_id + number) % (1 << 15)
    descriptor.tl0picidx, descriptor.tid = (tl0picidx + number) % (1 << 8), (0, 0)
    return bytes(descriptor) + frame


Vp8Encoder.encode = encode_some
sys.argv = ["aiortc_client.py", "publish", url, "VP8"]
runpy.run_path(join(dirname(__file__), "aiortc_client.py"), run_name="__main__")
