// whip-whep, the reference clients of the WHIP and WHEP authors, as their README says to use them.
import { WHEPClient } from 'whip-whep/whep.js';
import { WHIPClient } from 'whip-whep/whip.js';

export async function publish(url, stream) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
  const client = new WHIPClient();
  await client.publish(pc, url);
  return { end: () => client.stop(), restart: () => client.restart() };
}

export async function play(url, video) {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.ontrack = ({ streams }) => (video.srcObject = streams[0]);
  const client = new WHEPClient();
  await client.view(pc, url);
  return { end: () => client.stop(), restart: () => client.restart() };
}
