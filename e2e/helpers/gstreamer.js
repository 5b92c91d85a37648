// GStreamer's WHIP and WHEP elements, from the plugins that `ops/install gstreamer` builds.
import { join } from 'node:path';
import { startProcess } from './process.js';
import { ROOT } from './server.js';

const FOLDER = join(ROOT, '.test-cache/gstreamer');
const ENV = { GST_PLUGIN_PATH: FOLDER, GST_REGISTRY: join(FOLDER, 'registry.bin'), GST_DEBUG: '1', GST_DEBUG_NO_COLOR: '1' };

/** Runs a pipeline until stopped. With -v, sinks that are not silent say what they are given. */
export const startPipeline = (...description) =>
  startProcess('gst-launch-1.0', ['-v', ...description.join(' ').split(/\s+/)], { env: ENV });

const OPUS_FRAME_MS = 20; // what the decoder puts into one buffer

// A sink that writes down its format and every buffer.
const counted = (name) => `fakesink name=${name} silent=false sync=false`;

/** Decoded pictures and milliseconds of sound that the sinks of a playing pipeline were given. */
export function given(pipeline) {
  const of = (kind) => pipeline.output().match(new RegExp(`GstFakeSink:\\w+(?=.*caps\\b.*\\b${kind}/x-raw)`))?.[0];
  const buffers = (sink) => (sink ? pipeline.output().split(`${sink}: last-message = chain`).length - 1 : 0);
  return { frames: buffers(of('video')), soundMs: buffers(of('audio')) * OPUS_FRAME_MS };
}

const VIDEO = 'videotestsrc is-live=true ! video/x-raw,format=I420,width=640,height=360,framerate=20/1';
const AUDIO = 'audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=2';

const ENCODED = {
  VP8: 'vp8enc deadline=1 keyframe-max-dist=20 ! rtpvp8pay',
  H264: 'openh264enc gop-size=20 ! h264parse ! rtph264pay config-interval=-1 aggregate-mode=zero-latency',
};

/** The two ways to publish and to play: elements that only signal, and those that encode and decode as well. */
export const whipsink = (url, codec) =>
  startPipeline(
    `whipsink name=whip whip-endpoint=${url}`,
    `${VIDEO} ! ${ENCODED[codec]} ! application/x-rtp,media=video,encoding-name=${codec},payload=96,clock-rate=90000 ! whip.`,
    `${AUDIO} ! opusenc ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2 ! whip.`,
  );

export const whipclientsink = (url, codec) =>
  startPipeline(
    `whipclientsink name=whip signaller::whip-endpoint=${url} congestion-control=disabled video-caps=video/x-${codec.toLowerCase()}`,
    `${VIDEO} ! whip.`,
    `${AUDIO} ! whip.`,
  );

// Its pads come without a kind, in the order of the first packets.
export const whepsrc = (url) =>
  startPipeline(
    `whepsrc name=whep whep-endpoint=${url}`,
    `whep. ! decodebin ! ${counted('first')}`,
    `whep. ! decodebin ! ${counted('second')}`,
  );

export const whepclientsrc = (url) =>
  startPipeline(
    `whepclientsrc name=whep signaller::whep-endpoint=${url}`,
    `whep. ! video/x-raw ! ${counted('first')}`,
    `whep. ! audio/x-raw ! ${counted('second')}`,
  );
