#!/usr/bin/env python3
"""Makes vp8-loop.ivf: two seconds of a moving test picture in VP8, a key frame first and no other, in IVF.

Needs ffmpeg with libvpx in PATH or in $FFMPEG; `pip install imageio-ffmpeg` brings one.
"""
import os
import pathlib
import subprocess

SIZE, FPS, SECONDS, BITRATE = "320x180", 30, 2, "200k"


def main():
    out = pathlib.Path(__file__).parent / "vp8-loop.ivf"
    subprocess.run(
        [os.environ.get("FFMPEG", "ffmpeg"), "-v", "error", "-y", "-f", "lavfi",
         "-i", f"testsrc2=size={SIZE}:rate={FPS}:duration={SECONDS}", "-pix_fmt", "yuv420p",
         "-c:v", "libvpx", "-b:v", BITRATE, "-minrate", BITRATE, "-maxrate", BITRATE, "-bufsize", BITRATE,
         "-g", str(FPS * SECONDS), "-keyint_min", str(FPS * SECONDS), "-auto-alt-ref", "0", "-lag-in-frames", "0",
         "-error-resilient", "1", "-deadline", "good", "-cpu-used", "4", "-threads", "1",
         "-fflags", "+bitexact", "-flags:v", "+bitexact", "-f", "ivf", str(out)],
        check=True)
    print(f"{out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
