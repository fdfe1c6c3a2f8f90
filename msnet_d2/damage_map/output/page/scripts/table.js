import { data, shown, sorted, state } from "./data.js";
import { byId, element } from "./dom.js";
import { icon } from "./levels.js";
import { clock, levelName, metres, number, percent, reasons, t } from "./text.js";
import { isReviewed } from "./reviews.js";

// More rows than this are made when the reader asks: a table of thousands is slow to lay out.
const ROWS = 200;

export const columns = {
  urgency: { text: (r) => number(r.urgency), isNumber: true },
  id: { text: (r) => r.id },
  level_number: { text: (r) => levelName(r.level_number) },
  reason: { text: (r) => urgencyReason(r), sortsBy: "urgency" },
  confidence: { text: (r) => percent(r.confidence), isNumber: true },
  damaged_share: { text: (r) => percent(r.damaged_share), isNumber: true },
  observations: { text: (r) => number(r.observations), isNumber: true },
  first_time_s: { text: (r) => firstSeen(r) },
  ce90_m: { text: (r) => metres(r.ce90_m), isNumber: true },
  grid_cell: { text: (r) => r.grid_cell || "–" },
  needs_review: { text: (r) => reasons(r).join("; ") },
  checked: { text: (r) => checkedText(r) },
};
const ASCENDING = ["urgency", "id", "grid_cell", "first_time_s"];

const firstSeen = (r) =>
  clock(r.first_time_s) + (data.videos.length > 1 ? ` ${r.first_video}` : "");

function checkedText(record) {
  if (!isReviewed(record)) return "";
  return [record.checked ? "✓" : "", record.note || record.checked_by].filter(Boolean).join(" ");
}

// Why a building stands where it does in the order of urgency.
export function urgencyReason(record) {
  const worst = data.levels.find((level) => level.name === record.worst_level).number;
  const hint = data.levels.find((level) => level.name === record.indication).number;
  const parts = [];
  if (!record.level_number) parts.push(t("why_hint", { level: levelName(hint) }));
  else parts.push(t("why_level", { level: levelName(record.level_number) }));
  if (record.level_number && worst > record.level_number) {
    parts.push(t("why_part", { level: levelName(worst) }));
  }
  if (record.damaged_share !== null) {
    parts.push(t("why_share", { share: percent(record.damaged_share) }));
  }
  return parts.join(", ");
}

function header(onSort) {
  const cells = Object.entries(columns).map(([key, column]) => {
    const sort = column.sortsBy || key;
    const title = element("button", { type: "button", text: t(`column_${key}`) });
    title.addEventListener("click", () => {
      state.descending = state.sort === sort ? !state.descending : !ASCENDING.includes(sort);
      state.sort = sort;
      onSort();
    });
    const isSorted = key === state.sort && (state.descending ? "descending" : "ascending");
    const kind = `${column.isNumber ? "number " : ""}c-${key}`;
    return element(
      "th",
      { "data-key": key, class: kind, "aria-sort": isSorted, scope: "col" },
      title,
    );
  });
  byId("table").tHead.replaceChildren(element("tr", {}, ...cells));
}

function row(building, onChoose) {
  const { record } = building;
  const cells = Object.entries(columns).map(([key, column]) => {
    const cell = element("td", { class: `${column.isNumber ? "number " : ""}c-${key}` });
    if (key === "id") cell.append(element("button", { type: "button", text: record.id }));
    else cell.append(column.text(record));
    if (key === "level_number") cell.prepend(icon(record.level_number), " ");
    return cell;
  });
  const kind = building === state.chosen ? "chosen" : "";
  const node = element("tr", { "data-id": record.id, class: kind }, ...cells);
  node.addEventListener("click", () => onChoose(building));
  return node;
}

export function showTable({ onChoose, onSort }) {
  header(onSort);
  const buildings = sorted(shown());
  const count = Math.max(ROWS, state.rows);
  const rows = buildings.slice(0, count).map((building) => row(building, onChoose));
  byId("table").tBodies[0].replaceChildren(...rows);
  const more = byId("more");
  more.hidden = buildings.length <= count;
  more.textContent = t("more", { count: number(buildings.length - count) });
  more.onclick = () => {
    state.rows = count + 5 * ROWS;
    showTable({ onChoose, onSort });
  };
}

export function markChosen() {
  for (const node of byId("table").tBodies[0].rows) {
    node.classList.toggle("chosen", node.dataset.id === state.chosen?.record.id);
  }
}
