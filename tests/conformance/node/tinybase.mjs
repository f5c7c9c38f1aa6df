// Any of the installed TinyBase versions behind one face: what differs between them is known only here.

import {readFile} from 'node:fs/promises';
import {decodeArgument, decodeBody, toPlain} from './values.mjs';

export const NEWEST = '10.0.1';

const MERGEABLE_STORE_ONLY = 2;

/** Loads a version: '10.0.1', '9.4.0', or an alias such as 'tinybase-9.4.0'. */
export const loadTinyBase = async (wanted = NEWEST) => {
  const name = wanted.replace(/^tinybase-?/, '') || NEWEST;
  const alias = name === NEWEST ? 'tinybase' : `tinybase-${name}`;
  // The package does not export its package.json.
  const about = new URL(`node_modules/${alias}/package.json`, import.meta.url);
  const {version} = JSON.parse(await readFile(about, 'utf8'));
  const atLeast = (other) => {
    const parts = version.split('.').map(Number);
    const others = other.split('.').map(Number);
    const at = parts.findIndex((part, index) => part !== others[index]);
    return at < 0 || parts[at] > others[at];
  };
  const load = (path) => import(`${alias}/${path}`);

  const [{createMergeableStore}, {createCustomPersister}, files, clients, servers] =
    await Promise.all([
      load('mergeable-store'),
      load('persisters'),
      load('persisters/persister-file'),
      load('synchronizers/synchronizer-ws-client'),
      load('synchronizers/synchronizer-ws-server'),
    ]);

  const features = {
    clock: atLeast('6.7.5'),
    serverStore: atLeast('5.1.0'),
    serverSimple: atLeast('5.4.9'),
    serverErrors: atLeast('5.4.9'),
    nulls: atLeast('7.0.0'),
    objects: atLeast('8.0.1'),
    serverTimeout: atLeast('9.2.0'),
    fragments: atLeast('9.2.0'),
    channels: atLeast('9.4.0'),
  };
  const need = (feature) => {
    if (!features[feature]) {
      throw new Error(`tinybase ${version} has no ${feature}`);
    }
  };

  const createStore = (uniqueId, getNow) => {
    if (getNow) {
      need('clock');
      return createMergeableStore(uniqueId, getNow);
    }
    return createMergeableStore(uniqueId);
  };

  const createClient = (
    store,
    webSocket,
    {channel, timeout, onSend, onReceive, onIgnoredError, fragmentSize} = {},
  ) => {
    const {createWsSynchronizer} = clients;
    if (channel !== undefined) {
      need('channels');
    }
    if (fragmentSize !== undefined) {
      need('fragments');
    }
    return version === '5.0.0'
      ? createWsSynchronizer(store, webSocket, timeout, onIgnoredError)
      : createWsSynchronizer(
          store,
          webSocket,
          ...(channel === undefined ? [] : [channel]),
          timeout,
          onSend,
          onReceive,
          onIgnoredError,
          fragmentSize,
        );
  };

  const createServer = (
    webSocketServer,
    {createPersisterForPath, onIgnoredError, timeout, fragmentSize} = {},
  ) => {
    if (createPersisterForPath) {
      need('serverStore');
    }
    if (timeout !== undefined) {
      need('serverTimeout');
    }
    if (fragmentSize !== undefined) {
      need('fragments');
    }
    return servers.createWsServer(
      webSocketServer,
      createPersisterForPath,
      onIgnoredError,
      timeout,
      fragmentSize,
    );
  };

  const createServerSimple = async (webSocketServer) => {
    need('serverSimple');
    const {createWsServerSimple} = await load('synchronizers/synchronizer-ws-server-simple');
    return createWsServerSimple(webSocketServer);
  };

  /**
   * A way into a store and out of it as a persister has it: bodies in wire form, objects as strings.
   * The methods of the store of these names decode objects, and keep them raw when they are given back.
   */
  const createWindow = (store) => {
    let toLoad;
    let saved;
    let errors = [];
    const persister = createCustomPersister(
      store,
      async () => toLoad,
      async (getContent) => {
        saved = getContent();
      },
      () => 0,
      () => {},
      (error) => errors.push(error),
      MERGEABLE_STORE_ONLY,
    );
    const throwError = () => {
      const [error] = errors;
      errors = [];
      if (error !== undefined) {
        throw error;
      }
    };
    // A persister that is loading does not save, and says nothing of it: one thing at a time.
    let last = Promise.resolve();
    const next = (action) => {
      const result = last.then(action);
      last = result.catch(() => {});
      return result;
    };
    return {
      load: (body) =>
        next(async () => {
          toLoad = decodeBody(body);
          await persister.load();
          throwError();
        }),
      save: () =>
        next(async () => {
          await persister.save();
          throwError();
          return toPlain(saved);
        }),
    };
  };

  const createStoragePersister = (store, load, save, onIgnoredError) =>
    createCustomPersister(
      store,
      load,
      save,
      () => 0,
      () => {},
      onIgnoredError,
      MERGEABLE_STORE_ONLY,
    );

  return {
    version,
    alias,
    features,
    createStore,
    createClient,
    createServer,
    createServerSimple,
    createWindow,
    createFilePersister: files.createFilePersister,
    createStoragePersister,
    load,
  };
};

/** A store with its clock, and the operations of the vectors on it. */
export class Held {
  constructor(tinybase, store, clock) {
    this.tinybase = tinybase;
    this.store = store;
    this.clock = clock;
  }

  static create(tinybase, uniqueId, {now, offset} = {}) {
    const clock = {now, offset};
    const getNow =
      now === undefined && offset === undefined
        ? undefined
        : () => clock.now ?? Date.now() + (clock.offset ?? 0);
    return new Held(tinybase, tinybase.createStore(uniqueId, getNow), clock);
  }

  get window() {
    this._window ??= this.tinybase.createWindow(this.store);
    return this._window;
  }

  /** Runs operations; returns what each returned, null for the store itself. */
  async run(operations) {
    const results = [];
    for (const operation of operations) {
      const [name, body] = operation;
      if (name === 'apply' || name === 'load') {
        await this.window.load(body);
        results.push(null);
      } else {
        results.push(this.runNow(operation));
      }
    }
    return results;
  }

  /** Runs one operation that needs no waiting. */
  runNow([name, ...args]) {
    const {store, clock} = this;
    switch (name) {
      case 'now':
        [clock.now] = args;
        return null;
      case 'advance':
        clock.now += args[0];
        return null;
      case 'default':
        store.setDefaultContent(args[0]);
        return null;
      case 'transaction':
        return store.transaction(() => args[0].map((operation) => this.runNow(operation)));
      case 'rollback':
        return store.transaction(
          () => args[0].map((operation) => this.runNow(operation)),
          () => true,
        );
      case 'throw':
        throw new Error(args[0] ?? 'thrown');
      case 'apply':
      case 'load':
        throw new Error(`${name} cannot be part of a transaction`);
      default: {
        if (typeof store[name] !== 'function') {
          throw new Error(`tinybase ${this.tinybase.version} has no ${name}`);
        }
        const result = store[name](...args.map(decodeArgument));
        return result === store ? null : result;
      }
    }
  }
}
