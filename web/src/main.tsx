import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { takeToken } from './api';
import { App } from './App';
import { live } from './live';
import './styles.css';

takeToken();
window.addEventListener('hashchange', () => {
  if (location.hash.includes('token=')) {
    takeToken();
    location.reload();
  }
});
live.connect();

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
