// What is shown, in one place. Parts of the page listen and never call each other.

export function makeStore(state) {
  const listeners = [];
  return {
    state,
    set(changes) {
      const changed = new Set();
      for (const [name, value] of Object.entries(changes)) {
        if (state[name] !== value) {
          state[name] = value;
          changed.add(name);
        }
      }
      if (changed.size) for (const listener of listeners) listener(changed, state);
    },
    listen(names, listener) {
      listeners.push((changed, all) => names.some((name) => changed.has(name)) && listener(all, changed));
    },
  };
}
