// A WebSocket that reports what happens to it and reconnects by itself, and the panel that shows it.
// All pages use it.
//
// For programs that control the pages (tests, WebDriver). Each page connects when it is loaded.
//   every page     body[data-state]   connecting | open | closing | closed; also the text of #state
//                  #ready-state       the browser's readyState, 0 to 3
//                  #url               the address
//                  #code #meaning #reason   of the last close; empty before and after the next open
//                  #retry             after a close that nobody asked for: when it tries again, or
//                                     that it does not; otherwise empty
//                  #connect #disconnect     buttons
//                  #auto              checkbox: reconnect by itself
//                  #received #sent    numbers of messages
//                  #log               li[data-kind=in|out|info], data-opcode=text|binary on in and
//                                     out; .payload has the first 10,000 characters of a text, or the
//                                     first 64 bytes in hex; the last 200 lines
//                  #clear             button
//                  #problem           why it cannot connect, such as an empty channel
//   push.html      ?channel= ?format=off|redis|json   #channel   #format-off #format-redis #format-json
//                  #listen (button)   #command #copy   #publish #publish-input #publish-result
//   echo.html      #input #send #send-blob #send-buffer   #buffered   #rtt (of the last, in ms)
//                  #protocol   #close-code #close-reason (what Disconnect sends)
//   chat.html      ?room= ?name=   #room #name #join   #input #send
//                  #messages li[data-kind=message|notice], .name and .text in it, data-own on our own
//   sum.html       #a #b #send   #sum #error   #rtt

/** What the close codes mean (RFC 6455, 7.4.1, and its registry at IANA). */
const MEANINGS = {
  1000: "normal: the work is done",
  1001: "going away: the page or the server leaves",
  1002: "protocol error",
  1003: "this kind of data is not accepted",
  1005: "closed without a code",
  1006: "lost, or the handshake was refused: no Close came",
  1007: "text that is not UTF-8",
  1008: "against the server's policy",
  1009: "message too big",
  1010: "an extension is missing",
  1011: "internal error",
  1012: "service restart: connect again",
  1013: "try again later",
  1014: "bad gateway",
  1015: "TLS failed",
};

function meaning(code) {
  if (code >= 4000) return "private: the application knows";
  if (code >= 3000) return "registered by a library";
  return MEANINGS[code] ?? "unknown";
}

/** Delays in ms: random, between `least` and a limit that doubles each time, up to `most`. */
const SOON = { least: 0, first: 500, most: 15_000 };
const LATER = { least: 2_000, first: 4_000, most: 60_000 };

/**
 * How soon the page reconnects after a close; null if it does not. 1001, 1006 and 1012 are not about
 * this page, and codes from 4000 on are those of websocket_drain or websocket_gap.
 * 1008, 1011 and 1013 mean a problem that lasts longer: this client is slow, or Redis or the server has
 * a problem. After the other codes the page would only make the same mistake again.
 */
function delays(code) {
  if ([1001, 1006, 1012].includes(code) || code >= 4000) return SOON;
  if ([1008, 1011, 1013, 1014].includes(code)) return LATER;
  return null;
}

const STATES = ["connecting", "open", "closing", "closed"];
const LOG_LENGTH = 200;
const SHOWN_LENGTH = 10_000;
/** After a connection that lasted this long the delays start again. */
const STABLE_MS = 5_000;

/** Random, so that thousands of pages do not reconnect at the same time. */
function delayMs({ least, first, most }, attempt) {
  return least + Math.random() * (Math.min(most, first * 2 ** attempt) - least);
}

export const $ = (id) => document.getElementById(id);
export const query = new URLSearchParams(location.search);

/** Puts the fields into the page's address, so that it can be sent to somebody. */
export function remember(fields) {
  const url = new URL(location);
  for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
  history.replaceState(null, "", url);
}

/** A form whose submission stays in the page. */
export function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

export function byteLength(message) {
  if (typeof message === "string") return new TextEncoder().encode(message).length;
  return message.size ?? message.byteLength;
}

function hex(buffer) {
  const shown = [...new Uint8Array(buffer).subarray(0, 64)];
  const digits = shown.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return buffer.byteLength > shown.length ? `${digits} …` : digits;
}

/** Draws entries together, so that a burst of thousands does not block the page. */
class Log {
  #waiting = [];
  #timer = null;

  add(kind, message, opcode) {
    this.#waiting.push({ kind, message, opcode, at: new Date() });
    if (this.#waiting.length > LOG_LENGTH) this.#waiting.shift();
    this.#timer ??= setTimeout(() => this.#draw(), 30);
  }

  #draw() {
    this.#timer = null;
    const list = $("log");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(...this.#waiting.splice(0).map((entry) => this.#line(entry)));
    while (list.children.length > LOG_LENGTH) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #line({ kind, message, opcode, at }) {
    const line = document.createElement("li");
    line.dataset.kind = kind;
    if (opcode) line.dataset.opcode = opcode;
    const time = document.createElement("time");
    time.textContent = at.toTimeString().slice(0, 8) + "." + String(at % 1000).padStart(3, "0");
    const payload = document.createElement("span");
    payload.className = "payload";
    payload.textContent = opcode === "binary" ? hex(message) : message.slice(0, SHOWN_LENGTH);
    line.append(time, payload);
    if (opcode) {
      const size = document.createElement("small");
      size.textContent = `${opcode === "binary" ? "binary, " : ""}${byteLength(message)} B`;
      line.append(size);
    }
    return line;
  }
}

const PANEL = `
  <div class="panel-head">
    <span class="pill"><i class="dot"></i><b id="state">closed</b></span>
    <span class="buttons">
      <button type="button" id="connect" class="main">Connect</button>
      <button type="button" id="disconnect">Disconnect</button>
    </span>
  </div>
  <code id="url"></code>
  <p id="problem" role="alert"></p>
  <p class="close"><b id="code"></b> <span id="meaning"></span> <q id="reason"></q></p>
  <p id="retry"></p>
  <dl class="facts">
    <div><dt>readyState</dt><dd id="ready-state">3</dd></div>
    <div><dt>received</dt><dd id="received">0</dd></div>
    <div><dt>sent</dt><dd id="sent">0</dd></div>
  </dl>
  <label class="check"><input type="checkbox" id="auto" checked> reconnect by itself</label>`;

const LOG = `
  <div class="panel-head"><h2>Messages</h2><button type="button" id="clear">Clear</button></div>
  <ol id="log" role="log" aria-label="Messages"></ol>`;

/**
 * The connection of a page.
 *
 * `address()` returns path and query, or throws an Error whose message is shown.
 * `received(message)` gets strings and ArrayBuffers. `opened()` is called at each open.
 * `farewell()` returns the code and reason that Disconnect sends.
 */
export class Connection {
  #options;
  #socket = null;
  #retry = null;
  #attempt = 0;
  /** Whether the user wants a connection. After a close that the user asked for it does not reconnect. */
  #wanted = false;
  #openSince = 0;
  #counts = { received: 0, sent: 0 };
  log = new Log();

  constructor(options) {
    this.#options = options;
    $("connection").innerHTML = PANEL;
    $("traffic").innerHTML = LOG;
    $("connect").addEventListener("click", () => this.connect());
    $("disconnect").addEventListener("click", () => this.disconnect());
    $("clear").addEventListener("click", () => $("log").replaceChildren());
    $("auto").addEventListener("change", () => $("auto").checked || this.#forgetRetry());
    // A phone that wakes up or is back in its network reconnects at once.
    addEventListener("online", () => this.#retry && this.connect());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#retry) this.connect();
    });
    this.#show();
  }

  get socket() {
    return this.#socket;
  }

  /** Connects to what `address()` returns now, and drops an earlier connection. */
  connect() {
    this.#wanted = true;
    this.#forgetRetry();
    this.#drop();
    let url;
    try {
      url = new URL(this.#options.address(), location.href);
    } catch (error) {
      $("problem").textContent = error.message;
      return this.#show();
    }
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    $("problem").textContent = "";
    $("url").textContent = url.href;

    const socket = new WebSocket(url, this.#options.protocols ?? []);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#message(data);
    socket.onclose = (event) => this.#closed(event);
    this.#socket = socket;
    this.#show();
  }

  disconnect() {
    this.#forgetRetry();
    $("problem").textContent = "";
    try {
      this.#socket?.close(...(this.#options.farewell?.() ?? [1000, "bye"]));
      this.#wanted = false;
    } catch (error) {
      $("problem").textContent = error.message;
    }
    this.#show();
  }

  /** Sends a string, an ArrayBuffer or a Blob; false if there is no open connection. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      this.log.add("info", "not connected: nothing was sent");
      return false;
    }
    this.#socket.send(message);
    this.#count("sent");
    this.#note("out", message);
    return true;
  }

  async #note(kind, message) {
    const text = typeof message === "string";
    const shown = message instanceof Blob ? await message.arrayBuffer() : message;
    this.log.add(kind, shown, text ? "text" : "binary");
  }

  #opened() {
    this.#openSince = Date.now();
    for (const id of ["code", "meaning", "reason"]) $(id).textContent = "";
    delete document.body.dataset.code;
    this.log.add("info", "open");
    this.#show();
    this.#options.opened?.(this.#socket);
  }

  #message(data) {
    this.#count("received");
    this.#note("in", data);
    this.#options.received?.(data);
  }

  #closed({ code, reason }) {
    $("code").textContent = document.body.dataset.code = code;
    $("meaning").textContent = meaning(code);
    $("reason").textContent = reason;
    this.log.add("info", `closed: ${code}, ${meaning(code)}${reason ? `: ${reason}` : ""}`);
    if (this.#openSince && Date.now() - this.#openSince > STABLE_MS) this.#attempt = 0;
    this.#openSince = 0;
    if (this.#wanted && $("auto").checked) this.#comeBack(delays(code));
    this.#show();
    this.#options.closed?.(code);
  }

  #comeBack(delays) {
    if (!delays) {
      $("retry").textContent = "not trying again";
      return;
    }
    const delay = delayMs(delays, this.#attempt++);
    $("retry").textContent = `trying again in ${(delay / 1000).toFixed(1)} s`;
    this.#retry = setTimeout(() => this.connect(), delay);
  }

  #forgetRetry() {
    clearTimeout(this.#retry);
    this.#retry = null;
    $("retry").textContent = "";
  }

  #drop() {
    const socket = this.#socket;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.#socket = null;
  }

  #count(which) {
    $(which).textContent = ++this.#counts[which];
  }

  #show() {
    const ready = this.#socket?.readyState ?? WebSocket.CLOSED;
    document.body.dataset.state = $("state").textContent = STATES[ready];
    $("ready-state").textContent = ready;
    $("connect").disabled = ready !== WebSocket.CLOSED;
    $("disconnect").disabled = ready === WebSocket.CLOSED && !this.#retry;
  }
}

const THEMES = ["dark", "light"];

/** Light or dark as the system says, until the user chooses. */
function theme() {
  const button = document.querySelector(".theme");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  if (THEMES.includes(localStorage.theme)) {
    document.documentElement.dataset.theme = localStorage.theme;
  }
  button?.addEventListener("click", () => {
    localStorage.theme = document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  });
}

theme();
