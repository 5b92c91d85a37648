// Who publishes: the rows of the table. A client that knows several codecs has several.
import { publishWithFfmpeg } from '../helpers/ffmpeg.js';
import { whipclientsink, whipsink } from '../helpers/gstreamer.js';
import { startPython } from '../helpers/python.js';

const LAYERS = [
  { rid: 'q', scaleResolutionDownBy: 4 },
  { rid: 'h', scaleResolutionDownBy: 2 },
  { rid: 'f' },
];

const inPage = (browser, client, options) => (matrix, url) =>
  matrix.pages.start(matrix.browsers[browser], 'publish', client, url, options);

const library = (client, name) => ({ client, codec: 'VP8', publish: inPage('Chromium', name) });

const browser = (name, codec) => ({ client: name, codec, publish: inPage(name, 'plain', { codec }) });

const layered = (name, codec) => ({
  client: name,
  codec,
  layers: LAYERS.length,
  publish: inPage(name, 'plain', { codec, encodings: LAYERS }),
});

const ffmpeg = (client, flags) => ({ client, codec: 'H264', publish: async (_, url) => publishWithFfmpeg(url, flags) });

const aiortc = (codec) => ({
  client: 'aiortc',
  codec,
  publish: async (_, url) => startPython('aiortc_client.py', 'publish', url, codec),
});

const obs = (layers) => ({
  client: 'OBS (libdatachannel)',
  codec: 'H264',
  layers,
  publish: async (_, url) => startPython('obs.py', url, layers),
});

const gstreamer = (element, codec) => ({
  client: `GStreamer ${element.name}`,
  codec,
  publish: async (_, url) => element(url, codec),
});

export const publishers = [
  ...['VP8', 'VP9', 'AV1', 'H264'].map((codec) => browser('Chromium', codec)),
  layered('Chromium', 'VP8'),
  ...['VP8', 'VP9', 'AV1'].map((codec) => browser('Firefox ESR', codec)),
  layered('Firefox ESR', 'VP8'),
  ffmpeg('ffmpeg', []),
  ffmpeg('ffmpeg as DTLS client', ['-whip_flags', 'dtls_active']),
  obs(1),
  obs(3),
  ...['VP8', 'H264'].map((codec) => gstreamer(whipsink, codec)),
  ...['VP8', 'H264'].map((codec) => gstreamer(whipclientsink, codec)),
  ...['VP8', 'H264'].map(aiortc),
  library('whip-whep', 'whipWhep'),
  library('@eyevinn/whip-web-client', 'eyevinn'),
  library("Cloudflare's example", 'cloudflare'),
];

/** What a publisher sends: the codec, and how many layers if they are several. */
export const mediaOf = ({ codec, layers = 1 }) => (layers > 1 ? `${codec}×${layers}` : codec);
