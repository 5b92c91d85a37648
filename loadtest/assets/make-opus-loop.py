#!/usr/bin/env python3
"""Makes opus-loop.bin: two seconds of Opus, 48 kHz stereo, 20 ms a packet, that loops without a click.

Needs ffmpeg with libopus in PATH or in $FFMPEG; `pip install imageio-ffmpeg` brings one.
The tone is a quiet 440 Hz with a beep at the start of each second, so that a listener hears whether time passes evenly.
Format of the result: for each packet a big-endian u16 length, then that many bytes of Opus (RFC 6716).
"""
import os
import pathlib
import subprocess

SECONDS = 2
PACKETS = SECONDS * 50
TONE = "0.08*sin(2*PI*440*t)+if(lt(mod(t\\,1)\\,0.1)\\,0.25*sin(2*PI*1000*t)\\,0)"


def ogg_packets(data):
    """Packets of an Ogg stream (RFC 3533): lacing values of 255 continue a packet."""
    packets, part, at = [], b"", 0
    while at < len(data):
        assert data[at : at + 4] == b"OggS"
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(lacing)
        for size in lacing:
            part += data[at : at + size]
            at += size
            if size < 255:
                packets.append(part)
                part = b""
    return packets


def main():
    # One loop to settle the encoder's state, one to keep: the kept one then starts as it ends.
    ogg = subprocess.run(
        [os.environ.get("FFMPEG", "ffmpeg"), "-v", "error", "-f", "lavfi",
         "-i", f"aevalsrc={TONE}|{TONE}:s=48000:d={SECONDS * 3}",
         "-c:a", "libopus", "-b:a", "32k", "-vbr", "off", "-frame_duration", "20",
         "-map_metadata", "-1", "-f", "ogg", "-"],
        check=True, stdout=subprocess.PIPE).stdout
    packets = ogg_packets(ogg)[2:]  # OpusHead and OpusTags come first
    kept = packets[PACKETS : 2 * PACKETS]
    assert len(kept) == PACKETS
    out = b"".join(len(p).to_bytes(2, "big") + p for p in kept)
    (pathlib.Path(__file__).parent / "opus-loop.bin").write_bytes(out)
    print(f"{len(kept)} packets, {len(out)} bytes")


if __name__ == "__main__":
    main()
