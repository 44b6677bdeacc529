// The official JavaScript SDK, driven from outside: commands come as JSON lines on standard input, events and replies go
// out as JSON lines on standard output. It ends with its input.
//
// Argument: JSON of {url, token?, tokens?, subscriptions?: {channel: options}, protobuf?, options?}. `tokens` are what
// `getToken` gives, one after the other, the last one again and again.

import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const setup = JSON.parse(process.argv[2]);
const { Centrifuge } = await import(setup.protobuf ? 'centrifuge/build/protobuf' : 'centrifuge');

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const getToken = async () => {
  say({ event: 'getToken' });
  return setup.tokens.length > 1 ? setup.tokens.shift() : setup.tokens[0];
};

const client = new Centrifuge(setup.url, {
  websocket: WebSocket,
  minReconnectDelay: 10,
  maxReconnectDelay: 50,
  ...(setup.token && { token: setup.token }),
  ...(setup.tokens && { getToken }),
  ...setup.options,
});

for (const name of ['connecting', 'connected', 'disconnected', 'error', 'subscribed', 'publication', 'message']) {
  client.on(name, (context) => say({ event: name, ...context, transport: undefined }));
}

for (const [channel, options] of Object.entries(setup.subscriptions ?? {})) {
  const subscription = client.newSubscription(channel, { minResubscribeDelay: 10, ...options });
  for (const name of ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error']) {
    subscription.on(name, (context) => say({ event: `sub ${name}`, ...context }));
  }
  subscription.subscribe();
}

client.connect();

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, args } = JSON.parse(line);
  client[method](...args).then(
    (result) => say({ reply: id, result }),
    (error) => say({ reply: id, error }),
  );
}
client.disconnect();
