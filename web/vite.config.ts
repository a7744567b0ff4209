import { fileURLToPath } from 'node:url';

import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const plain = (name: string) => fileURLToPath(new URL(`src/plain/${name}.ts`, import.meta.url));

// Nothing is loaded from elsewhere: what the page needs is in the package. H5Web and its WebGL come in
// files of their own, which are loaded when somebody opens an image or a tree.
export default defineConfig({
  plugins: [react()],
  base: './',
  // They make code at run time, which the page's content security policy forbids.
  resolve: { alias: { 'ndarray-ops': plain('ndarray-ops'), ndarray: plain('ndarray') } },
  build: {
    target: 'es2022',
    sourcemap: false,
    chunkSizeWarningLimit: 2500,
    license: { fileName: 'licences.md' },
  },
});
