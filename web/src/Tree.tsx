// The scan as an HDF5 tree, in H5Web; loaded when somebody opens it. It looks at a snapshot, never at
// what moves: "new data" takes the next one.

import { App, createBasicFetcher, H5GroveProvider } from '@h5web/app';
import '@h5web/app/styles.css';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';

import { headers, takeSnapshot, type WholeScan } from './api';
import type { Lengths } from './live';
import { useRemembered } from './remember';

const LEAST_MS = 5000;

/** For so long the server gives the same snapshot to everybody. */
const SHARED_MS = 1100;

interface Props {
  file: string;
  scan: WholeScan;
  state: string;
  lengths: Lengths;
}

export default function Tree({ file, scan, state, lengths }: Props) {
  const [version, setVersion] = useState<number | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [auto, setAuto] = useRemembered('refresh', true);
  const [outdated, setOutdated] = useState(false);
  const taken = useRef(0);
  const shown = useRef<number | null>(null);
  const later = useRef<ReturnType<typeof setTimeout>>();
  const count = [...lengths.values()].reduce((sum, [length]) => sum + length, 0);
  const shownCount = useRef(count);
  const ended = state === 'CLOSED' || state === 'GONE';
  const waiting = count === 0 && !ended;
  const fetcher = useMemo(() => createBasicFetcher({ headers: headers() }), []);

  const refresh = useCallback(() => {
    taken.current = performance.now();
    clearTimeout(later.current);
    takeSnapshot(file)
      .then((found) => {
        if (found === shown.current) {
          later.current = setTimeout(refresh, SHARED_MS); // nothing newer yet: what is shown is too young
          return;
        }
        shown.current = found;
        setVersion(found);
        setOutdated(false);
        setProblem(null);
      })
      .catch((error: Error) => setProblem(error.message));
  }, [file]);

  useEffect(() => {
    if (!waiting) refresh();
    return () => clearTimeout(later.current);
  }, [waiting, refresh]);

  useEffect(() => {
    if (ended && version !== null) refresh();
    // Only when the scan ends.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [ended]);

  useEffect(() => {
    if (version === null || count === shownCount.current) return;
    setOutdated(true);
    if (!auto) return;
    const timer = setTimeout(
      () => {
        shownCount.current = count;
        refresh();
      },
      Math.max(0, LEAST_MS - (performance.now() - taken.current)),
    );
    return () => clearTimeout(timer);
  }, [count, auto, version, refresh]);

  if (waiting) return <p className="waiting">Waiting for the first point.</p>;
  return (
    <div className="tree" data-version={version ?? undefined}>
      <div className="controls">
        <button type="button" onClick={refresh} disabled={!outdated}>
          {outdated ? 'New data: show them' : 'Up to date'}
        </button>
        <label>
          <input type="checkbox" checked={auto} onChange={(e) => setAuto(e.target.checked)} /> by itself
          every 5 s
        </label>
        <code>{file}</code>
      </div>
      {problem && <p className="problem">{problem}</p>}
      {version !== null && (
        <div className="h5web">
          <H5GroveProvider
            url={new URL(`h5/${version}`, location.href).href}
            filepath={file}
            fetcher={fetcher}
            resetKeys={[version]}
          >
            <App
              sidebarOpen
              initialPath={`/${String(scan.identity.number)}.1`}
              disableDarkMode={document.documentElement.dataset.theme === 'light'}
            />
          </H5GroveProvider>
        </div>
      )}
    </div>
  );
}
