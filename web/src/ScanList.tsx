import { type KeyboardEvent, useEffect, useRef, useState } from 'react';

import { listScans, type ScanPage, type ScanRow } from './api';
import type { News } from './live';

interface Props {
  news: News;
  selected: string | null;
  onChoose: (key: string, byHand: boolean) => void;
}

const SETTLE_MS = 200;

export function ScanList({ news, selected, onChoose }: Props) {
  const [text, setText] = useState('');
  const [state, setState] = useState('');
  const [page, setPage] = useState<ScanPage | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const asked = useRef(0);
  const chosen = useRef(selected);
  chosen.current = selected;

  const name = text && !text.includes('*') ? `*${text}*` : text;
  const number = /^\d+$/.test(text) ? text : undefined;
  const filter = { state, limit: '50', number, name: number === undefined ? name : undefined };
  const filterText = JSON.stringify(filter);

  useEffect(() => {
    const turn = ++asked.current;
    const timer = setTimeout(() => {
      listScans(JSON.parse(filterText) as Record<string, string>)
        .then((found) => {
          if (turn !== asked.current) return;
          setPage(found);
          setProblem(null);
          const first = found.scans[0];
          if (chosen.current === null && first) onChoose(first.key, false);
        })
        .catch((error: Error) => turn === asked.current && setProblem(error.message));
    }, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [filterText, news.list, onChoose]);

  const more = () => {
    if (!page?.next) return;
    void listScans({ ...filter, before: page.next })
      .then((found) => setPage({ ...found, scans: [...page.scans, ...found.scans] }))
      .catch((error: Error) => setProblem(error.message));
  };

  const rows = page?.scans ?? [];
  const moved = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = rows.findIndex((row) => row.key === selected);
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    if (next) {
      onChoose(next.key, true);
      document.getElementById(`scan-${next.key}`)?.scrollIntoView({ block: 'nearest' });
    }
  };

  return (
    <nav className="list" aria-label="Scans">
      <div className="filters">
        <input
          id="search"
          type="search"
          placeholder="name or number ( / )"
          aria-label="Name or number"
          value={text}
          onChange={(e) => setText(e.target.value)}
        />
        <select aria-label="State" value={state} onChange={(e) => setState(e.target.value)}>
          <option value="">all</option>
          <option value="running">running</option>
          <option value="finished">finished</option>
        </select>
      </div>
      {problem && <p className="problem">{problem}</p>}
      <ul
        role="listbox"
        tabIndex={0}
        aria-label="Scans, the newest first"
        aria-activedescendant={selected ? `scan-${selected}` : undefined}
        onKeyDown={moved}
      >
        {rows.map((row) => (
          <Row
            key={row.key}
            row={row}
            state={news.states.get(row.key) ?? row.state}
            selected={row.key === selected}
            onChoose={onChoose}
          />
        ))}
      </ul>
      <footer>
        {page && `${page.total} scan${page.total === 1 ? '' : 's'}`}
        {page?.next && (
          <button type="button" onClick={more}>
            older ones
          </button>
        )}
      </footer>
    </nav>
  );
}

interface RowProps {
  row: ScanRow;
  state: string;
  selected: boolean;
  onChoose: (key: string, byHand: boolean) => void;
}

function Row({ row, state, selected, onChoose }: RowProps) {
  const { name, number, dataset, session } = row.identity;
  const where = [session, dataset].filter(Boolean).join(' / ');
  return (
    <li
      id={`scan-${row.key}`}
      role="option"
      aria-selected={selected}
      className={selected ? 'selected' : ''}
      onClick={() => onChoose(row.key, true)}
    >
      <span className="number">{String(number ?? '')}</span>
      <span className="name" title={row.title ?? undefined}>
        {row.title ?? String(name ?? '')}
      </span>
      <span className={`state ${state.toLowerCase()}`}>{state.toLowerCase()}</span>
      <span className="where">{where}</span>
      <time>{row.created ? new Date(row.created * 1000).toLocaleTimeString() : ''}</time>
    </li>
  );
}
