// A small client of the Centrifuge protocol (version 2, JSON) for this page alone: one personal channel, with recovery
// and reconnection. Real applications use the official Centrifuge SDKs, which do far more.

const CONNECT_TIMEOUT = 10_000; // ms until the gateway must have answered `connect`
const PING_GRACE = 10_000; // ms that a ping may be late before the line counts as dead
const FIRST_DELAY = 500; // ms
const MAX_DELAY = 20_000; // ms

const isFinal = (code) => code === 1009 || (code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999);

/**
 * Handlers:
 *   token(renew)        promise of a token; a new one when `renew`
 *   state(name, reason) "connecting", "connected" (and up to date), "reconnecting", "offline" or "closed" (for good)
 *   publication(pub)    each publication of the personal channel once, in order
 *   gap()               publications before the next one are missing
 *   message(data)       what the gateway says outside of channels
 */
export class Client {
  #url;
  #on;
  #ended = new AbortController();
  #socket = null;
  #calls = new Map(); // command id -> { method, resolve, reject }
  #id = 0;
  #attempt = 0;
  #retry = 0;
  #watchdog = 0;
  #refresh = 0;
  #renew = false; // the token ran out
  #ping = 0;
  #pong = false;
  #channel = null; // null until the first connect
  #position = { epoch: "", offset: 0 }; // of the last publication handed out
  #held = null; // live publications that wait until older ones are there

  constructor(url, handlers) {
    this.#url = url;
    this.#on = handlers;
  }

  connect() {
    const { signal } = this.#ended;
    window.addEventListener("online", () => this.#open(), { signal });
    window.addEventListener("offline", () => this.#drop("no network"), { signal });
    this.#on.state("connecting");
    this.#open();
  }

  #close(reason) {
    this.#ended.abort();
    this.#abandon();
    this.#on.state("closed", reason);
  }

  #open() {
    this.#abandon();
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#held = [];
    this.#watchdog = setTimeout(() => this.#drop("no answer"), CONNECT_TIMEOUT);
    socket.onmessage = ({ data }) => data.split("\n").forEach((line) => line && this.#receive(JSON.parse(line)));
    socket.onclose = ({ code, reason }) => (isFinal(code) ? this.#close(reason) : this.#drop(reason));
    socket.onopen = () => this.#connect(socket).catch((error) => socket === this.#socket && this.#failed(error));
  }

  async #connect(socket) {
    const token = await this.#on.token(this.#renew);
    if (socket !== this.#socket) return;
    this.#renew = false;
    const subs = this.#channel === null ? {} : { [this.#channel]: { recover: true, ...this.#position } };
    const result = await this.#call("connect", { token, name: "bulkhead-demo", subs });
    const [channel, sub] = Object.entries(result.subs ?? {}).find(([name]) => name.startsWith("#")) ?? [];
    if (!channel) return this.#close("the gateway offers no personal channel");
    this.#attempt = 0;
    this.#ping = (result.ping ?? 0) * 1000;
    this.#pong = result.pong ?? false;
    this.#watch();
    if (result.expires) this.#refreshAfter(result.ttl);
    const returning = this.#channel !== null;
    this.#channel = channel;
    if (sub.recovered) sub.publications?.forEach((publication) => this.#deliver(publication));
    else await this.#catchUp(sub, returning);
    const held = this.#held;
    this.#held = null;
    held.forEach((publication) => this.#deliver(publication));
    this.#on.state("connected");
  }

  // Hand out what the gateway keeps behind the position. `missing`: something is known to be lost.
  async #catchUp({ epoch, offset = 0 }, missing) {
    if (epoch !== this.#position.epoch) this.#position = { epoch, offset: 0 };
    try {
      for (let more = true; more; ) {
        const page = await this.#call("history", { channel: this.#channel, limit: -1, since: this.#position });
        const { publications = [], offset: top = 0 } = page;
        if (missing || (publications[0]?.offset ?? top + 1) > this.#position.offset + 1) this.#on.gap();
        missing = false;
        publications.forEach((publication) => this.#deliver(publication));
        more = publications.length > 0 && this.#position.offset < top;
        if (!more) this.#position.offset = top;
      }
    } catch (error) {
      if (!error.code) throw error;
      // History is refused, as in emergency mode: say so and go on live.
      this.#on.gap();
      this.#position = { epoch, offset };
    }
  }

  #deliver(publication) {
    const offset = publication.offset ?? 0; // 0: live only, kept in no stream
    if (offset && offset <= this.#position.offset) return;
    if (offset) this.#position.offset = offset;
    this.#on.publication(publication);
  }

  #receive({ id, error, push, ...reply }) {
    if (id) {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) call.reject(error);
      else call.resolve(reply[call.method] ?? {});
    } else if (!push) {
      if (this.#pong) this.#socket.send("{}");
      this.#watch();
    } else if (push.message) {
      this.#on.message(push.message.data);
    } else if (push.channel?.startsWith("#") && push.pub) {
      if (this.#held) this.#held.push(push.pub);
      else this.#deliver(push.pub);
    }
  }

  // An abandoned call never settles: whoever waits for it is forgotten with its socket.
  #call(method, params) {
    const id = ++this.#id;
    this.#socket.send(JSON.stringify({ id, [method]: params }));
    return new Promise((resolve, reject) => this.#calls.set(id, { method, resolve, reject }));
  }

  #watch() {
    clearTimeout(this.#watchdog);
    if (this.#ping) this.#watchdog = setTimeout(() => this.#drop("no ping"), this.#ping + PING_GRACE);
  }

  #refreshAfter(seconds) {
    const socket = this.#socket;
    this.#refresh = setTimeout(async () => {
      try {
        const token = await this.#on.token(true);
        if (socket !== this.#socket) return;
        const { expires, ttl } = await this.#call("refresh", { token });
        if (expires) this.#refreshAfter(ttl);
      } catch (error) {
        if (socket === this.#socket) this.#failed(error);
      }
    }, seconds * 1000);
  }

  #failed({ code, temporary, message }) {
    this.#renew ||= code === 109;
    if (!code || code === 109 || temporary) this.#drop(message);
    else this.#close(message);
  }

  // Exponential backoff with full jitter: clients that lost the same gateway do not come back in step.
  #drop(reason) {
    this.#abandon();
    this.#on.state(navigator.onLine ? "reconnecting" : "offline", reason);
    const limit = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#attempt++);
    this.#retry = setTimeout(() => this.#open(), Math.random() * limit);
  }

  #abandon() {
    [this.#retry, this.#watchdog, this.#refresh].forEach(clearTimeout);
    this.#calls.clear();
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }
}
