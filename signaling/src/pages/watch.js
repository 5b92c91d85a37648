import { Viewer } from '/client/uringcast.js';
import { askToken, savedToken, statsInWords, streamName } from '/client/page.js';

const WORDS = {
  idle: '',
  connecting: 'connecting',
  waiting: 'waiting for the publisher',
  playing: 'playing',
  reconnecting: 'reconnecting',
  stopped: 'stopped',
  failed: 'failed',
};

const [stage, video, state, stats, sound, fullscreen, again] = ['stage', 'video', 'state', 'stats', 'sound', 'fullscreen', 'again'].map(
  (id) => document.getElementById(id),
);
const name = streamName();
const viewer = new Viewer({ url: `/${encodeURIComponent(name)}/whep`, token: savedToken(), video });

document.title = `${name} · uringcast`;
document.querySelector('#name').textContent = name;

function inWords({ state: now, error }) {
  if (!error) return WORDS[now];
  return now === 'waiting' ? error.detail : `${WORDS[now]}: ${error.detail}`;
}

viewer.addEventListener('change', async () => {
  stage.dataset.state = viewer.state;
  state.textContent = inWords(viewer);
  again.hidden = viewer.state !== 'failed';
  if (viewer.state === 'failed' && viewer.error.status === 401) {
    viewer.token = await askToken(viewer.error.detail);
    if (viewer.token) viewer.start();
  }
});

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

setInterval(async () => {
  stats.textContent = viewer.state === 'playing' ? statsInWords(await viewer.stats()) : '';
}, 1000);

viewer.start();
