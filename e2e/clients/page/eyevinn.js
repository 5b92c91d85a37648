// @eyevinn/whip-web-client and @eyevinn/webrtc-player, as their READMEs say to use them, but without a STUN server.
import { WebRTCPlayer } from '@eyevinn/webrtc-player';
import { WHIPClient } from '@eyevinn/whip-web-client';

export async function publish(url, stream) {
  const client = new WHIPClient({ endpoint: url, opts: { iceServers: [] } });
  await client.ingest(stream);
  return { end: () => client.destroy() };
}

export async function play(url, video) {
  const player = new WebRTCPlayer({ video, type: 'whep', iceServers: [] });
  await player.load(new URL(url));
  return { end: () => player.unload() };
}
