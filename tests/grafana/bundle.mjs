// Writes preview.js, the page's script, into the folder that is given.
import { build } from 'esbuild';

// Grafana draws scroll bars of its own with a package that breaks when bundled; a picture needs none.
const plain = {
  name: 'plain scroll bars',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^react-custom-scrollbars-2$/ }, ({ path }) => ({ path, namespace: 'plain' }));
    onLoad({ filter: /.*/, namespace: 'plain' }, () => ({
      contents: "import * as React from 'react'; const Scrollbars = ({ children }) => <div>{children}</div>; export { Scrollbars }; export default Scrollbars;",
      loader: 'jsx', resolveDir: process.cwd(),
    }));
  },
};
await build({
  entryPoints: ['preview.tsx'], outdir: process.argv[2], bundle: true, format: 'esm', jsx: 'automatic', plugins: [plain],
  loader: { '.svg': 'text', '.woff2': 'dataurl', '.ttf': 'empty' }, define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  logLevel: 'error',
});
