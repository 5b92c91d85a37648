import { Viewer } from '/client/uringcast.js';
import { TOKEN_NEEDED, askToken, rateInWords, savedToken, statsInWords, streamName } from '/client/page.js';

const WORDS = {
  idle: '',
  connecting: 'connecting',
  waiting: 'waiting for the publisher',
  playing: 'playing',
  reconnecting: 'reconnecting',
  stopped: 'stopped',
  failed: 'failed',
};

const [stage, video, state, stats, viewers, layer, sound, fullscreen, again] = [
  'stage', 'video', 'state', 'stats', 'viewers', 'layer', 'sound', 'fullscreen', 'again',
].map((id) => document.getElementById(id));
const name = streamName();
const viewer = new Viewer({ url: `/${encodeURIComponent(name)}/whep`, token: savedToken(), video });

document.title = `${name} · uringcast`;
document.querySelector('#name').textContent = name;

function inWords({ state: now, error }) {
  if (!error) return WORDS[now];
  if (error.status === 401) return TOKEN_NEEDED;
  return now === 'waiting' ? error.detail : `${WORDS[now]}: ${error.detail}`;
}

viewer.addEventListener('change', async () => {
  stage.dataset.state = viewer.state;
  state.textContent = inWords(viewer);
  again.hidden = viewer.state !== 'failed';
  showLayers();
  if (viewer.state === 'failed' && viewer.error.status === 401) {
    viewer.token = await askToken(viewer.token);
    if (viewer.token) viewer.start();
  }
});

function layerInWords({ rid, height, bitrate }) {
  const size = height ? `${height}p` : rid;
  return bitrate ? `${size} · ${rateInWords(bitrate / 1000)}` : size;
}

// A choice of one is none. The selection stays while the bit rates move.
function showLayers() {
  const wanted = ['', ...viewer.layers.map(({ rid }) => rid)];
  layer.hidden = viewer.layers.length < 2;
  if (wanted.join() !== [...layer.options].map(({ value }) => value).join()) {
    layer.replaceChildren(...wanted.map((rid) => new Option('Automatic', rid)));
    layer.value = wanted.includes(viewer.choice?.rid) ? viewer.choice.rid : '';
  }
  viewer.layers.forEach((each, index) => (layer.options[index + 1].textContent = layerInWords(each)));
}

viewer.addEventListener('layers', showLayers);
layer.addEventListener('change', () => {
  viewer.selectLayer(layer.value ? { rid: layer.value } : null).catch((problem) => (stats.textContent = problem.detail));
});
const showViewers = () => (viewers.textContent = viewer.viewers ? `${viewer.viewers} watching` : '');
viewer.addEventListener('viewercount', showViewers);

// The library mutes the element when the browser refuses sound before a click.
video.addEventListener('volumechange', () => {
  sound.hidden = !video.muted;
});
sound.addEventListener('click', () => {
  video.muted = false;
  video.play();
});
again.addEventListener('click', () => viewer.start());
fullscreen.addEventListener('click', () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (stage.requestFullscreen) stage.requestFullscreen();
  else video.webkitEnterFullscreen?.(); // iPhone: only the video itself
});
document.addEventListener('fullscreenchange', () => {
  fullscreen.textContent = document.fullscreenElement ? 'Leave full screen' : 'Full screen';
});
// A page that comes back from the browser's cache was stopped when it was left.
addEventListener('pageshow', (event) => event.persisted && viewer.start());

async function whatFlows() {
  if (viewer.state === 'playing') return statsInWords(await viewer.stats());
  const gone = viewer.state === 'waiting' && viewer.active === false;
  return gone ? 'The publisher has gone. The picture comes back by itself when somebody publishes again.' : '';
}

setInterval(async () => {
  stats.textContent = await whatFlows();
  showViewers();
}, 1000);

viewer.start();
