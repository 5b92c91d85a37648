// Does on the wire what Cloudflare's example clients for Stream (WHIPClient.ts, WHEPClient.ts) do: it gathers for at most
// a second, takes 201 alone, tries anything else again every 5 s, knows no trickle, no ETag and no token, and its player
// never ends its session.

const GATHERING_MAX_MS = 1000;
const RETRY_MS = 5000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function gathered(pc) {
  const complete = new Promise((resolve) => {
    pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && resolve());
  });
  await Promise.race([complete, sleep(GATHERING_MAX_MS)]);
  return pc.localDescription.sdp;
}

// Resolves with the session URL. A Location without a scheme goes into the path of the endpoint, query and all.
function sessionUrl(endpoint, location) {
  if (location.startsWith('http')) return location;
  const url = new URL(endpoint);
  url.pathname = location;
  return url.href;
}

async function negotiate(pc, endpoint) {
  await pc.setLocalDescription(await pc.createOffer());
  const body = await gathered(pc);
  while (pc.connectionState !== 'closed') {
    const response = await fetch(endpoint, { method: 'POST', mode: 'cors', headers: { 'content-type': 'application/sdp' }, body });
    if (response.status === 201) {
      await pc.setRemoteDescription(new RTCSessionDescription({ type: 'answer', sdp: await response.text() }));
      return sessionUrl(endpoint, response.headers.get('Location'));
    }
    console.error(response.status === 405 ? 'the URL is not one of WHIP or WHEP' : await response.text());
    await sleep(RETRY_MS);
  }
}

const connection = (endpoint) => {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const session = new Promise((resolve) => pc.addEventListener('negotiationneeded', () => resolve(negotiate(pc, endpoint))));
  return { pc, session };
};

export async function publish(endpoint, stream) {
  const { pc, session } = connection(endpoint);
  for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly' });
  const url = await session;
  return {
    async end() {
      await fetch(url, { method: 'DELETE', mode: 'cors' });
      pc.close();
    },
  };
}

export async function play(endpoint, video) {
  const { pc, session } = connection(endpoint);
  const stream = new MediaStream();
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.addEventListener('track', ({ track }) => stream.addTrack(track));
  pc.addEventListener('connectionstatechange', () => {
    if (pc.connectionState === 'connected') video.srcObject = stream;
  });
  await session;
  return { end: () => pc.close() };
}
