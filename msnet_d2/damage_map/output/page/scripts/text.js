import { byId } from "./dom.js";

const strings = JSON.parse(byId("strings").textContent);
export const languages = Object.keys(strings);
export let language = "en";

export function setLanguage(name) {
  language = languages.includes(name) ? name : "en";
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = t(node.dataset.text);
  }
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    if (node.dataset.hint !== undefined) node.title = t(node.dataset.label);
  }
  document.title = t("title");
}

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

export const t = (key, values = {}) => fill(strings[language][key], values);

// One of `key_one` and `key_other`, as the language has it for `count`.
export function plural(key, count, values = {}) {
  const form = new Intl.PluralRules(language).select(count) === "one" ? "one" : "other";
  return t(`${key}_${form}`, { count: number(count), ...values });
}

export const levelName = (number) => t(`level_${number}`);

export function number(value, digits = 0) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value.toLocaleString(language, options);
}
export const percent = (value) => (value === null ? "–" : `${Math.round(100 * value)}%`);
export function metres(value) {
  if (value === null) return "–";
  return number(value, value < 10 ? 1 : 0);
}
export function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}
// With a point in every language: coordinates are copied into other programs.
export const coordinates = (place, digits = 6) =>
  `${place.latitude.toFixed(digits)}, ${place.longitude.toFixed(digits)}`;

// Reasons come in English. The English templates find them, the language's say them again.
const REASONS = Object.entries(strings.en)
  .filter(([key]) => key.startsWith("reason_"))
  .map(([key, text]) => {
    const names = [];
    const pattern = text.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, (_, name) => {
      names.push(name);
      return "(.+?)";
    });
    return { key, names, pattern: new RegExp(`^${pattern}$`) };
  });

function reason(english) {
  for (const { key, names, pattern } of REASONS) {
    const found = pattern.exec(english);
    if (!found) continue;
    return t(key, Object.fromEntries(names.map((name, i) => [name, worded(found[i + 1])])));
  }
  return english;
}

// Names of levels within a reason.
function worded(text) {
  return [1, 2, 3].reduce(
    (result, number) => result.replaceAll(strings.en[`level_${number}`], levelName(number)),
    text,
  );
}

export const reasons = (record) =>
  record.review_reasons ? record.review_reasons.split("; ").map(reason) : [];
