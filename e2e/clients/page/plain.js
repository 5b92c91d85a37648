// WHIP and WHEP with nothing but what a browser has.

const HELPERS = ['video/rtx', 'video/red', 'video/ulpfec'];

async function exchange(pc, url) {
  await pc.setLocalDescription();
  const headers = { 'Content-Type': 'application/sdp' };
  const response = await fetch(url, { method: 'POST', headers, body: pc.localDescription.sdp });
  if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
  const session = new URL(response.headers.get('Location'), response.url);
  await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  return {
    async end() {
      pc.close();
      await fetch(session, { method: 'DELETE' });
    },
  };
}

// Only this codec, and what repairs it.
function prefer(transceiver, codec) {
  const wanted = [`video/${codec}`, ...HELPERS].map((type) => type.toLowerCase());
  const { codecs } = RTCRtpSender.getCapabilities('video');
  transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => wanted.includes(mimeType.toLowerCase())));
}

/** Publishes; with several `encodings` as simulcast. */
export function publish(url, stream, { codec, encodings } = {}) {
  const pc = new RTCPeerConnection();
  for (const track of stream.getTracks()) {
    const sendEncodings = (track.kind === 'video' && encodings) || [{}];
    const transceiver = pc.addTransceiver(track, { direction: 'sendonly', streams: [stream], sendEncodings });
    if (codec && track.kind === 'video') prefer(transceiver, codec);
  }
  return exchange(pc, url);
}

/** Plays. */
export function play(url, video) {
  const pc = new RTCPeerConnection();
  video.srcObject = new MediaStream();
  pc.ontrack = ({ track }) => video.srcObject.addTrack(track);
  for (const kind of ['audio', 'video']) pc.addTransceiver(kind, { direction: 'recvonly' });
  return exchange(pc, url);
}
