// What happens to sound: both channels are kept, and G.711 passes too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium } from './helpers/browsers.js';
import { assertTone } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { says, startPublisher, studioPage, TONE_HZ, watch } from './helpers/streams.js';

const LEFT_HZ = 440;
const RIGHT_HZ = 880;

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

// In the page: publishes one tone on the left and another on the right.
async function publishTwoTones({ name, left, right }) {
  const context = new AudioContext();
  const merger = new ChannelMergerNode(context, { numberOfInputs: 2 });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
  [left, right].forEach((frequency, channel) => {
    const tone = new OscillatorNode(context, { frequency });
    tone.connect(new GainNode(context, { gain: 0.3 })).connect(merger, 0, channel);
    tone.start();
  });
  merger.connect(out);
  const { Publisher } = await import('/client/uringcast.js');
  window.publisher = new Publisher({ url: `/${name}/whip`, stream: out.stream });
  window.publisher.start();
}

// In the page: the strongest frequency of each channel of what plays.
async function tonePerChannel() {
  const context = new AudioContext();
  const source = new MediaStreamAudioSourceNode(context, { mediaStream: document.querySelector('#video').srcObject });
  const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
  source.connect(splitter);
  const analysers = [0, 1].map((channel) => {
    const analyser = new AnalyserNode(context, { fftSize: 8192 });
    splitter.connect(analyser, channel);
    return analyser;
  });
  await new Promise((resolve) => setTimeout(resolve, 700));
  const peaks = analysers.map((analyser) => {
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const bin = levels.indexOf(levels.reduce((a, b) => Math.max(a, b)));
    return (bin * context.sampleRate) / analyser.fftSize;
  });
  await context.close();
  return peaks;
}

test('left and right arrive as left and right', async () => {
  const source = await studioPage(studio, server);
  await source.evaluate(publishTwoTones, { name: 'stereo', left: LEFT_HZ, right: RIGHT_HZ });
  const page = await watch(audience, server, 'stereo');
  await says(page, 'playing');
  const near = (hz, wanted) => Math.abs(hz - wanted) < 20;
  await until(async () => {
    const [left, right] = await page.evaluate(tonePerChannel);
    if (near(left, LEFT_HZ) && near(right, RIGHT_HZ)) return true;
    throw new Error(`left ${left} Hz, right ${right} Hz`);
  }, 'each channel has its own tone');
  await source.close();
  await page.close();
});

// In the page: makes offers that know one audio codec only.
function offerOnly(mimeType) {
  const native = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (trackOrKind, init) {
    const transceiver = native.call(this, trackOrKind, init);
    if (trackOrKind.kind === 'audio') {
      const { codecs } = RTCRtpSender.getCapabilities('audio');
      transceiver.setCodecPreferences(codecs.filter((codec) => codec.mimeType === mimeType));
    }
    return transceiver;
  };
}

for (const codec of ['PCMU', 'PCMA']) {
  test(`${codec} is heard`, async () => {
    const source = await studioPage(studio, server);
    await source.evaluate(offerOnly, `audio/${codec}`);
    await startPublisher(source, codec, { video: false });
    const page = await watch(audience, server, codec);
    await says(page, 'playing');
    await assertTone(page, TONE_HZ);
    const listed = (await server.streams()).find((stream) => stream.name === codec);
    assert.match(listed.codecs.join(), new RegExp(codec));
    await source.close();
    await page.close();
  });
}
