// Builds the dashboard into coordinator/dashboard/static, or the folder that is given: one script and one style sheet whose
// names hold a digest of their content, each with a copy compressed by gzip, and the page that names them.
// The same sources and versions give the same bytes, but for the compressed copies, which depend on Node's zlib.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const target = resolve(process.argv[2] ?? join(here, '../coordinator/dashboard/static'));
const assets = join(target, 'assets');

const { outputFiles } = await build({
  absWorkingDir: here,
  entryPoints: ['src/main.tsx', 'src/style.css'],
  bundle: true,
  minify: true,
  write: false,
  outdir: 'out',
  format: 'esm',
  target: ['es2022'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  charset: 'utf8',
  legalComments: 'none',
});

mkdirSync(assets, { recursive: true });
for (const name of readdirSync(assets)) rmSync(join(assets, name));

/** Writes a part under a name that holds its digest. Returns that name. */
function place(stem, suffix, content) {
  const name = `${stem}-${createHash('sha256').update(content).digest('hex').slice(0, 12)}.${suffix}`;
  writeFileSync(join(assets, name), content);
  writeFileSync(join(assets, `${name}.gz`), gzipSync(content, { level: 9 }));
  return name;
}

const bySuffix = (suffix) => outputFiles.find((file) => file.path.endsWith(suffix)).contents;
const icon = place('icon', 'svg', readFileSync(join(here, 'src/icon.svg')));
const style = place('style', 'css', bySuffix('.css'));
const script = place('app', 'js', bySuffix('.js'));
const page = readFileSync(join(here, 'src/index.html'), 'utf8')
  .replace('{icon}', icon)
  .replace('{style}', style)
  .replace('{script}', script);
writeFileSync(join(target, 'index.html'), page);
