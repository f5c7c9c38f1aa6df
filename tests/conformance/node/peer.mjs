// A stock TinyBase, driven by JSON lines: `node peer.mjs [version]`.
//
// A request {"id": 1, "do": "...", ...} gives one answer, {"id": 1, "ok": ...} or {"id": 1, "error": "..."}.
// Requests start in the order they come and run side by side. A line with "event" is nobody's answer. The process
// ends when its input ends. The verbs and their arguments are the methods of `verbs`, below; README.md lists them.

import {mkdirSync} from 'node:fs';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {setTimeout as sleep} from 'node:timers/promises';
import {isDeepStrictEqual} from 'node:util';
import ReconnectingWebSocket from 'reconnecting-websocket';
import {WebSocket, WebSocketServer} from 'ws';
import {Held, loadTinyBase} from './tinybase.mjs';
import {messageOf, toJson, toPlain} from './values.mjs';

const POLL_MS = 5;
const CLOSE_MS = 1000;
const RECONNECT_MS = 50;
const write = (line) => process.stdout.write(toJson(line) + '\n');
const unhandled = [];
const reportUnhandled = (kind) => (error) => {
  const text = `${kind}: ${error?.stack ?? messageOf(error)}`;
  unhandled.push(text);
  write({event: 'unhandled', error: text});
};
process.on('uncaughtException', reportUnhandled('uncaught exception'));
process.on('unhandledRejection', reportUnhandled('unhandled rejection'));
for (const name of ['log', 'info', 'debug']) {
  console[name] = console.error;
}

const tinybase = await loadTinyBase(process.argv[2]).catch((error) => {
  write({event: 'failed', error: messageOf(error)});
  process.exit(1);
});
const stores = new Map();
const sockets = new Map();
const clients = new Map();
const servers = new Map();
const persisters = new Map();

const get = (map, kind, name) => {
  const thing = map.get(name);
  if (thing === undefined) {
    throw new Error(`no ${kind} ${JSON.stringify(name)}`);
  }
  return thing;
};
const put = (map, kind, name, thing) => {
  if (map.has(name)) {
    throw new Error(`there is a ${kind} ${JSON.stringify(name)}`);
  }
  map.set(name, thing);
};
const held = (name) => get(stores, 'store', name);

const poll = async (check, timeout, describe) => {
  const end = performance.now() + timeout * 1000;
  for (;;) {
    if (await check()) {
      return;
    }
    if (performance.now() > end) {
      throw new Error(`time-out after ${timeout} s: ${toJson(await describe())}`);
    }
    await sleep(POLL_MS);
  }
};

const untilClosed = async (webSocket) => {
  const end = performance.now() + CLOSE_MS;
  while (webSocket.readyState !== WebSocket.CLOSED && performance.now() < end) {
    await sleep(POLL_MS);
  }
  webSocket.terminate();
};

const openSocket = (url, protocol, {headers, closes, errors}) => {
  const webSocket = new WebSocket(url, protocol ?? [], {headers});
  webSocket.on('error', (error) => errors.push(messageOf(error)));
  webSocket.on('close', (code, reason) => closes.push([code, reason.toString()]));
  return webSocket;
};

const untilOpen = (webSocket) =>
  webSocket.readyState === WebSocket.OPEN
    ? undefined
    : new Promise((resolve, reject) => {
        webSocket.once('open', resolve);
        webSocket.once('error', reject);
        webSocket.once('close', (code, reason) => reject(new Error(`closed ${code} ${reason}`)));
      });

/** How TinyBase's documentation names the file of a path. */
const documentedName = (pathId) => pathId.replace(/[^a-zA-Z0-9]/g, '-');

/** A synchronizer on a store, over a socket of its own or a named one; made anew after a close, if so asked. */
class Client {
  constructor(options) {
    this.options = options;
    this.errors = [];
    this.closes = [];
    this.sent = [];
    this.received = [];
    this.connects = 0;
    this.status = 'new';
  }

  async connect() {
    const {store, url, socket, protocol, channel, record, headers, ...rest} = this.options;
    this.webSocket =
      socket === undefined
        ? openSocket(url, protocol ?? (channel === undefined ? undefined : 'tinybase'), {
            headers,
            closes: this.closes,
            errors: this.errors,
          })
        : get(sockets, 'socket', socket).webSocket;
    const {webSocket} = this;
    this.status = 'connecting';
    // Older versions never settle where the socket does not open.
    this.synchronizer = await Promise.race([
      tinybase.createClient(held(store).store, webSocket, {
        channel,
        timeout: rest.timeout,
        fragmentSize: rest.fragmentSize,
        onSend: record ? (...message) => this.sent.push(toPlain(message)) : undefined,
        onReceive: record ? (...message) => this.received.push(toPlain(message)) : undefined,
        onIgnoredError: (error) => this.errors.push(messageOf(error)),
      }),
      Promise.resolve(untilOpen(webSocket)).then(() => new Promise(() => {})),
    ]);
    this.connects++;
    this.status = 'open';
    webSocket.once('close', () => this.closed(webSocket));
    if (webSocket.readyState !== WebSocket.OPEN) {
      this.closed(webSocket);
    }
  }

  async start(initial) {
    this.started = true;
    this.initial = initial;
    await this.synchronizer.startSync(initial);
    if (this.status === 'open') {
      this.status = 'syncing';
    }
  }

  async closed(webSocket) {
    if (this.destroyed || webSocket !== this.webSocket || this.status === 'closed') {
      return;
    }
    this.status = 'closed';
    const {reconnect} = this.options;
    if (reconnect === undefined) {
      return;
    }
    while (!this.destroyed) {
      await this.dropSynchronizer();
      await sleep(reconnect * 1000);
      if (this.destroyed) {
        return;
      }
      try {
        await this.connect();
        if (this.started) {
          await this.start(this.initial);
        }
        return;
      } catch (error) {
        this.errors.push(messageOf(error));
        this.status = 'closed';
      }
    }
  }

  async dropSynchronizer() {
    const {synchronizer} = this;
    this.synchronizer = undefined;
    try {
      await synchronizer?.destroy();
    } catch (error) {
      this.errors.push(messageOf(error));
    }
  }

  async destroy() {
    this.destroyed = true;
    await this.dropSynchronizer();
    if (this.options.socket === undefined) {
      this.webSocket.close();
      await untilClosed(this.webSocket);
    }
    this.status = 'destroyed';
  }

  /** Ends all, without a word to the other side. */
  drop() {
    this.destroyed = true;
    this.webSocket?.terminate();
    return this.dropSynchronizer();
  }

  stats() {
    const {status, connects, errors, closes, sent, received} = this;
    return {
      status,
      connects,
      errors,
      closes,
      sent,
      received,
      synchronizer: this.synchronizer?.getSynchronizerStats() ?? null,
      protocol: this.webSocket?.protocol ?? '',
    };
  }
}

/** A synchronizer on the reconnecting wrapper that TinyBase's documentation suggests: made once, for all sockets. */
class WrappedClient {
  constructor({store, url, channel}) {
    this.store = store;
    this.channel = channel;
    this.errors = [];
    this.webSocket = new ReconnectingWebSocket(url, channel === undefined ? [] : 'tinybase', {
      WebSocket,
      minReconnectionDelay: RECONNECT_MS,
      maxReconnectionDelay: RECONNECT_MS,
    });
    this.webSocket.addEventListener('open', () => this.opens++);
    this.opens = 0;
  }

  async connect() {
    this.synchronizer = await tinybase.createClient(held(this.store).store, this.webSocket, {
      channel: this.channel,
      onIgnoredError: (error) => this.errors.push(messageOf(error)),
    });
  }

  start(initial) {
    return this.synchronizer.startSync(initial);
  }

  async destroy() {
    await this.synchronizer?.destroy();
    this.webSocket.close();
  }

  drop() {
    return this.destroy();
  }

  stats() {
    const {errors, opens, webSocket} = this;
    return {errors, connects: opens, open: webSocket.readyState === WebSocket.OPEN};
  }
}

/** A server on a loopback port, with the stores of its paths under `<server>/<path>`. */
class Server {
  constructor(name, options) {
    this.name = name;
    this.options = options;
    this.errors = [];
    this.events = [];
    this.database = options.database && {contents: {}, ...options.database};
  }

  async start() {
    const {kind = 'server', port = 0, host = '127.0.0.1', persist, timeout, fragmentSize} = this.options;
    this.webSocketServer = new WebSocketServer({port, host});
    await new Promise((resolve, reject) => {
      this.webSocketServer.once('listening', resolve);
      this.webSocketServer.once('error', reject);
    });
    this.webSocketServer.on('error', (error) => this.errors.push(messageOf(error)));
    if (kind === 'simple') {
      this.server = await tinybase.createServerSimple(this.webSocketServer);
      return;
    }
    if (persist !== undefined && persist !== 'memory') {
      mkdirSync(persist, {recursive: true});
    }
    this.server = tinybase.createServer(this.webSocketServer, {
      createPersisterForPath:
        this.database !== undefined
          ? (pathId) => this.databasePersisterFor(pathId)
          : persist === undefined
            ? undefined
            : (pathId) => this.persisterFor(pathId),
      onIgnoredError: (error) => this.errors.push(messageOf(error)),
      timeout,
      fragmentSize,
    });
    if (tinybase.features.serverStore) {
      this.server.addPathIdsListener((_server, pathId, change) => this.events.push(['path', pathId, change]));
      this.server.addClientIdsListener(null, (_server, pathId, clientId, change) =>
        this.events.push(['client', pathId, clientId, change]),
      );
    }
  }

  persisterFor(pathId) {
    const {persist, paths, then, now, offset, fileNames} = this.options;
    if (paths !== undefined && !paths.includes(pathId)) {
      return undefined;
    }
    const mine = Held.create(tinybase, `server:${pathId}`, {now, offset});
    stores.set(`${this.name}/${pathId}`, mine);
    const persister =
      persist === 'memory'
        ? tinybase.createStoragePersister(mine.store, async () => undefined, async () => {})
        : tinybase.createFilePersister(
            mine.store,
            join(persist, `${fileNames === 'documented' ? documentedName(pathId) : encodeURIComponent(pathId)}.json`),
            (error) => this.errors.push(messageOf(error)),
          );
    return then === undefined
      ? persister
      : [persister, () => then.forEach((operation) => mine.runNow(operation))];
  }

  /** A custom persister on contents by path, of which the first factory calls or loads may be told to fail. */
  async databasePersisterFor(pathId) {
    const {database} = this;
    if (database.factoryFailures > 0) {
      database.factoryFailures--;
      throw new Error('db down');
    }
    const mine = Held.create(tinybase, `server:${pathId}`);
    stores.set(`${this.name}/${pathId}`, mine);
    return tinybase.createStoragePersister(
      mine.store,
      async () => {
        if (database.loadFailures > 0) {
          database.loadFailures--;
          throw new Error('timeout');
        }
        return database.contents[pathId];
      },
      async (getContent) => {
        database.contents[pathId] = getContent();
      },
      (error) => this.errors.push(messageOf(error)),
    );
  }

  get address() {
    const {port, address} = this.webSocketServer.address();
    return {port, url: `ws://${address}:${port}`};
  }

  async stop(kill) {
    const closed = new Promise((resolve) => this.webSocketServer.close(resolve));
    if (kill) {
      this.dropSockets();
    }
    try {
      await this.server.destroy();
    } catch (error) {
      // It closes the WebSocketServer, too, and that only works once.
      if (messageOf(error) !== 'The server is not running') {
        throw error;
      }
    }
    const end = performance.now() + CLOSE_MS;
    while (this.webSocketServer.clients.size > 0 && performance.now() < end) {
      await sleep(POLL_MS);
    }
    this.dropSockets();
    await closed;
  }

  dropSockets() {
    for (const webSocket of this.webSocketServer.clients) {
      webSocket.terminate();
    }
  }

  stats() {
    const pathIds = this.server.getPathIds?.() ?? [];
    return {
      stats: this.server.getStats?.() ?? null,
      paths: Object.fromEntries(pathIds.map((pathId) => [pathId, this.server.getClientIds(pathId)])),
      sockets: this.webSocketServer.clients.size,
      errors: this.errors,
      events: this.events,
    };
  }
}

const conditions = {
  content: (store) => store.store.getContent(),
  tables: (store) => store.store.getTables(),
  values: (store) => store.store.getValues(),
  hashes: (store) => store.store.getMergeableContentHashes(),
  mergeable: (store) => store.window.save(),
};

const verbs = {
  // The process.
  version: () => ({
    version: tinybase.version,
    alias: tinybase.alias,
    node: process.version,
    features: tinybase.features,
  }),
  unhandled: () => unhandled.splice(0),
  /** All is as at the beginning, for whoever comes next. */
  reset: async () => {
    await Promise.allSettled([
      ...[...clients.values()].map((client) => client.drop()),
      ...[...persisters.values()].map(({persister}) => persister.destroy()),
      ...[...servers.values()].map((server) => server.stop(true)),
    ]);
    for (const {webSocket} of sockets.values()) {
      webSocket.terminate();
    }
    for (const all of [stores, sockets, clients, servers, persisters]) {
      all.clear();
    }
    unhandled.length = 0;
    return null;
  },
  sleep: async ({seconds}) => {
    await sleep(seconds * 1000);
    return null;
  },
  stringify: ({texts}) =>
    texts.map((text) => {
      try {
        return JSON.stringify(JSON.parse(text));
      } catch (error) {
        return {error: messageOf(error)};
      }
    }),

  // Stores.
  store: ({store, uniqueId, now, offset, ops = []}) => {
    put(stores, 'store', store, Held.create(tinybase, uniqueId, {now, offset}));
    return held(store).run(ops);
  },
  dropStore: ({store}) => {
    held(store);
    stores.delete(store);
    return null;
  },
  ops: ({store, ops}) => held(store).run(ops),
  call: ({store, method, args = []}) => held(store).runNow([method, ...args]),
  content: ({store}) => held(store).store.getContent(),
  mergeable: ({store}) => held(store).window.save(),
  hashes: ({store}) => held(store).store.getMergeableContentHashes(),
  json: ({store}) => held(store).store.getJson(),
  state: async ({store}) => ({
    content: held(store).store.getContent(),
    hashes: held(store).store.getMergeableContentHashes(),
    mergeable: await held(store).window.save(),
  }),
  merge: ({store, other}) => {
    held(store).store.merge(held(other).store);
    return null;
  },
  wait: async ({store, until, timeout = 5}) => {
    const mine = held(store);
    const wanted = Object.entries(until);
    const read = async () =>
      Object.fromEntries(
        await Promise.all(
          wanted.map(async ([name]) => {
            if (conditions[name] === undefined) {
              throw new Error(`cannot wait for ${name}`);
            }
            return [name, toPlain(await conditions[name](mine))];
          }),
        ),
      );
    await poll(async () => isDeepStrictEqual(await read(), until), timeout, read);
    return null;
  },
  waitSame: async ({stores: names, timeout = 5}) => {
    const read = () =>
      names.map((name) => toPlain([conditions.content(held(name)), conditions.hashes(held(name))]));
    await poll(
      () => {
        const [first, ...others] = read();
        return others.every((other) => isDeepStrictEqual(other, first));
      },
      timeout,
      read,
    );
    return null;
  },

  // Sockets that several channels share.
  socket: async ({socket, url, protocol = 'tinybase', headers}) => {
    const shared = {closes: [], errors: []};
    shared.webSocket = openSocket(url, protocol, {headers, ...shared});
    put(sockets, 'socket', socket, shared);
    await untilOpen(shared.webSocket);
    return {protocol: shared.webSocket.protocol};
  },
  closeSocket: async ({socket}) => {
    const {webSocket} = get(sockets, 'socket', socket);
    sockets.delete(socket);
    webSocket.close();
    await untilClosed(webSocket);
    return null;
  },
  socketStats: ({socket}) => {
    const {webSocket, closes, errors} = get(sockets, 'socket', socket);
    return {open: webSocket.readyState === WebSocket.OPEN, protocol: webSocket.protocol, closes, errors};
  },

  // Clients.
  connect: async ({client, start = true, initial, wrapped = false, ...options}) => {
    const mine = wrapped ? new WrappedClient(options) : new Client(options);
    put(clients, 'client', client, mine);
    try {
      await mine.connect();
    } catch (error) {
      clients.delete(client);
      throw error;
    }
    if (start) {
      await mine.start(initial);
    }
    return null;
  },
  startSync: async ({client, initial}) => {
    await get(clients, 'client', client).start(initial);
    return null;
  },
  stopSync: async ({client}) => {
    const mine = get(clients, 'client', client);
    mine.started = false;
    await mine.synchronizer.stopSync();
    mine.status = 'open';
    return null;
  },
  destroy: async ({client}) => {
    const mine = get(clients, 'client', client);
    clients.delete(client);
    await mine.destroy();
    return mine.stats();
  },
  terminate: ({client}) => {
    get(clients, 'client', client).webSocket.terminate();
    return null;
  },
  waitStatus: async ({client, status, timeout = 5}) => {
    const mine = get(clients, 'client', client);
    await poll(() => mine.status === status, timeout, () => mine.stats());
    return null;
  },
  stats: ({client}) => get(clients, 'client', client).stats(),

  // Servers.
  server: async ({server, ...options}) => {
    const mine = new Server(server, options);
    put(servers, 'server', server, mine);
    try {
      await mine.start();
    } catch (error) {
      servers.delete(server);
      mine.webSocketServer.close();
      throw error;
    }
    return mine.address;
  },
  stopServer: async ({server, kill = false}) => {
    const mine = get(servers, 'server', server);
    servers.delete(server);
    await mine.stop(kill);
    for (const name of [...stores.keys()]) {
      if (name.startsWith(`${server}/`)) {
        stores.delete(name);
      }
    }
    return null;
  },
  serverStats: ({server}) => get(servers, 'server', server).stats(),
  database: ({server}) => toPlain(get(servers, 'server', server).database.contents),
  waitClients: async ({server, path, count, timeout = 5}) => {
    const mine = get(servers, 'server', server);
    await poll(
      () => (mine.stats().paths[path]?.length ?? 0) === count,
      timeout,
      () => mine.stats(),
    );
    return null;
  },

  // File persisters on stores.
  persister: ({persister, store, file}) => {
    const errors = [];
    put(persisters, 'persister', persister, {
      errors,
      persister: tinybase.createFilePersister(held(store).store, file, (error) =>
        errors.push(messageOf(error)),
      ),
    });
    return null;
  },
  load: async ({persister, initial}) => {
    await get(persisters, 'persister', persister).persister.load(initial);
    return null;
  },
  save: async ({persister}) => {
    await get(persisters, 'persister', persister).persister.save();
    return null;
  },
  auto: async ({persister, initial}) => {
    const mine = get(persisters, 'persister', persister).persister;
    await mine.startAutoLoad(initial);
    await mine.startAutoSave();
    return null;
  },
  stopAuto: async ({persister}) => {
    const mine = get(persisters, 'persister', persister).persister;
    await mine.stopAutoLoad();
    await mine.stopAutoSave();
    return null;
  },
  persisterStats: ({persister}) => {
    const {persister: mine, errors} = get(persisters, 'persister', persister);
    return {stats: mine.getStats(), errors};
  },
  destroyPersister: async ({persister}) => {
    const {persister: mine, errors} = get(persisters, 'persister', persister);
    persisters.delete(persister);
    await mine.destroy();
    return {errors};
  },
};

const answer = async (line) => {
  let id = null;
  try {
    const {id: requestId, do: verb, ...args} = JSON.parse(line);
    id = requestId;
    if (!Object.hasOwn(verbs, verb)) {
      throw new Error(`no verb ${JSON.stringify(verb)}`);
    }
    write({id, ok: (await verbs[verb](args)) ?? null});
  } catch (error) {
    write({id, error: messageOf(error)});
  }
};

const lines = createInterface({input: process.stdin, terminal: false});
lines.on('line', (line) => {
  if (line !== '') {
    answer(line);
  }
});
lines.on('close', () => process.exit(0));
