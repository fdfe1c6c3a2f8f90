import { data, hasMap, state } from "./data.js";
import { historyChart } from "./charts.js";
import { byId, element } from "./dom.js";
import { badge, icon } from "./levels.js";
import { reviewForm } from "./reviews.js";
import { urgencyReason } from "./table.js";
import { clock, coordinates, levelName, metres, percent, plural, reasons, t } from "./text.js";

export function showDetail(onReview) {
  const box = byId("detail");
  if (!state.chosen) {
    const key = data.buildings.length ? `choose_${hasMap ? "map" : "chart"}` : "nothing_found";
    box.replaceChildren(element("p", { class: "hint", text: t(key) }));
    return;
  }
  const { record, photo, history, parts } = state.chosen;
  const review = reasons(record).join("; ");
  box.replaceChildren(
    photo ? picture(record, photo) : element("p", { class: "hint", text: t("no_photo") }),
    element(
      "div",
      { class: "title" },
      element("h2", { text: record.id }),
      badge(record.level_number),
    ),
    element("p", {
      class: "urgency",
      text: `${t("urgency_rank", { rank: record.urgency })} ${urgencyReason(record)}`,
    }),
    record.needs_review ? element("p", { class: "review", text: t("review", { review }) }) : "",
    element("dl", {}, ...facts(record)),
    reviewForm(record, onReview),
    element("h3", { text: t("votes", { share: percent(record.agreement) }) }),
    votes(record),
    element("h3", { text: t("history") }),
    historyChart(history),
    element("h3", { text: plural("parts", parts.length) }),
    element("ul", {}, ...parts.map((part) => partLine(part.record))),
  );
  box.scrollTop = 0;
}

function picture(record, photo) {
  const text = t("photo", { id: record.id, video: record.best_video });
  const image = element("img", { src: photo, alt: text });
  image.onerror = () =>
    image.replaceWith(element("p", { class: "hint", text: t("photo_missing") }));
  return image;
}

function facts(record) {
  const level = data.levels[record.level_number];
  const seen = t("seen_span", {
    times: plural("times", record.observations),
    passes: plural("passes", record.passes),
    first: `${clock(record.first_time_s)} (${record.first_video})`,
    last: `${clock(record.last_time_s)} (${record.last_video})`,
  });
  const best = t("best_view_at", {
    video: record.best_video,
    frame: record.best_frame,
    time: clock(record.best_time_s),
  });
  const hint = data.levels.find((l) => l.name === record.indication).number;
  const worst = data.levels.find((l) => l.name === record.worst_level).number;
  const isPlaced = record.latitude !== null;
  const rows = [
    ["place", isPlaced ? place(record) : null],
    ["place_error", isPlaced ? t("place_error_m", { metres: metres(record.ce90_m) }) : null],
    ["column_confidence", percent(record.confidence)],
    ["indication", level.number ? null : t("indication_of", { level: levelName(hint) })],
    ["worst_part", worst ? levelName(worst) : null],
    ["fema", level.number ? t(`fema_${level.number}`) : null],
    ["ems98", level.ems98],
    ["column_damaged_share", record.damaged_share === null ? null : percent(record.damaged_share)],
    ["seen", seen],
    ["best_view", best],
  ];
  return rows
    .filter(([, value]) => value)
    .flatMap(([key, value]) => [element("dt", { text: t(key) }), element("dd", {}, value)]);
}

// Coordinates to copy, and links that open on a phone, in a browser, or in a program for maps.
function place(record) {
  const text = coordinates(record);
  const comma = text.replace(" ", "");
  const { latitude, longitude } = record;
  const copied = element("span", { role: "status" });
  const copy = element("button", { type: "button", class: "small", text: t("copy") });
  copy.addEventListener("click", async () => {
    copied.textContent = ` ${t((await copyText(text)) ? "copied" : "copy_by_hand")}`;
  });
  const osm = "https://www.openstreetmap.org/";
  const links = [
    ["OpenStreetMap", `${osm}?mlat=${latitude}&mlon=${longitude}#map=19/${latitude}/${longitude}`],
    ["Google Maps", `https://www.google.com/maps/search/?api=1&query=${comma}`],
    [t("geo_link"), `geo:${comma}`],
  ].map(([name, href]) =>
    element("a", { href, text: name, target: "_blank", rel: "noreferrer noopener" }),
  );
  return element(
    "span",
    {},
    element("code", { text }),
    " ",
    copy,
    copied,
    element("span", { class: "links" }, ...links),
  );
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", {});
    field.value = text;
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    return isCopied;
  }
}

function votes(record) {
  const weights = [record.vote_slight, record.vote_severe, record.vote_debris];
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const bars = weights.map((weight, i) => {
    const title = `${levelName(i + 1)} ${percent(weight / total)}`;
    const bar = element("span", { title });
    bar.style.width = `${(100 * weight) / total}%`;
    bar.style.background = data.levels[i + 1].color;
    return bar;
  });
  const key = weights.map((weight, i) =>
    element("span", {}, icon(i + 1), ` ${levelName(i + 1)} ${percent(weight / total)}`),
  );
  return element(
    "div",
    {},
    element("div", { class: "votes", "aria-hidden": "true" }, ...bars),
    element("p", { class: "vote-key" }, ...key),
  );
}

function partLine(record) {
  const seen = plural("seen_times", record.observations);
  const text = ` ${levelName(record.level_number)}, ${percent(record.confidence)}, ${seen}`;
  return element("li", {}, icon(record.level_number), text);
}
