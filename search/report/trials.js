"use strict";
// The table of trials: sort by a column, filter, open a trial. Without scripts the table is complete, in its first order.

const COMPARE = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b };

// Whether a trial has all words of a query. A word such as lr>=0.01 or status=ok compares a value; others are looked for.
function matches(values, text, query) {
  return query.trim().toLowerCase().split(/\s+/).every((word) => {
    const [, name, sign, given] = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/) || [];
    if (!name) return text.toLowerCase().includes(word);
    const key = Object.keys(values).find((one) => one.toLowerCase() === name);
    const value = key === undefined ? null : values[key];
    if (value === null) return false;
    if (sign !== "=") return COMPARE[sign](Number(value), Number(given));
    return String(value).toLowerCase() === given || (given !== "" && Number(value) === Number(given));
  });
}

// The order of two cells: numbers, then texts; cells without a value come last in both directions.
function order(a, b, down) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [Number(a), Number(b)];
  const sign = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  return down ? -sign : sign;
}

function start(table) {
  const trials = Array.from(table.tBodies), heads = Array.from(table.tHead.rows[0].cells);
  const cell = (trial, column) => trial.rows[0].cells[column].dataset.v;

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      trials.sort((a, b) => order(cell(a, column), cell(b, column), down));
      trials.forEach((trial) => table.append(trial));
    };
    head.replaceChildren(button);
  });

  trials.forEach((trial) => {
    const [row, more] = trial.rows, name = row.cells[0], button = document.createElement("button");
    const show = (open) => {
      more.hidden = !open;
      more.querySelector("details").open = open;
      button.setAttribute("aria-expanded", String(open));
    };
    button.type = "button";
    button.textContent = name.textContent;
    button.onclick = () => show(more.hidden);
    name.replaceChildren(button);
    show(false);
  });

  const box = document.createElement("p"), field = document.createElement("input"), count = document.createElement("span");
  box.className = "filter";
  field.type = "search";
  field.setAttribute("aria-label", "Filter the trials");
  field.placeholder = "filter, such as: round=2 lr>0.01 ok";
  field.oninput = () => {
    trials.forEach((trial) => {
      trial.hidden = !matches(JSON.parse(trial.dataset.values), trial.textContent, field.value);
    });
    count.textContent = ` ${trials.filter((trial) => !trial.hidden).length} of ${trials.length}`;
  };
  box.append(field, count);
  table.parentNode.before(box);
  field.oninput();
}

if (typeof document !== "undefined" && document.getElementById("trials")) start(document.getElementById("trials"));
