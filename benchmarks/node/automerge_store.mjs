// Automerge.

import * as Automerge from '@automerge/automerge';
import {createRequire} from 'node:module';
import {serveDocuments} from './documents.mjs';

const require = createRequire(import.meta.url);
const {dependencies} = require('./package.json');

await serveDocuments(
  {automerge: dependencies['@automerge/automerge']},
  {
    make: () => Automerge.init(),
    transact: (document, write) =>
      Automerge.change(document, (draft) => {
        draft.table ??= {};
        write(draft.table);
      }),
    addRow: (table, rowId) => {
      table[rowId] = {};
      return table[rowId];
    },
    rowOf: (table, rowId) => table[rowId],
    setCell: (row, cellId, value) => {
      row[cellId] = value;
    },
    update: (document) => Automerge.save(document),
    apply: (document, update) => Automerge.loadIncremental(document, update),
  },
);
