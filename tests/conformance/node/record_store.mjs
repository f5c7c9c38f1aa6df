// Runs the scripts of store_scripts.mjs on the newest TinyBase and prints what it did, one script a line.
//
//     node record_store.mjs > ../golden/store_api.json
//
// ../golden/README.md explains the format.

import {Held, loadTinyBase} from './tinybase.mjs';
import {scripts} from './store_scripts.mjs';
import {decodeArgument, encodeStamped, messageOf, toJson, toPlain} from './values.mjs';

const T0 = 1704067200000;
const tinybase = await loadTinyBase();

/** Which arguments of a listener are functions, and of what. */
const ID_CHANGES = new Set(['TableIds', 'RowIds', 'CellIds', 'TableCellIds', 'ValueIds']);
const CELL_CHANGES = new Set(['Cell', 'Row', 'Table', 'Tables']);
const VALUE_CHANGES = new Set(['Value', 'Values']);
const STAMPED = new Set(['getMergeableContent', 'getTransactionMergeableChanges']);

class Run extends Held {
  static start() {
    const {store, clock} = Held.create(tinybase, 's1', {now: T0});
    return new Run(tinybase, store, clock);
  }

  constructor(...args) {
    super(...args);
    this.log = [];
    this.listeners = new Map();
  }

  /** What a listener was given, without the store, and with its functions called. */
  describe(kind, args, probe) {
    return args.map((arg) => {
      if (typeof arg !== 'function') {
        return arg;
      }
      if (ID_CHANGES.has(kind)) {
        return {ids: arg()};
      }
      if (CELL_CHANGES.has(kind) || VALUE_CHANGES.has(kind)) {
        const own = kind === 'Cell' ? [args.slice(0, 3)] : kind === 'Value' ? [args.slice(0, 1)] : [];
        return {changes: (probe ?? own).map((path) => arg(...path))};
      }
      return arg;
    });
  }

  listen(label, kind, ids, {mutator, probe, times = Infinity, throw: message, do: operations = []}) {
    let left = times;
    const listener = (_store, ...args) => {
      this.log.push(toPlain(['call', label, ...this.describe(kind, args, probe)]));
      if (left-- > 0) {
        for (const operation of operations) {
          this.did(label, operation, args);
        }
        if (message !== undefined) {
          throw new Error(message);
        }
      }
    };
    const isTransaction = kind.endsWith('Transaction');
    const id = this.store[`add${kind}Listener`](
      ...ids.map(decodeArgument),
      listener,
      ...(isTransaction || mutator === undefined ? [] : [mutator]),
    );
    this.listeners.set(label, id);
    return id;
  }

  did(label, operation, args) {
    const withArgs = operation.map((part) => (part?.$arg === undefined ? part : args[part.$arg]));
    try {
      this.log.push(toPlain(['did', label, withArgs, this.runNow(withArgs)]));
    } catch (error) {
      this.log.push(['did', label, withArgs, {error: messageOf(error)}]);
    }
  }

  runNow(operation) {
    const [name, ...args] = operation;
    switch (name) {
      case 'on':
        return this.listen(...args);
      case 'off':
        this.store.delListener(this.listeners.get(args[0]));
        return null;
      case 'callListener':
        this.store.callListener(this.listeners.get(args[0]?.$listener) ?? args[0]);
        return null;
      default: {
        const result = super.runNow(operation);
        return STAMPED.has(name) ? encodeStamped(result) : result;
      }
    }
  }

  async step({op, departs}) {
    this.log = [];
    const step = {op};
    if (departs !== undefined) {
      step.departs = departs;
    }
    try {
      const [result] = await this.run([op]);
      if (result !== null) {
        step.result = result;
      }
    } catch (error) {
      step.error = messageOf(error);
    }
    if (this.log.length > 0) {
      step.log = this.log;
    }
    return toPlain(step);
  }

  async state() {
    return toPlain({content: this.store.getContent(), mergeable: await this.window.save()});
  }
}

const record = async ({name, about, departs, steps}) => {
  const run = Run.start();
  const recorded = [];
  let before = toJson(await run.state());
  for (const each of steps) {
    const step = await run.step(Array.isArray(each) ? {op: each} : each);
    const state = await run.state();
    const after = toJson(state);
    // The state is told where it is another than before.
    recorded.push(after === before ? step : {...step, ...state});
    before = after;
  }
  return {name, about, departs, uniqueId: 's1', now: T0, steps: recorded};
};

const names = scripts.map(({name}) => name);
if (new Set(names).size !== names.length) {
  throw new Error('two scripts have one name');
}
const lines = [];
for (const script of scripts) {
  lines.push(JSON.stringify(await record(script)));
}
const meta = {tinybase: tinybase.version, t0: T0};
process.stdout.write(`{"meta":${JSON.stringify(meta)},\n"scripts":[\n${lines.join(',\n')}\n]}\n`);
