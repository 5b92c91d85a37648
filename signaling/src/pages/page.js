// What the three pages share.

/** `/watch/demo` → `demo` */
export const streamName = () => decodeURIComponent(location.pathname.split('/')[2] ?? '');

/** `('watch', 'demo')` → `/watch/demo` */
export const pathTo = (page, name) => `/${page}/${encodeURIComponent(name)}`;

const TOKEN = 'uringcast-token';

/** The token that was typed into this tab, or null. */
export const savedToken = () => sessionStorage.getItem(TOKEN);

/** What a page says while there is no token; the server's own words are for those who run it. */
export const TOKEN_NEEDED = 'not open to everybody';

/** Asks for a token in place of the `refused` one, if any, and keeps it in this tab. Resolves with null if the person gave none. */
export function askToken(refused) {
  const dialog = document.createElement('dialog');
  dialog.innerHTML = `
    <form method="dialog">
      <h2>A token is needed</h2>
      <p class="quiet"></p>
      <label>Token <input type="password" name="token" autocomplete="off" required></label>
      <div class="bar"><button class="main" value="ok">Continue</button><button value="cancel" formnovalidate>Cancel</button></div>
    </form>`;
  dialog.querySelector('p').textContent = refused
    ? 'The one that was given is not valid. Ask whoever runs the server for the right one.'
    : 'Ask whoever runs the server for it.';
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      const token = dialog.returnValue === 'ok' ? dialog.querySelector('input').value.trim() : '';
      dialog.remove();
      if (token) sessionStorage.setItem(TOKEN, token);
      resolve(token || null);
    });
  });
}

/** `1834` → `1.8 Mbit/s` */
export const rateInWords = (kbps) => (kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbps)} kbit/s`);

/** `{kbps: 1834, width: 1280, …}` → `1280 × 720 · 30 fps · 1.8 Mbit/s · VP8` */
export function statsInWords(stats) {
  if (!stats) return '';
  const { kbps, width, height, fps, codec } = stats;
  return [width && `${width} × ${height}`, fps && `${Math.round(fps)} fps`, rateInWords(kbps), codec].filter(Boolean).join(' · ');
}
