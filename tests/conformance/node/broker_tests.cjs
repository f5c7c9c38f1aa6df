// wsmsgbroker's own tests, as they come with the package, with its real client, against another server.
// `node broker_tests.cjs PORT PATH` prints one JSON line for each test; then, with the same client, what its tests leave
// out: a client that comes again under its id, unregistering, and a message to itself.
const {EventEmitter, once} = require('node:events');
const Module = require('node:module');
const path = require('node:path');

const [port, urlPath] = process.argv.slice(2);
const RealClient = require('wsmsgbroker');

const Client = function (id) {
  return new RealClient(id, 'localhost', port, urlPath);
};
Client.Server = EventEmitter; // the server is ours

const expect = (value) => ({
  to: {
    equal: (wanted) => {
      if (value !== wanted) throw new Error(`${JSON.stringify(value)} is not ${JSON.stringify(wanted)}`);
    },
  },
});

const load = Module._load;
Module._load = (request, ...rest) => {
  if (request === '../index') return Client;
  return request === 'chai' ? {expect} : load(request, ...rest);
};

const tests = [];
globalThis.describe = (_, add) => add();
globalThis.it = (name, test) => tests.push([name, test]);

const say = (result) => console.log(JSON.stringify(result));

const run = ([name, test]) =>
  new Promise((resolve) => {
    const end = (error) => {
      process.removeListener('uncaughtException', end);
      clearTimeout(timer);
      say({test: name, error: error === undefined ? null : String(error)});
      resolve();
    };
    const timer = setTimeout(() => end(new Error('timed out')), 20_000);
    process.on('uncaughtException', end);
    test((error) => end(error instanceof Error ? error : undefined));
  });

const beyond = async () => {
  const ann = Client('ann');
  await once(ann, 'registered');
  const older = Client('bob');
  await once(older, 'registered');
  const newer = Client('bob');
  const [[lost]] = await Promise.all([once(older, 'unregistered'), once(newer, 'registered')]);
  say({lost});
  older.close();
  await once(older, 'close');
  ann.send({to: 'bob'}, 'bob');
  const [message, response] = await once(newer, 'message');
  say({message, wantsAnswer: response !== undefined});
  ann.on('message', (text, own) => own.send(`${text} indeed`));
  say({toItself: await new Promise((resolve) => ann.send('me', 'ann', (from, answer) => resolve([from, answer])))});
  newer.unregister();
  say({unregistered: (await once(newer, 'unregistered'))[0]});
  newer.close();
  ann.close();
};

(async () => {
  require(path.join(path.dirname(require.resolve('wsmsgbroker')), 'test', 'test_client.js'));
  for (const test of tests) await run(test);
  await beyond();
  process.exit();
})();
