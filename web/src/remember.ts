// What the user chose, for the next scan and the next visit.

import { useCallback, useState } from 'react';

export function useRemembered<T>(name: string, initial: T): [T, (value: T) => void] {
  const where = `blissdata:${name}`;
  const read = (): T => {
    try {
      const found = localStorage.getItem(where);
      return found === null ? initial : (JSON.parse(found) as T);
    } catch {
      return initial;
    }
  };
  const [known, setKnown] = useState({ where, value: read() });
  let current = known;
  if (known.where !== where) {
    current = { where, value: read() };
    setKnown(current);
  }
  const set = useCallback(
    (value: T) => {
      setKnown({ where, value });
      try {
        localStorage.setItem(where, JSON.stringify(value));
      } catch {
        // a browser that keeps nothing
      }
    },
    [where],
  );
  return [current.value, set];
}
