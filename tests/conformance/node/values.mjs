// What JSON cannot say, said in JSON. Shared by peer.mjs and record_store.mjs.
//
// Out: undefined travels as U+FFFC, as in TinyBase's own JSON.
// In, as an argument of an operation: {"$": "undefined"}, {"$": "NaN"} and the like, see `specials`.
// In, inside a body to merge or load: U+FFFC is undefined.

export const UNDEFINED = '\uFFFC';
const JSON_PREFIX = '\uFFFD';

const specials = {
  undefined: () => undefined,
  NaN: () => NaN,
  Infinity: () => Infinity,
  '-Infinity': () => -Infinity,
  '-0': () => -0,
  bigint: () => 1n,
  symbol: () => Symbol('s'),
  date: () => new Date(0),
  cycle: () => {
    const cycle = {};
    cycle.cycle = cycle;
    return cycle;
  },
  // Map setters.
  increment: () => (old) => old + 1,
  orOne: () => (old) => (old === undefined ? 1 : old + 1),
  exclaim: () => (old) => `${old}!`,
  keep: () => (old) => old,
  toUndefined: () => () => undefined,
  // Sorters of getSortedRowIds.
  byLength: () => (a, b) => String(a).length - String(b).length,
};

const isPlainObject = (thing) =>
  thing !== null && typeof thing === 'object' && !Array.isArray(thing);

/** A copy of a tree with every leaf and object passed through `change` first (a result other than undefined stays). */
const mapTree = (tree, leaf) => {
  if (Array.isArray(tree)) {
    return tree.map((child) => mapTree(child, leaf));
  }
  if (isPlainObject(tree)) {
    const copy = {};
    for (const key of Object.keys(tree)) {
      Object.defineProperty(copy, key, {
        value: mapTree(tree[key], leaf),
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    return copy;
  }
  return leaf(tree);
};

/** An argument of an operation, with its special values. */
export const decodeArgument = (argument) => {
  if (isPlainObject(argument)) {
    const keys = Object.keys(argument);
    if (keys.length === 1 && keys[0] === '$' && argument.$ in specials) {
      return specials[argument.$]();
    }
    const copy = {};
    for (const key of keys) {
      Object.defineProperty(copy, key, {
        value: decodeArgument(argument[key]),
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    return copy;
  }
  return Array.isArray(argument) ? argument.map(decodeArgument) : argument;
};

/** A body to merge or load, with its undefineds. */
export const decodeBody = (body) =>
  mapTree(body, (leaf) => (leaf === UNDEFINED ? undefined : leaf));

/** JSON text of anything that TinyBase returns. */
export const toJson = (thing) =>
  JSON.stringify(thing, (_key, value) => {
    switch (typeof value) {
      case 'undefined':
        return UNDEFINED;
      case 'number':
        return Number.isFinite(value) ? value : {$: String(value)};
      case 'function':
      case 'symbol':
      case 'bigint':
        return {$: typeof value};
      default:
        return value;
    }
  }) ?? 'null';

/** What the other side will see of it. */
export const toPlain = (thing) => JSON.parse(toJson(thing));

/** Stamped content or changes with objects and arrays as the strings that are stored and sent. */
export const encodeStamped = ([tables, values, ...rest]) => {
  const encodeCell = ([cell, ...stamp]) => [
    cell !== null && typeof cell === 'object'
      ? JSON_PREFIX + JSON.stringify(cell)
      : cell,
    ...stamp,
  ];
  const encodeThings =
    (encodeThing) =>
    ([things, ...stamp]) => {
      const copy = {};
      for (const id of Object.keys(things)) {
        Object.defineProperty(copy, id, {
          value: encodeThing(things[id]),
          configurable: true,
          enumerable: true,
          writable: true,
        });
      }
      return [copy, ...stamp];
    };
  const encodeRow = encodeThings(encodeCell);
  return [
    encodeThings(encodeThings(encodeRow))(tables),
    encodeRow(values),
    ...rest,
  ];
};

/** A message for any error, also of the kinds that are no Error. */
export const messageOf = (error) =>
  error instanceof Error || typeof error?.message === 'string'
    ? error.message || error.name
    : String(error);
