"use strict";
/* The report is complete without this script. It adds sorting, filters, copying, figures under the
   pointer, and the links between marks of charts and rows of tables. */
(() => {
  const FILTERED = ["file", "runtime", "processor", "core", "batch", "threads", "verdict"];
  const NAMES = ["file", "layer", "epoch"]; // columns that name what a row is about
  const LEAST_ROWS = 6; // of a table with filters
  const PREFIXES = { n: 1e-9, "µ": 1e-6, m: 1e-3 };

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  /* ---- Tables ---- */

  const text = (cell) => cell.textContent.trim();

  /** The number that a cell starts with, without the prefix of its unit; NaN without a number. */
  function number(words) {
    const match = /^([+-]?[\d,]*\.?\d+)\s*(?:([nµm]?)[sJW]\b)?(?![\w.])/.exec(words);
    return match ? Number(match[1].replaceAll(",", "")) * (PREFIXES[match[2]] ?? 1) : NaN;
  }

  const isNumber = (words) => /^[+-]?[\d,]*\.?\d+$/.test(words);
  const isMissing = (words) => words === "–" || words === "";

  const FORMATS = {
    CSV: (columns, rows) => {
      const field = (words) => {
        if (isMissing(words)) return "";
        if (isNumber(words)) return words.replaceAll(",", "");
        // A spreadsheet would run a text with these first characters as a formula.
        const safe = /^[=+\-@\t\n]/.test(words) ? `'${words}` : words;
        return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
      };
      return [columns, ...rows].map((row) => row.map(field).join(",")).join("\n") + "\n";
    },
    Markdown: (columns, rows) => {
      const escaped = (words) => words.replace(/\s+/g, " ").replace(/[\\`*[\]<>|~#&$]/g, "\\$&");
      const line = (cells) => `| ${cells.join(" | ")} |`;
      return [line(columns), line(columns.map(() => "---")), ...rows.map((row) => line(row.map(escaped)))].join("\n") + "\n";
    },
    JSON: (columns, rows) => {
      const value = (words) => (isMissing(words) ? null : isNumber(words) ? number(words) : words);
      return JSON.stringify(rows.map((row) => Object.fromEntries(row.map((words, i) => [columns[i], value(words)]))), null, 1);
    },
  };

  async function copy(words) {
    try {
      await navigator.clipboard.writeText(words);
      return true;
    } catch {
      const field = element("textarea", { readonly: "", class: "offscreen" });
      field.value = words;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }

  function setUpTable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const columns = heads.map(text);
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, cells: [...row.cells].map(text) }));
    const status = element("span", { role: "status" });
    const label = table.closest("[aria-label]").getAttribute("aria-label");
    const tools = element("div", { class: "tools", role: "group", "aria-label": `Tools for ${label}` });
    const conditions = [];
    const select = (name, options, attributes = {}) => {
      const made = element("select", { "aria-label": name, ...attributes }, element("option", { value: "" }, name));
      for (const [value, words] of options) made.append(element("option", { value }, words));
      tools.append(made);
      return made;
    };

    function show() {
      const kept = rows.filter((each) => {
        each.row.hidden = !conditions.every((accepts) => accepts(each.cells));
        return !each.row.hidden;
      });
      status.textContent = kept.length < rows.length ? `${kept.length} of ${rows.length} rows` : "";
    }

    function clearFilters() {
      for (const field of tools.querySelectorAll("input, select.filter")) field.value = "";
      show();
    }

    function sortBy(index, direction) {
      const isNumeric = rows.some((each) => !Number.isNaN(number(each.cells[index])));
      const sign = direction === "descending" ? -1 : 1;
      const sorted = direction === "none" ? rows : rows.toSorted((a, b) => {
        const [x, y] = [a.cells[index], b.cells[index]];
        if (!isNumeric) return sign * x.localeCompare(y, "en", { numeric: true });
        const [left, right] = [number(x), number(y)];
        // Cells without a number stay at the end.
        if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
        return sign * (left - right);
      });
      body.append(...sorted.map((each) => each.row));
      heads.forEach((head, i) => {
        if (i === index && direction !== "none") head.setAttribute("aria-sort", direction);
        else head.removeAttribute("aria-sort");
      });
    }

    heads.forEach((head, index) => {
      const button = element("button", { type: "button", class: "sort" }, ...head.childNodes);
      head.append(button);
      const next = { ascending: "descending", descending: "none" };
      button.addEventListener("click", () => sortBy(index, next[head.getAttribute("aria-sort")] ?? "ascending"));
    });
    if (rows.length >= LEAST_ROWS) {
      const search = element("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows of ${label}` });
      search.addEventListener("input", show);
      conditions.push((cells) => cells.join("\t").toLowerCase().includes(search.value.trim().toLowerCase()));
      tools.append(search);
      columns.forEach((column, index) => {
        if (!FILTERED.includes(column)) return;
        const values = [...new Set(rows.map((each) => each.cells[index]))];
        if (values.length < 2) return;
        values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
        const field = select(`Every ${column}`, values.map((value) => [value, value]), { class: "filter" });
        field.addEventListener("change", show);
        conditions.push((cells) => !field.value || cells[index] === field.value);
      });
      const order = select("Sort by", columns.flatMap((column, i) => [[`${i} ascending`, `${column} ▲`], [`${i} descending`, `${column} ▼`]]), { class: "order" });
      order.addEventListener("change", () => {
        const [index, direction] = order.value.split(" ");
        sortBy(Number(index), direction ?? "none");
      });
    }
    const copying = element("span", { class: "copying" }, "Copy as ");
    for (const [name, write] of Object.entries(FORMATS)) {
      const button = element("button", { type: "button" }, name);
      button.addEventListener("click", async () => {
        const shown = [...body.rows].filter((row) => !row.hidden).map((row) => [...row.cells].map(text));
        const done = await copy(write(columns, shown));
        status.textContent = done ? `Copied ${shown.length} rows as ${name}` : "This browser refuses to copy";
      });
      copying.append(button);
    }
    tools.append(copying, status);
    table.closest(".scroll").before(tools);
    return rows.map(({ row, cells }) => ({
      node: row, clearFilters, facts: Object.fromEntries(cells.map((words, i) => [columns[i], words])),
    }));
  }

  for (const command of document.querySelectorAll(".command code")) {
    const button = element("button", { type: "button" }, "Copy");
    button.addEventListener("click", async () => {
      button.textContent = (await copy(command.textContent)) ? "Copied" : "Refused";
    });
    command.after(" ", button);
  }

  /* ---- Marks and rows ---- */

  document.documentElement.classList.add("script");
  const tip = element("div", { class: "tip", role: "tooltip", hidden: "" });
  document.body.append(tip);

  function showTip(words, x, y) {
    tip.textContent = words;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${y + height + 24 > innerHeight ? Math.max(4, y - height - 12) : y + 16}px`;
  }

  /** True if a mark and a row describe the same thing, as far as both say. */
  function describesSame(mark, row) {
    const shared = Object.keys(mark).filter((key) => key in row);
    return NAMES.some((key) => shared.includes(key)) && shared.every((key) => mark[key] === row[key]);
  }

  function setUpLinks(scope, marks, rows) {
    const light = (litMarks, litRows) => {
      for (const svg of scope.querySelectorAll("svg")) {
        svg.classList.toggle("dimmed", litMarks.some((mark) => svg.contains(mark.node)));
      }
      for (const each of marks) each.node.classList.toggle("lit", litMarks.includes(each));
      for (const each of rows) each.node.classList.toggle("lit", litRows.includes(each));
    };
    for (const mark of marks) {
      const same = () => [
        marks.filter((other) => describesSame(mark.facts, other.facts)),
        rows.filter((row) => describesSame(mark.facts, row.facts)),
      ];
      mark.node.addEventListener("pointerenter", () => light(...same()));
      mark.node.addEventListener("pointermove", (event) => showTip(mark.words, event.clientX, event.clientY));
      mark.node.addEventListener("pointerleave", () => {
        tip.hidden = true;
        light([], []);
      });
      mark.node.addEventListener("click", () => {
        // The row with most in common is the one of this very cell.
        const shared = (row) => Object.keys(mark.facts).filter((key) => key in row.facts).length;
        const [best] = same()[1].sort((a, b) => shared(b) - shared(a));
        if (!best) return;
        if (best.node.hidden) best.clearFilters();
        for (let outer = best.node; outer; outer = outer.parentElement) if (outer.tagName === "DETAILS") outer.open = true;
        // The pointer is over something else after the scrolling, so this highlight stays.
        for (const earlier of document.querySelectorAll("tr.pinned")) earlier.classList.remove("pinned");
        best.node.classList.add("pinned");
        best.node.scrollIntoView({ block: "center" });
      });
    }
    for (const row of rows) {
      const same = marks.filter((mark) => describesSame(mark.facts, row.facts));
      if (!same.length) continue;
      row.node.addEventListener("pointerenter", () => light(same, [row]));
      row.node.addEventListener("pointerleave", () => light([], []));
    }
  }

  for (const article of document.querySelectorAll("article")) {
    const marks = [...article.querySelectorAll(".mark")].map((node) => {
      const title = node.querySelector("title");
      title.remove(); // the browser would show it beside the tip
      return { node, words: title.textContent, facts: JSON.parse(node.dataset.row) };
    });
    const rows = [...article.querySelectorAll("table")].flatMap((table) => (table.tHead ? setUpTable(table) : []));
    const isOfFile = (each) => "file" in each.facts;
    setUpLinks(article, marks.filter(isOfFile), rows.filter(isOfFile));
    // Names of layers and numbers of epochs mean something in their own chapter only.
    for (const section of article.querySelectorAll("section")) {
      const inside = (each) => section.contains(each.node) && !isOfFile(each);
      if (marks.some(inside)) setUpLinks(section, marks.filter(inside), rows.filter(inside));
    }
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
  });

  // Older browsers print only open details.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
})();
