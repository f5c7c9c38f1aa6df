// What the CRDTs on Node are asked for W1, W2 and W6, whatever their API: a map of rows, each a map of cells.
//
// An API has make() of a document, transact(document, write), where write gets the table, and addRow(table, rowId),
// rowOf(table, rowId), setCell(row, cellId, value), update(document), apply(document, update). What changes a document
// gives the document, as some are not changed in place.

import {cellsOf, rowsOf, serveTasks, timed, weighed} from './worker.mjs';

export const serveDocuments = (versions, api) => {
  const fill = (table, rows) => {
    for (const [rowId, cells] of Object.entries(rows)) {
      const row = api.addRow(table, rowId);
      for (const cellId in cells) {
        api.setCell(row, cellId, cells[cellId]);
      }
    }
  };
  const filled = (rows) => api.transact(api.make(), (table) => fill(table, rowsOf(rows)));
  const made = {};
  const updates = (rows) => {
    if (!made[rows]) {
      const remote = filled(rows);
      const base = api.update(remote);
      const conflicting = api.transact(remote, (table) =>
        cellsOf(rows).forEach(([rowId, cellId, value], number) => {
          if (number % 2) {
            api.setCell(api.rowOf(table, rowId), cellId, value.toUpperCase());
          }
        }),
      );
      made[rows] = [base, api.update(conflicting)];
    }
    return made[rows];
  };

  return serveTasks(versions, {
    together: ({rows}) => {
      const document = api.make();
      const content = rowsOf(rows);
      return timed(() => api.transact(document, (table) => fill(table, content)));
    },
    singly: ({rows, count, full}) => {
      const rowIds = Object.keys(rowsOf(rows)).slice(0, count);
      let document = full ? filled(rows) : api.make();
      const find = full ? api.rowOf : api.addRow;
      return timed(() => {
        for (const rowId of rowIds) {
          document = api.transact(document, (table) => api.setCell(find(table, rowId), 'cell0', 'changed'));
        }
      });
    },
    merge: async ({rows, into}) => {
      const [base, conflicting] = updates(rows);
      const document = into === 'empty' ? api.make() : api.apply(api.make(), base);
      const update = into === 'conflicting' ? conflicting : base;
      return {...(await timed(() => api.apply(document, update))), bytes: base.length};
    },
    memory: ({rows}) => {
      const update = api.update(filled(rows));
      return weighed(() => api.apply(api.make(), update));
    },
  });
};
