// The page: sign-in, the conversation, and beside it the user's stream as it came. All text goes in as text.

import { Client } from "./client.js";

const MAX_EVENTS = 2000; // entries of the stream on the page
const MAX_THREADS = 300; // messages on the page
const STATES = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  offline: "Offline",
  closed: "Disconnected",
};

const $ = (id) => document.getElementById(id);
const threads = new Map(); // thread id -> its elements

let account = JSON.parse(sessionStorage.getItem("account")); // { user, token, session }; each tab has its own

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function alertUser(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

async function post(path, body, headers = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  const result = await response.json();
  if (response.ok) return result;
  const text = result.errors?.[0]?.message ?? result.detail ?? result.title; // RFC 9457
  throw Object.assign(new Error(text), { status: response.status });
}

// Signing in

async function signIn(name, session) {
  account = await post("demo/token", { name, session });
  sessionStorage.setItem("account", JSON.stringify(account));
}

async function token(renew) {
  if (renew) await signIn(account.user, account.session);
  return account.token;
}

function start() {
  $("user").textContent = account.user;
  for (const id of ["session", "chat"]) $(id).hidden = false;
  $("welcome").hidden = true;
  $("text").focus();
  const url = new URL("connection/websocket", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  new Client(url, { token, state, publication, gap, message }).connect();
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    alertUser("");
    await signIn($("name").value);
    start();
  } catch (error) {
    alertUser(`Signing in failed. ${error.message}`);
  }
});

$("sign-out").addEventListener("click", () => {
  sessionStorage.removeItem("account");
  location.reload();
});

// Sending

async function say(text) {
  const send = async (renew) => post("demo/messages", { text }, { Authorization: `Bearer ${await token(renew)}` });
  try {
    alertUser("");
    await send(false).catch((error) => {
      if (error.status !== 401) throw error;
      return send(true); // the token ran out
    });
  } catch (error) {
    $("text").value ||= text;
    alertUser(`The message was not sent. ${error.message}`);
  }
}

$("message-form").addEventListener("submit", (event) => {
  event.preventDefault();
  say($("text").value);
  $("text").value = "";
});

document
  .querySelectorAll("#ideas button")
  .forEach((button) => button.addEventListener("click", () => say(button.textContent)));

// Receiving

function state(name, reason) {
  $("status").dataset.state = name;
  $("status").textContent = STATES[name];
  $("status").title = reason ?? "";
  if (name === "closed") alertUser(`The gateway closed the connection: ${reason || "no reason given"}. Sign in again to go on.`);
}

function message(data) {
  if (data.type !== "mode") return;
  $("mode").textContent = `Mode: ${data.mode}`;
  $("mode").dataset.mode = data.mode;
  $("mode").hidden = false;
}

function gap() {
  const text = "Events before this point are missing: the gateway no longer keeps them.";
  append($("events"), element("li", "gap", text), MAX_EVENTS).dataset.type = "gap";
  append($("threads"), element("p", "gap", text), MAX_THREADS);
}

function publication({ offset = 0, data: event }) {
  const { type = "", data, thread_id: id } = event ?? {}; // any client of the user may publish anything
  const item = element("li", type === "token" ? "token" : "event");
  item.dataset.type = type;
  item.dataset.offset = offset;
  const detail = type === "token" ? data?.text : JSON.stringify(type ? data : event);
  item.append(element("span", "offset", offset || "live"), element("b", "", type), element("code", "", detail));
  append($("events"), item, MAX_EVENTS);
  if (id && type in SHOW) keepEnd($("threads"), () => SHOW[type](threadOf(id), data ?? {}));
}

const SHOW = {
  __proto__: null, // types come from outside: `constructor` is none of these
  user_message: ({ question }, { text }) => {
    question.textContent = text;
    question.hidden = false;
  },
  agent_started: ({ box }) => (box.ariaBusy = "true"),
  agent_thinking: ({ notes }, { text }) => notes.append(element("li", "", text)),
  tool_executing: ({ notes }, { tool, input }) => {
    notes.append(element("li", "running", `${tool}: `));
    notes.lastChild.append(element("code", "", input));
  },
  tool_completed: ({ notes }, { error, output }) => {
    if (!notes.lastChild) return;
    notes.lastChild.className = error ? "failed" : "done";
    notes.lastChild.append(" → ", element("code", "", error ?? (typeof output === "string" ? output : JSON.stringify(output))));
  },
  token: ({ answer }, { text }) => answer.append(text),
  agent_completed: ({ box, answer }, { text }) => {
    box.ariaBusy = "false";
    answer.textContent = text; // whole, even where this tab came in late
  },
};

function threadOf(id) {
  if (!threads.has(id)) {
    const box = element("article", "thread");
    const thread = { box, question: element("p", "question"), notes: element("ul", "notes"), answer: element("p", "answer") };
    thread.question.hidden = true;
    thread.answer.dataset.testid = "answer";
    box.dataset.thread = id;
    box.append(thread.question, thread.notes, thread.answer);
    threads.set(id, thread);
    append($("threads"), box, MAX_THREADS);
    $("empty").hidden = true;
  }
  return threads.get(id);
}

// Add at the end, drop the oldest.
function append(list, item, limit) {
  keepEnd(list, () => list.append(item));
  if (list.childElementCount > limit) {
    threads.delete(list.firstElementChild.dataset.thread);
    list.firstElementChild.remove();
  }
  return item;
}

// Follow what is added, unless the reader scrolled back.
function keepEnd(list, change) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  change();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

if (account) {
  start();
} else {
  $("welcome").hidden = false;
  $("name").focus();
}
