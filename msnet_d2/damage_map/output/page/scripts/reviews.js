import { data } from "./data.js";
import { element, saveFile } from "./dom.js";
import { t } from "./text.js";

// What people say of buildings is kept by the browser under the map's own name, over what the map
// brought along.
const KEY = `msnet reviews ${data.map_id}`;
const FIELDS = ["checked", "checked_by", "checked_at", "note"];
const COLUMNS = ["id", "latitude", "longitude", "ce90_m", "best_video", "best_time_s", "level"];

// Browsers may forbid storage; then reviews live until the page is closed.
function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
export let isKept = true;
function store(key, text) {
  try {
    localStorage.setItem(key, text);
  } catch {
    isKept = false;
  }
}

function saved() {
  try {
    const said = JSON.parse(stored(KEY));
    return said && typeof said === "object" ? said : {};
  } catch {
    return {};
  }
}

export function loadReviews() {
  const said = saved();
  for (const { record } of data.buildings) {
    const kept = Object.hasOwn(said, record.id) ? said[record.id] : null;
    for (const field of kept ? FIELDS : []) record[field] = kept[field] ?? null;
  }
}

export function setReview(record, said) {
  Object.assign(record, said, { checked_at: new Date().toISOString().slice(0, 19) + "Z" });
  if (said.checked_by) store("msnet reviewer", said.checked_by);
  const all = { ...saved(), [record.id]: Object.fromEntries(FIELDS.map((f) => [f, record[f]])) };
  store(KEY, JSON.stringify(all));
}

export const isReviewed = (record) => record.checked || Boolean(record.note);

function exported() {
  return data.buildings
    .filter(({ record }) => isReviewed(record))
    .map(({ record }) => Object.fromEntries([...COLUMNS, ...FIELDS].map((f) => [f, record[f]])));
}

export function saveJson() {
  const content = { format: "msnet reviews", version: 1, reviews: exported() };
  saveFile("reviews.json", "application/json", JSON.stringify(content, null, 2) + "\n");
}

export function saveCsv() {
  const rows = exported().map((row) => Object.values(row).map(cell).join(","));
  const text = [[...COLUMNS, ...FIELDS].join(","), ...rows].join("\r\n");
  saveFile("reviews.csv", "text/csv", `\ufeff${text}\r\n`);
}

function cell(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  // A spreadsheet takes a text that begins with one of these for a formula.
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return `"${safe.replaceAll('"', '""')}"`;
}

// The form in which a person says that a building was checked, by whom, and what they saw.
export function reviewForm(record, onChange) {
  const checked = element("input", { type: "checkbox", id: "checked" });
  checked.checked = Boolean(record.checked);
  const by = element("input", { type: "text", id: "checked-by", maxlength: 200 });
  by.value = record.checked_by || stored("msnet reviewer") || "";
  const note = element("textarea", { id: "note", rows: 3, maxlength: 5000 });
  note.value = record.note || "";
  const save = () => {
    const said = { checked: checked.checked, note: note.value.trim() || null };
    setReview(record, { ...said, checked_by: by.value.trim() || null });
    onChange();
  };
  for (const field of [checked, by, note]) field.addEventListener("change", save);
  const when = record.checked_at ? record.checked_at.slice(0, 16).replace("T", " ") : "";
  return element(
    "fieldset",
    { class: "check" },
    element("legend", { text: t("check") }),
    element("label", {}, checked, ` ${t("checked")}`),
    element("label", { class: "wide" }, t("checked_by"), by),
    element("label", { class: "wide" }, t("note"), note),
    when ? element("p", { class: "hint", text: t("checked_at", { when }) }) : null,
    isKept ? null : element("p", { class: "hint", text: t("not_kept") }),
  );
}
