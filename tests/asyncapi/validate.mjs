// Validates an AsyncAPI document: node validate.mjs FILE. Prints every finding; an error or a warning makes it fail.
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(await readFile(process.argv[2], 'utf8'));
for (const { severity, path, message } of diagnostics) {
  console.log(`${['error', 'warning', 'information', 'hint'][severity]} at ${path.join('.')}: ${message}`);
}
const isFit = document && diagnostics.every(({ severity }) => severity > 1);
if (isFit) console.log(`valid: ${document.operations().length} operations, ${document.messages().length} messages`);
process.exitCode = isFit ? 0 : 1;
