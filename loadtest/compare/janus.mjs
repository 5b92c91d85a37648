// WHIP and WHEP in front of a Janus WebRTC server, to run uringcast-loadtest against something else.
//
//   apt install janus && janus &
//   npm install janode@1.8.0 janus-whep-server@1.1.0 && node janus.mjs
//
// WHIP: http://127.0.0.1:7080/NAME     WHEP: http://127.0.0.1:7090/whep/endpoint/NAME
//
// A publisher joins a video room; the room forwards its RTP to a streaming mountpoint of the same name, which is what
// the WHEP library serves. Janus keeps rooms until it ends: restart it before this script.
import http from 'node:http';
import Janode from 'janode';
import Streaming from 'janode/plugins/streaming';
import VideoRoom from 'janode/plugins/videoroom';
import { JanusWhepServer } from 'janus-whep-server';

const JANUS = 'ws://127.0.0.1:8188';
const ROOM = 77;
let nextPort = 20000; // RTP between the two plugins
let nextMountpoint = 1000;
const sessions = new Map();

const janus = await Janode.connect({ is_admin: false, address: { url: JANUS } });
const session = await janus.create();
const room = await session.attach(VideoRoom);
const streaming = await session.attach(Streaming);
await room.create({ room: ROOM, max_publishers: 1000, videocodec: 'h264', h264_profile: '42e01f', audiocodec: 'opus', fir_freq: 0, permanent: false });
const whep = new JanusWhepServer({ janus: { address: JANUS }, rest: { port: 7090, basePath: '/whep' } });
await whep.start();

async function publish(name, offer) {
  const handle = await session.attach(VideoRoom);
  const joined = await handle.joinConfigurePublisher({ room: ROOM, display: name, audio: true, video: true, jsep: { type: 'offer', sdp: offer } });
  const [audio, video, rtcp, id] = [nextPort, nextPort + 2, nextPort + 3, nextMountpoint++];
  nextPort += 4;
  await streaming.createRtpMountpoint({
    id, name,
    audio: { port: audio, pt: 111, rtpmap: 'opus/48000/2' },
    video: { port: video, rtcpport: rtcp, pt: 108, rtpmap: 'H264/90000', fmtp: 'packetization-mode=1;profile-level-id=42e01f' },
  });
  await room.startForward({ room: ROOM, feed: joined.feed, host: '127.0.0.1', audio_port: audio, video_port: video, video_rtcp_port: rtcp });
  whep.createEndpoint({ id: name, mountpoint: id });
  const location = `/session/${joined.feed}`;
  sessions.set(location, async () => {
    await handle.detach();
    whep.destroyEndpoint({ id: name });
    await streaming.destroyMountpoint({ id });
  });
  return { location, answer: joined.jsep.sdp };
}

async function serve(request, body, response) {
  if (request.method === 'DELETE') {
    await sessions.get(request.url)?.();
    sessions.delete(request.url);
    response.writeHead(200).end();
    return;
  }
  const { location, answer } = await publish(request.url.slice(1), body);
  response.writeHead(201, { 'Content-Type': 'application/sdp', Location: location }).end(answer);
}

http.createServer((request, response) => {
  let body = '';
  request.on('data', (chunk) => (body += chunk));
  request.on('end', () => serve(request, body, response).catch((error) => {
    response.writeHead(500, { 'Content-Type': 'application/problem+json' }).end(JSON.stringify({ detail: error.message }));
  }));
}).listen(7080, '127.0.0.1', () => console.log('WHIP http://127.0.0.1:7080/NAME, WHEP http://127.0.0.1:7090/whep/endpoint/NAME'));
