import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';

import { live } from './live';
import { useRemembered } from './remember';
import { ScanList } from './ScanList';
import { ScanView } from './ScanView';

type Theme = 'system' | 'light' | 'dark';

const NEXT: Record<Theme, Theme> = { system: 'dark', dark: 'light', light: 'system' };

const SIGNS: Record<Theme, string> = { system: '◐', dark: '☾', light: '☀' };

export function App() {
  const news = useSyncExternalStore(live.subscribe, live.get);
  const [selected, setSelected] = useState<string | null>(null);
  const [follow, setFollow] = useRemembered('follow', true);
  const [theme, setTheme] = useRemembered<Theme>('theme', 'system');

  useEffect(() => {
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);

  useEffect(() => {
    if (follow && news.newest) setSelected(news.newest);
  }, [follow, news.newest]);

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) || event.ctrlKey || event.metaKey) return;
      if (event.key === '/') {
        event.preventDefault();
        document.getElementById('search')?.focus();
      }
      if (event.key === 'f') setFollow(!follow);
    };
    window.addEventListener('keydown', pressed);
    return () => window.removeEventListener('keydown', pressed);
  }, [follow, setFollow]);

  const choose = useCallback(
    (key: string, byHand: boolean) => {
      setSelected(key);
      if (byHand) setFollow(false);
    },
    [setFollow],
  );

  if (news.refused) {
    return (
      <main className="refused">
        <h1>This address is not complete</h1>
        <p>
          The token is missing or wrong. Open the whole address that <code>blissdata web</code>{' '}
          printed; it ends with <code>#token=…</code> and is new at each start.
        </p>
      </main>
    );
  }
  return (
    <div className="page">
      <header className="top">
        <h1>blissdata</h1>
        <label className="follow">
          <input type="checkbox" checked={follow} onChange={(e) => setFollow(e.target.checked)} />
          Follow the latest scan
        </label>
        <span className={`link ${news.connected && !news.problem ? 'ok' : 'away'}`} role="status">
          {news.connected ? (news.problem ? 'store away' : 'live') : 'not connected'}
        </span>
        <button
          type="button"
          onClick={() => setTheme(NEXT[theme])}
          aria-label={`Colours of the page: ${theme}`}
          title={`Colours of the page: ${theme}`}
        >
          {SIGNS[theme]} <span className="word">{theme === 'system' ? 'auto' : theme}</span>
        </button>
      </header>
      {!news.connected && (
        <p className="banner" role="alert">
          The viewer does not answer. This page comes back by itself when it does.
        </p>
      )}
      {news.connected && news.problem && (
        <p className="banner" role="alert">
          {news.problem} This page goes on when it is back.
        </p>
      )}
      <div className="columns">
        <ScanList news={news} selected={selected} onChoose={choose} />
        {selected ? (
          <ScanView key={selected} scanKey={selected} news={news} />
        ) : (
          <main className="empty">No scan yet. The first one is shown as soon as it comes.</main>
        )}
      </div>
    </div>
  );
}
