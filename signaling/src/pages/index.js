import { Problem } from '/client/uringcast.js';
import { TOKEN_NEEDED, askToken, pathTo, savedToken } from '/client/page.js';

const REFRESH_MS = 2000;
const note = document.querySelector('#note');
const list = document.querySelector('#streams');

document.querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const page = event.submitter?.value ?? 'publish';
  location.assign(pathTo(page, new FormData(event.target).get('name').trim()));
});

async function liveStreams() {
  const token = savedToken();
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch('/api/v1/streams', { headers, cache: 'no-store' }).catch(() => {
    throw new Problem(0);
  });
  if (!response.ok) throw await Problem.from(response);
  return (await response.json()).streams;
}

function ago(since) {
  const minutes = Math.floor((Date.now() - new Date(since)) / 60000);
  if (!(minutes >= 1)) return 'just started';
  return minutes < 60 ? `for ${minutes} min` : `for ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function row({ name, viewers, codecs, since }) {
  const link = document.createElement('a');
  link.href = pathTo('watch', name);
  link.textContent = name;
  const facts = document.createElement('span');
  facts.className = 'quiet';
  facts.textContent = [`${viewers} ${viewers === 1 ? 'viewer' : 'viewers'}`, codecs.join(' + '), ago(since)].join(' · ');
  const item = document.createElement('li');
  item.append(link, facts);
  return item;
}

function show(streams) {
  const words = streams.length === 0 ? 'Nobody is live at the moment.' : '';
  if (note.textContent !== words) note.textContent = words;
  const rows = streams.map(row);
  // Rebuilding an equal list would take the keyboard focus from its links.
  if (rows.map((item) => item.outerHTML).join('') !== list.innerHTML) list.replaceChildren(...rows);
}

async function refresh() {
  try {
    show(await liveStreams());
  } catch (problem) {
    list.replaceChildren();
    note.textContent = problem.status === 401 ? `The list is ${TOKEN_NEEDED}.` : (problem.detail ?? problem.message);
    if (problem.status === 401 && (await askToken(savedToken())) === null) return;
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
