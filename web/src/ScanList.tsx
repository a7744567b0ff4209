// The list of scans, the newest first. Only the rows that are seen are in the page, so that there may be a
// hundred thousand.

import { type KeyboardEvent, memo, useCallback, useEffect, useRef, useState } from 'react';

import { listScans, type ScanPage, type ScanRow, told } from './api';
import { continued, merged, moved, ROW_PX, scrolledTo, seenRows, when } from './listed';
import type { News } from './live';

interface Props {
  news: News;
  selected: string | null;
  onChoose: (key: string, byHand: boolean) => void;
}

const SETTLE_MS = 200;

const PAGE = 100;

export function ScanList({ news, selected, onChoose }: Props) {
  const [text, setText] = useState('');
  const [state, setState] = useState('');
  const [page, setPage] = useState<ScanPage | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const list = useRef<HTMLDivElement>(null);
  const asked = useRef(0);
  const continuing = useRef(false);
  const chosen = useRef(selected);
  chosen.current = selected;

  const name = text && !text.includes('*') ? `*${text}*` : text;
  const number = /^\d+$/.test(text) ? text : undefined;
  const filter = { state, limit: String(PAGE), number, name: number === undefined ? name : undefined };
  const filterText = JSON.stringify(filter);
  const shown = useRef({ filterText: '', epoch: -1 });
  // Who looks at scans in one state wants to see them come and go.
  const steps = state ? news.states : null;

  useEffect(() => {
    const turn = ++asked.current;
    const timer = setTimeout(() => {
      listScans(JSON.parse(filterText) as Record<string, string>)
        .then((found) => {
          if (turn !== asked.current) return;
          const same =
            !steps && shown.current.filterText === filterText && shown.current.epoch === news.epoch;
          shown.current = { filterText, epoch: news.epoch };
          setPage((before) => (same ? merged(before, found) : found));
          setProblem(null);
          const first = found.scans[0];
          if (chosen.current === null && first) onChoose(first.key, false);
        })
        .catch((error: Error) => turn === asked.current && setProblem(error.message));
    }, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [filterText, news.list, news.epoch, steps, onChoose]);

  const rows = page?.scans ?? [];
  const [from, until] = seenRows(view.top, view.height, rows.length);
  const wantsOlder = page?.next != null && until > rows.length - PAGE / 2;

  useEffect(() => {
    if (!wantsOlder || !page?.next || continuing.current) return;
    continuing.current = true;
    const turn = asked.current;
    listScans({ ...(JSON.parse(filterText) as Record<string, string>), before: page.next })
      .then((older) => turn === asked.current && setPage((before) => before && continued(before, older)))
      .catch((error: Error) => setProblem(error.message))
      .finally(() => (continuing.current = false));
  }, [wantsOlder, page, filterText]);

  useEffect(() => {
    const element = list.current;
    if (!element) return;
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener('scroll', look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener('scroll', look);
    };
  }, []);

  const at = rows.findIndex((row) => row.key === selected);
  const pressed = (event: KeyboardEvent) => {
    const to = moved(event.key, at, rows.length, view.height);
    const row = to === null ? undefined : rows[to];
    if (to === null || !row || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    onChoose(row.key, true);
    if (list.current) list.current.scrollTop = scrolledTo(to, list.current.scrollTop, view.height);
  };
  const choose = useCallback((key: string) => onChoose(key, true), [onChoose]);
  const now = new Date();

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
      <div className="rows" ref={list}>
        <ul
          role="listbox"
          tabIndex={0}
          aria-label="Scans, the newest first"
          aria-activedescendant={selected && at >= from && at < until ? `scan-${selected}` : undefined}
          onKeyDown={pressed}
          style={{ paddingTop: from * ROW_PX, paddingBottom: (rows.length - until) * ROW_PX }}
        >
          {rows.slice(from, until).map((row, i) => (
            <Row
              key={row.key}
              row={row}
              state={news.states.get(row.key) ?? row.state}
              selected={row.key === selected}
              time={row.created ? when(row.created, now) : ''}
              place={from + i + 1}
              total={page?.next ? (page.total ?? -1) : rows.length}
              onChoose={choose}
            />
          ))}
        </ul>
      </div>
      {page && rows.length === 0 && (
        <p className="waiting">{text || state ? 'No scan is like that.' : 'No scan yet.'}</p>
      )}
      <footer>
        {page && `${page.total.toLocaleString('en')} scan${page.total === 1 ? '' : 's'}`}
        {page && state && rows.length > 0 && `, ${rows.length.toLocaleString('en')} ${state} seen`}
      </footer>
    </nav>
  );
}

interface RowProps {
  row: ScanRow;
  state: string;
  selected: boolean;
  time: string;
  place: number;
  total: number;
  onChoose: (key: string) => void;
}

const Row = memo(function Row({ row, state, selected, time, place, total, onChoose }: RowProps) {
  const { name, number, dataset, session } = row.identity;
  const where = [session, dataset].filter(Boolean).join(' / ');
  const title = row.title ?? told(name);
  return (
    <li
      id={`scan-${row.key}`}
      role="option"
      aria-selected={selected}
      aria-setsize={total}
      aria-posinset={place}
      className={selected ? 'selected' : ''}
      onClick={() => onChoose(row.key)}
    >
      <span className="number">{told(number)}</span>
      <span className="name" title={title}>
        {title}
      </span>
      <span className="where">{where}</span>
      <span className={`state ${state.toLowerCase()}`}>{state.toLowerCase()}</span>
      <time>{time}</time>
    </li>
  );
});
