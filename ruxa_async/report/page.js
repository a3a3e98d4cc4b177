"use strict";
// The sheet of tiles, its filters, the opened item, and the picks. Text from outside is only set as textContent. Addresses
// of media are relative paths or data: URLs, which were encoded when the report was written.
(() => {
  const $ = (id) => document.getElementById(id);
  const { batch, single, states, items, comparisons } = JSON.parse($("data").textContent);
  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });
  const instant = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  const sheet = $("sheet"), search = $("search"), dialog = $("item"), stage = $("stage"), facts = $("facts");
  const FIRST = 60, SLICE = 150;

  const tiles = new Map();
  let shown = [], wantedState = "", current = -1, opener = null, output = 0, round = 0, stale = true, comparing = false, picksOnly = false;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }
  const foreign = (text) => make("bdi", { dir: "auto", textContent: text });
  const stateOf = (item) => states[item.state];
  const captionOf = (item) => item.prompt || item.key || item.task_id || `line ${item.line ?? "?"}`;
  const short = (model) => model.slice(model.lastIndexOf("/") + 1);
  const seconds = (value) => `${number.format(value < 10 ? Math.round(value * 10) / 10 : Math.round(value))} s`;
  const credits = (value) => `${number.format(value)} ${value === 1 ? "credit" : "credits"}`;
  const later = window.requestIdleCallback ? (work) => requestIdleCallback(work, { timeout: 200 }) : (work) => setTimeout(work, 0);
  const pixels = ({ width, height }) => width && height ? `${width} × ${height}` : "";
  function bytes(value) {
    if (value < 1000) return `${value} B`;
    return value < 1e6 ? `${Math.round(value / 1000)} kB` : `${(value / 1e6).toFixed(1)} MB`;
  }

  // ---- tiles

  // Watches entries of the sheet, not what is inside: far from the window, the inside has no layout.
  const nearby = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) if (isIntersecting) load(target);
  }, { rootMargin: "400px" });

  function load(entry) {
    nearby.unobserve(entry);
    const element = entry.querySelector("img:not([src]), video:not([src])");
    if (!element) return;
    const [place, number] = entry.dataset.medium.split("-");
    const { kind, src } = items[place].media[number];
    element.src = kind === "video" ? `${src}#t=0.1` : src; // shows the first frame
  }

  function loadLater(entry, place, number) {
    entry.dataset.medium = `${place}-${number}`;
    nearby.observe(entry);
  }

  const isShown = (medium) => Boolean(medium && medium.size !== undefined && medium.src);

  function word(item, medium) {
    const box = make("span", { className: "word" });
    if (medium && medium.size === undefined) {
      box.append(make("b", { textContent: "File is missing" }), foreign(medium.path));
    } else if (medium) {
      const kind = { video: "Video", audio: "Sound", image: "Picture" }[medium.kind] || "File";
      box.append(make("b", { textContent: isShown(medium) ? kind : `${kind}, not in this page` }), foreign(medium.path));
    } else {
      box.append(make("b", { textContent: stateOf(item).name }));
      const reason = item.error && (item.error.message || item.error.type);
      if (reason) box.append(foreign(reason.slice(0, 160)));
    }
    return box;
  }

  // Returns what a tile shows of an output. A data: URL is set when the tile is near the window, because browsers decode
  // such pictures at once.
  function preview(item, number = 0) {
    const medium = item.media && item.media[number];
    if (!isShown(medium)) return word(item, medium);
    if (medium.kind === "image" && !single) return make("img", { loading: "lazy", decoding: "async", alt: "", src: medium.src });
    if (medium.kind !== "video" && medium.kind !== "image") return word(item, medium);
    return medium.kind === "image" ? make("img", { decoding: "async", alt: "" })
      : make("video", { muted: true, preload: "metadata", playsInline: true, tabIndex: -1 });
  }

  function badge(item) {
    const media = item.media || [];
    const text = media.length > 1 ? `1 of ${media.length}` : media[0] && media[0].kind === "video" ? "▶ video" : "";
    return text ? [make("span", { className: "badge", textContent: text })] : [];
  }

  function tileOf(place) {
    const known = tiles.get(place);
    if (known) return known;
    const item = items[place];
    const meta = [item.model && short(item.model), item.seconds !== undefined && seconds(item.seconds),
      item.credits !== undefined && credits(item.credits)].filter(Boolean).join(" · ");
    const name = comparing && variantOf.get(place) || captionOf(item);
    const caption = make("span", { className: "caption" }, foreign(name.slice(0, 240)), make("small", { textContent: meta }));
    const mat = make("span", { className: `mat ${stateOf(item).tone}` }, preview(item), ...badge(item));
    const tile = make("button", { type: "button", className: "tile", tabIndex: -1 }, mat, caption);
    tile.dataset.place = place;
    const entry = make("li", {}, tile);
    loadLater(entry, place, 0);
    if (item.pick) {
      tile.setAttribute("aria-keyshortcuts", "p");
      entry.append(make("button", { type: "button", className: "pick", tabIndex: -1 }));
      markPick(entry, place);
    }
    tiles.set(place, entry);
    return entry;
  }

  // ---- comparisons: equal prompts and source pictures side by side

  const comparisonOf = new Map(), variantOf = new Map();
  for (const places of comparisons) {
    const names = new Set(places.flatMap((place) => Object.keys(items[place].input || {})));
    const valueOf = (place, name) => name === "model" ? items[place].model : (items[place].input || {})[name];
    const differing = ["model", ...names].filter((name) => new Set(places.map((place) => valueOf(place, name))).size > 1);
    for (const place of places) {
      comparisonOf.set(place, places);
      const values = differing.filter((name) => valueOf(place, name) !== undefined)
        .map((name) => name === "model" ? short(valueOf(place, name)) : `${name} ${valueOf(place, name)}`);
      variantOf.set(place, values.join(" · ") || short(items[place].model || ""));
    }
  }

  function beforeOf(item) {
    return (item.before || []).map(({ place, output: number, url }) => {
      const mat = make("span", { className: "mat" });
      const part = make("li", { className: "before" }, mat, make("span", { className: "caption" }, foreign("Before")));
      if (url === undefined) {
        mat.append(preview(items[place], number));
        loadLater(part, place, number);
      } else {
        mat.append(make("span", { className: "word" }, make("b", { textContent: "Source elsewhere" }), linkTo(url)));
      }
      return part;
    });
  }

  function comparisonRow(places) {
    const item = items[places[0]];
    const title = make("h3", {}, foreign(captionOf(item).slice(0, 400)));
    const row = make("ul", { className: "row" }, ...beforeOf(item), ...places.map(tileOf));
    return make("li", { className: "comparison" }, title, row);
  }

  // Returns the shown places as lists: those that are compared side by side, or each alone in the sheet.
  function rowsOf(places) {
    if (!comparing) return places;
    const wanted = new Set(places);
    const rows = new Set(places.map((place) => comparisonOf.get(place)));
    return [...rows].map((row) => row.filter((place) => wanted.has(place)));
  }
  const elementOf = (row) => Array.isArray(row) ? comparisonRow(row) : tileOf(row);

  // Only addresses of the web become links. Nothing is loaded from them until the reader follows one.
  function linkTo(url) {
    if (!/^https?:\/\/[^\s<>"'\\]+$/i.test(url)) return foreign(url);
    return make("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, foreign(url));
  }

  // ---- picks

  const picks = new Set();
  const store = `ruxa-async picks ${batch}`;
  const nameOf = (item) => item.id || item.key;
  let keeps = true;
  try {
    const kept = JSON.parse(localStorage.getItem(store) || "[]");
    items.forEach((item, place) => {
      if (item.pick && kept.includes(nameOf(item))) picks.add(place);
    });
    localStorage.setItem(store, JSON.stringify(kept));
  } catch { // no storage for this page, or not ours: the picks are kept until the page is closed
    keeps = false;
  }

  function markPick(entry, place) {
    const button = entry.querySelector(".pick");
    const isPicked = picks.has(place);
    button.setAttribute("aria-pressed", isPicked);
    button.setAttribute("aria-label", `Pick: ${captionOf(items[place]).slice(0, 100)}`);
    button.textContent = isPicked ? "★" : "☆";
    button.title = isPicked ? "Picked (p)" : "Pick (p)";
    entry.classList.toggle("picked-tile", isPicked);
  }

  function pick(place) {
    if (!items[place].pick) return;
    if (!picks.delete(place)) picks.add(place);
    try {
      if (keeps) localStorage.setItem(store, JSON.stringify([...picks].map((one) => nameOf(items[one]))));
    } catch {
      keeps = false;
    }
    if (tiles.has(place)) markPick(tiles.get(place), place);
    showPicks();
  }

  function showPicks() {
    $("picked").hidden = picks.size === 0 && !picksOnly;
    $("picks").textContent = `${number.format(picks.size)} ${picks.size === 1 ? "pick" : "picks"}`;
    $("forgetful").hidden = keeps;
    $("save-picks").disabled = picks.size === 0;
    $("show-picks").setAttribute("aria-pressed", picksOnly);
    if (dialog.open) $("pick").setAttribute("aria-pressed", picks.has(shown[current]));
  }

  function savePicks() {
    const lines = [...picks].sort((a, b) => a - b).map((place) => `${items[place].pick}\n`);
    const url = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    const link = make("a", { href: url, download: "picks.jsonl" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  // ---- filters

  // Returns text without accents and in lower case, so that "cafe" finds "Café".
  function plain(text) {
    const bare = /[^\x00-\x7f]/.test(text) ? text.normalize("NFKD").replace(/\p{M}/gu, "") : text;
    return bare.toLowerCase();
  }
  const haystacks = [];
  function haystack(place) {
    const { prompt, key, task_id, model, error = {} } = items[place];
    return haystacks[place] ??= plain([prompt, key, task_id, model, error.message, error.code].filter(Boolean).join("\n"));
  }

  const ORDERS = {
    index: (a, b) => a - b,
    finished: (a, b) => (items[a].finished_at ?? Infinity) - (items[b].finished_at ?? Infinity) || a - b,
    seconds: (a, b) => (items[b].seconds ?? -1) - (items[a].seconds ?? -1) || a - b,
    credits: (a, b) => (items[b].credits ?? -1) - (items[a].credits ?? -1) || a - b,
  };

  function show() {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    const model = $("model").value;
    const before = shown;
    shown = [];
    items.forEach((item, place) => {
      if (wantedState && item.state !== wantedState) return;
      if (model && item.model !== model) return;
      if (picksOnly && !picks.has(place)) return;
      if (comparing && !comparisonOf.has(place)) return;
      if (words.every((one) => haystack(place).includes(one))) shown.push(place);
    });
    shown.sort((a, b) => ORDERS[$("order").value](a, b) || 0);
    if (comparing) shown = rowsOf(shown).flat(); // next to each other in the opened item too
    const all = number.format(items.length);
    $("count").textContent = shown.length === items.length ? `${all} results` : `${number.format(shown.length)} of ${all}`;
    $("nothing").hidden = shown.length > 0 || items.length === 0;
    for (const chip of $("states").children) chip.setAttribute("aria-pressed", chip.dataset.state === wantedState);
    if (stale || shown.length !== before.length || shown.some((place, at) => place !== before[at])) fill();
  }

  // Adds the first tiles at once and the others when the browser is idle; tiles far from the window need no layout.
  function fill() {
    const mine = ++round;
    stale = false;
    const rows = rowsOf(shown);
    delete sheet.dataset.full;
    sheet.classList.toggle("comparing", comparing);
    sheet.style.setProperty("--count", rows.length);
    sheet.replaceChildren(...rows.slice(0, FIRST).map(elementOf));
    const first = sheet.querySelector(".tile");
    if (first) first.tabIndex = 0;
    let next = FIRST;
    const more = () => {
      if (mine === round) add(rows, next, next += SLICE);
      if (mine === round && next < rows.length) later(more);
    };
    if (next < rows.length) later(more);
    else sheet.dataset.full = mine;
    rest = () => add(rows, next, next = rows.length);
  }
  let rest = () => {};
  function add(rows, from, to) {
    sheet.append(...rows.slice(from, to).map(elementOf));
    if (to >= rows.length) sheet.dataset.full = round;
  }

  function filter(state, text) {
    wantedState = state;
    if (text !== undefined) search.value = text;
    show();
  }

  // ---- the opened item

  function open(position, from) {
    current = position;
    output = 0;
    if (from) opener = from;
    draw();
    if (!dialog.open) dialog.showModal();
    // The focused element may be removed or disabled now; without a focus the dialog would get no keys.
    const focused = document.activeElement;
    if (!dialog.contains(focused) || focused === dialog || focused.disabled || from) {
      ["after", "before", "close"].map($).find((button) => !button.disabled).focus();
    }
  }

  function draw() {
    const item = items[shown[current]];
    $("place").textContent = `${number.format(current + 1)} of ${number.format(shown.length)}`;
    $("before").disabled = current === 0;
    $("after").disabled = current === shown.length - 1;
    $("pick").hidden = !item.pick;
    $("pick").setAttribute("aria-pressed", picks.has(shown[current]));
    for (const button of copies) button.hidden = !item[button.dataset.copy];
    $("copied").textContent = "";
    stage.replaceChildren(...stageOf(item));
    facts.replaceChildren(...factsOf(item));
    facts.scrollTop = 0;
    const next = items[shown[current + 1]];
    const ahead = next && next.media && next.media[0];
    if (isShown(ahead) && ahead.kind === "image") new Image().src = ahead.src;
  }

  function stageOf(item) {
    const media = item.media || [];
    const medium = media[output];
    let main;
    if (!isShown(medium) || !["image", "video", "audio"].includes(medium.kind)) main = word(item, medium);
    else if (medium.kind === "image") main = make("img", { src: medium.src, alt: item.prompt ? item.prompt.slice(0, 300) : "" });
    else main = make(medium.kind, { src: medium.src, controls: true, preload: "metadata" });
    const before = sourceOf(item);
    if (before) main = make("div", { className: "pair" }, side("Before", before), side("After", main));
    return media.length > 1 ? [main, strip(media)] : [main];
  }

  const side = (name, content) => make("figure", {}, content, make("figcaption", { textContent: name }));

  // Returns the first source picture that is an output of this folder; the others are listed with the facts.
  function sourceOf(item) {
    const [found] = (item.before || []).filter(({ place, output: number }) => place !== undefined && isShown(items[place].media[number]));
    if (!found) return null;
    const { src } = items[found.place].media[found.output];
    return make("img", { src, alt: `Source: ${captionOf(items[found.place]).slice(0, 300)}` });
  }

  function strip(media) {
    const row = make("div", { className: "strip" });
    media.forEach((medium, place) => {
      const inside = medium.kind === "image" && isShown(medium) ? make("img", { src: medium.src, alt: "" }) : String(place + 1);
      const button = make("button", { type: "button" }, inside);
      button.setAttribute("aria-label", `Output ${place + 1} of ${media.length}`);
      button.setAttribute("aria-pressed", place === output);
      button.addEventListener("click", () => {
        output = place;
        draw();
        stage.querySelectorAll(".strip button")[place].focus();
      });
      row.append(button);
    });
    return row;
  }

  function factsOf(item) {
    const list = make("dl");
    const add = (name, value) => {
      if (value === undefined || value === null || value === "") return;
      const data = make("dd");
      data.append(typeof value === "string" ? foreign(value) : value);
      list.append(make("dt", {}, name), data);
    };
    const timed = (value) => value === undefined ? undefined : instant.format(new Date(value * 1000));
    add("State", make("span", { className: `state ${stateOf(item).tone}`, textContent: stateOf(item).name }));
    const error = item.error || {};
    add("Reason", error.message || error.type);
    add("What to do", stateOf(item).todo);
    add("Code", error.code);
    add("Cause", error.cause);
    add("Model", item.model);
    for (const [name, value] of Object.entries(item.input || {})) add(foreign(name), value);
    add("Key", item.key);
    add("Task", item.task_id);
    add("Line", item.line === undefined ? undefined : number.format(item.line));
    add("Run time", item.seconds === undefined ? undefined : seconds(item.seconds));
    add("Delay until the end was seen", item.lag === undefined ? undefined : `${number.format(item.lag)} s`);
    add("Queries", item.queries === undefined ? undefined : number.format(item.queries));
    add("Credits", item.credits === undefined ? undefined : number.format(item.credits));
    add("Accepted", timed(item.submitted_at));
    add("Ended", timed(item.finished_at));
    for (const medium of item.media || []) {
      const name = foreign(medium.path); // an object store's URL is text: a browser cannot open it
      const link = single || !medium.src ? name : make("a", { href: medium.src, target: "_blank", rel: "noopener" }, name);
      const size = medium.size === undefined ? "is missing" : bytes(medium.size);
      add("File", make("span", {}, link, ` ${[pixels(medium), size].filter(Boolean).join(", ")}`));
    }
    for (const { place, url } of item.before || []) {
      add("Source", url === undefined ? captionOf(items[place]).slice(0, 200) : make("span", {}, linkTo(url)));
    }
    for (const url of item.urls || []) add("Address", url); // text, not a link: it comes from outside
    const prompt = item.prompt ? [foreign(item.prompt)] : [];
    if (prompt.length && item.prompt.length > 400) prompt[0].className = "long";
    return [...prompt, list];
  }

  // ---- copying

  const copies = document.querySelectorAll("[data-copy]");

  // Returns whether the clipboard took the text. Where it is denied to a page from a file, a selection is copied.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = make("textarea", { className: "hidden", value: text, readOnly: true, tabIndex: -1 });
      const focused = document.activeElement;
      dialog.append(area); // outside of the open dialog nothing can be selected
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      focused.focus();
      return done;
    }
  }

  const step = (by) => {
    const next = current + by;
    if (next >= 0 && next < shown.length) open(next);
  };

  // ---- events

  $("states").append(...[["", { name: "All" }, items.length], ...Object.entries(states).map(([state, value]) =>
    [state, value, items.filter((item) => item.state === state).length])].map(([state, value, count]) => {
    const chip = make("button", { type: "button" }, foreign(value.name), " ", make("span", { textContent: number.format(count) }));
    chip.dataset.state = state;
    chip.addEventListener("click", () => filter(state));
    return chip;
  }));
  const models = [...new Set(items.map((item) => item.model).filter(Boolean))].sort();
  $("model").append(make("option", { value: "", textContent: "All models" }), ...models.map((model) => make("option", { value: model, textContent: model })));
  $("model-choice").hidden = models.length < 2;
  for (const [value, name] of [["seconds", "seconds"], ["credits", "credits"], ["finished", "finished_at"]]) {
    const known = items.some((item) => item[name] !== undefined);
    $("order").querySelector(`[value=${value}]`).hidden = !known;
  }

  search.addEventListener("input", show);
  $("model").addEventListener("change", show);
  $("order").addEventListener("change", show);
  $("clear").addEventListener("click", () => {
    $("model").value = "";
    picksOnly = false;
    filter("", "");
    showPicks();
    search.focus();
  });
  $("attention").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    $("model").value = "";
    picksOnly = false;
    if (comparing) $("compare").click();
    showPicks();
    if (button.dataset.show !== undefined) {
      filter(button.dataset.show, "");
      $("pictures").scrollIntoView();
      $("pictures").focus({ preventScroll: true });
    } else {
      filter(items[button.dataset.open].state, "");
      open(shown.indexOf(Number(button.dataset.open)), button);
    }
  });
  sheet.addEventListener("click", ({ target }) => {
    const star = target.closest(".pick");
    if (star) pick(Number(star.previousElementSibling.dataset.place));
    const tile = target.closest(".tile");
    if (tile) open(shown.indexOf(Number(tile.dataset.place)), tile);
  });
  sheet.addEventListener("keydown", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile || event.ctrlKey || event.altKey || event.metaKey) return;
    const to = neighbour(tile, event.key);
    if (!to) return;
    event.preventDefault();
    focusTile(to);
  });
  // Returns the tile to which an arrow, Home or End leads. In a comparison, up and down lead to the next row.
  function neighbour(tile, key) {
    const all = comparing ? [...sheet.querySelectorAll(".tile")] : [...sheet.children].map((entry) => entry.firstElementChild);
    const here = all.indexOf(tile);
    const beside = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 }[key];
    if (beside !== undefined) return all[beside];
    const by = { ArrowDown: 1, ArrowUp: -1 }[key];
    if (!by) return null;
    if (!comparing) return all[here + by * getComputedStyle(sheet).gridTemplateColumns.split(" ").length];
    const row = tile.closest(".comparison");
    const others = (by > 0 ? row.nextElementSibling : row.previousElementSibling)?.querySelectorAll(".tile");
    return others && others[Math.min([...row.querySelectorAll(".tile")].indexOf(tile), others.length - 1)];
  }
  sheet.addEventListener("focusin", ({ target }) => {
    if (!target.matches(".tile")) return;
    for (const tile of sheet.querySelectorAll('.tile[tabindex="0"]')) tile.tabIndex = -1;
    target.tabIndex = 0;
  });
  function focusTile(tile) {
    tile.focus({ preventScroll: true });
    tile.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (!dialog.open || event.target.matches("video, audio") || event.ctrlKey || event.altKey || event.metaKey) return;
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    step(by);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "p" || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select, textarea")) return;
    const tile = document.activeElement.closest("li")?.querySelector(":scope > .tile");
    if (dialog.open) pick(shown[current]);
    else if (tile) pick(Number(tile.dataset.place));
  });
  $("pick").addEventListener("click", () => pick(shown[current]));
  $("save-picks").addEventListener("click", savePicks);
  $("show-picks").addEventListener("click", () => {
    picksOnly = !picksOnly;
    show();
    showPicks();
  });
  $("compare").hidden = comparisons.length === 0;
  $("compare").addEventListener("click", () => {
    comparing = !comparing;
    $("compare").setAttribute("aria-pressed", comparing);
    tiles.clear(); // captions differ
    stale = true;
    show();
  });
  for (const button of copies) {
    button.addEventListener("click", async () => {
      const done = await copy(items[shown[current]][button.dataset.copy]);
      $("copied").textContent = done ? "Copied" : "This browser does not let the page copy";
    });
  }
  addEventListener("beforeprint", () => {
    rest();
    for (const entry of sheet.querySelectorAll("[data-medium]")) load(entry);
  });
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    stage.replaceChildren(); // stops a video
    const tile = tiles.get(shown[current]);
    if (opener && opener.classList.contains("tile") && tile && tile.isConnected) focusTile(tile.firstElementChild);
    else if (opener && opener.isConnected) opener.focus();
    opener = null;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || dialog.open || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    search.focus();
  });

  show();
  showPicks();
})();
