// Writes boards.schema.json from Grafana's TypeScript types; the same versions give the same bytes.
import { readFileSync, writeFileSync } from 'node:fs';
import { createGenerator } from 'ts-json-schema-generator';

const { version, license } = JSON.parse(readFileSync('node_modules/@grafana/schema/package.json', 'utf8'));
const made = createGenerator({
  path: 'boards.ts', type: 'Boards', expose: 'none', jsDoc: 'none', skipTypeCheck: true,
}).createSchema('Boards');
const source = `Made from the types of @grafana/schema ${version} (${license}, Grafana Labs) by schema.mjs beside it.`;
writeFileSync('boards.schema.json', `${JSON.stringify({ $comment: source, ...made.definitions.Boards })}\n`);
