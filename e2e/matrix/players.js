// Who plays: the columns of the table. Each says which codecs it decodes and what of a stream it has received.
import { given, whepclientsrc, whepsrc } from '../helpers/gstreamer.js';
import { startPython } from '../helpers/python.js';

// What has arrived is asked of the page's connections, whichever client opened them.
const inBrowser = (client, browser, name) => ({
  client,
  codecs: ({ codecs }) => codecs[browser],
  play: ({ pages, browsers }, url) => pages.start(browsers[browser], 'play', name, url),
});

const lastLine = (process) => JSON.parse(process.output().trimEnd().split('\n').at(-1) || '{}');

const aiortc = {
  client: 'aiortc',
  codecs: () => ['VP8', 'H264'],
  async play(_, url) {
    const process = startPython('aiortc_client.py', 'play', url);
    return { ...process, received: () => lastLine(process) };
  },
};

// H265 and AV1 are offered too, but Debian has no depayloader for the one and no free decoder for the other.
const gstreamer = (element) => ({
  client: `GStreamer ${element.name}`,
  codecs: () => ['VP8', 'VP9', 'H264'],
  async play(_, url) {
    const pipeline = element(url);
    return { ...pipeline, received: () => given(pipeline) };
  },
});

export const players = [
  inBrowser('Chromium', 'Chromium', 'plain'),
  inBrowser('Firefox ESR', 'Firefox ESR', 'plain'),
  gstreamer(whepsrc),
  gstreamer(whepclientsrc),
  aiortc,
  inBrowser('whip-whep', 'Chromium', 'whipWhep'),
  inBrowser('@eyevinn/webrtc-player', 'Chromium', 'eyevinn'),
  inBrowser("Cloudflare's example", 'Chromium', 'cloudflare'),
];
