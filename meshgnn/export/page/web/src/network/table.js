// Sortable tables. Cells are text nodes: no name in the data can act as markup.

import { h, number } from "../dom.js";

const FIRST = 300; // rows that are drawn at once; a button shows the others

export function text(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return Number.isInteger(value) ? String(value) : number(value, Math.abs(value) >= 100 ? 0 : digits);
}

// Numbers stand to the right; long texts may be broken, so that more columns fit.
const kind = (value) => (typeof value === "number" ? "number" : String(value ?? "").length > 14 ? "long" : null);

export class Table {
  // columns: [{ key, title }]; rows: objects. `chosen(row)` marks one.
  constructor(caption, columns, rows, { sort = null, down = true, mark = () => false, pick = null } = {}) {
    Object.assign(this, { columns, rows, sort, down, mark, pick, limit: FIRST });
    this.head = h("tr");
    this.body = h("tbody");
    this.more = h("button", { type: "button", class: "more", onclick: () => { this.limit = Infinity; this.draw(); } });
    this.element = h("div", { class: "wide" }, h("table", {}, h("caption", {}, caption), h("thead", {}, this.head), this.body), this.more);
    this.draw();
  }

  sorted() {
    if (this.sort === null) return this.rows;
    const value = (row) => row[this.sort] ?? null;
    const sign = this.down ? -1 : 1;
    return [...this.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null); // nothing stands last either way
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
    });
  }

  draw() {
    this.head.replaceChildren(...this.columns.map(({ key, title }) => {
      const own = key === this.sort;
      const press = () => {
        [this.down, this.sort] = [own ? !this.down : true, key];
        this.draw();
        this.head.querySelector(`[data-key="${CSS.escape(key)}"]`).focus();
      };
      return h("th", { scope: "col", "aria-sort": own ? (this.down ? "descending" : "ascending") : "none" },
        h("button", { type: "button", "data-key": key, onclick: press }, title, own ? (this.down ? "\u00a0▾" : "\u00a0▴") : ""));
    }));
    const rows = this.sorted();
    this.body.replaceChildren(...rows.slice(0, this.limit).map((row) =>
      h("tr", { class: this.mark(row) ? "marked" : null, onclick: this.pick ? () => this.pick(row) : null },
        this.columns.map(({ key }) => h("td", { class: kind(row[key]) }, text(row[key]))))));
    this.more.hidden = rows.length <= this.limit;
    this.more.textContent = `all ${rows.length} rows`;
  }

  // The whole table in its present order, as CSV.
  csv() {
    const cell = (value) => {
      const plain = value === null || value === undefined ? "" : String(value);
      // A leading sign of a formula would be run by spreadsheets.
      const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
      return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    const lines = [this.columns.map(({ title }) => cell(title)), ...this.sorted().map((row) => this.columns.map(({ key }) => cell(row[key])))];
    return `${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
  }
}
