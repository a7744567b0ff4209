// A row of tabs: one is chosen; arrows go from one to the next, as the keyboard's rules for tabs say
// (WAI-ARIA Authoring Practices, "Tabs").

import { type KeyboardEvent, useRef } from 'react';

interface Props<T extends string> {
  label: string;
  className?: string;
  tabs: readonly (readonly [id: T, title: string])[];
  chosen: T;
  onChoose: (id: T) => void;
}

export function Tabs<T extends string>({ label, className = '', tabs, chosen, onChoose }: Props<T>) {
  const row = useRef<HTMLDivElement>(null);
  const pressed = (event: KeyboardEvent) => {
    const at = tabs.findIndex(([id]) => id === chosen);
    const to = {
      ArrowRight: (at + 1) % tabs.length,
      ArrowLeft: (at - 1 + tabs.length) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    const next = to === undefined ? undefined : tabs[to];
    if (to === undefined || !next) return;
    event.preventDefault();
    onChoose(next[0]);
    row.current?.querySelectorAll<HTMLElement>('[role=tab]')[to]?.focus();
  };
  return (
    <div ref={row} role="tablist" aria-label={label} className={`tabs ${className}`} onKeyDown={pressed}>
      {tabs.map(([id, title]) => (
        <button
          role="tab"
          type="button"
          key={id}
          aria-selected={id === chosen}
          tabIndex={id === chosen ? 0 : -1}
          onClick={() => onChoose(id)}
        >
          {title}
        </button>
      ))}
    </div>
  );
}
