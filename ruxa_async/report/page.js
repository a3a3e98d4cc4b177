"use strict";
// The sheet of tiles, its filters, and the opened item. Text from outside is only set as textContent. Addresses of media
// are relative paths, which were encoded when the report was written.
(() => {
  const $ = (id) => document.getElementById(id);
  const { states, items } = JSON.parse($("data").textContent);
  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });
  const instant = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  const sheet = $("sheet"), search = $("search"), dialog = $("item"), stage = $("stage"), facts = $("facts");
  const FIRST = 60, SLICE = 150;

  const tiles = new Map();
  let shown = [], wantedState = "", current = -1, opener = null, output = 0, round = 0;

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

  const nearby = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      nearby.unobserve(target);
      target.src = `${target.dataset.src}#t=0.1`; // shows the first frame
    }
  }, { rootMargin: "400px" });

  function word(item, medium) {
    const box = make("span", { className: "word" });
    if (medium && medium.size === undefined) {
      box.append(make("b", { textContent: "File is missing" }), foreign(medium.path));
    } else if (medium) {
      box.append(make("b", { textContent: medium.kind === "audio" ? "Sound" : "File" }), foreign(medium.path));
    } else {
      box.append(make("b", { textContent: stateOf(item).name }));
      const reason = item.error && (item.error.message || item.error.type);
      if (reason) box.append(foreign(reason.slice(0, 160)));
    }
    return box;
  }

  function preview(item) {
    const medium = item.media && item.media[0];
    if (!medium || medium.size === undefined) return word(item, medium);
    if (medium.kind === "image") return make("img", { loading: "lazy", decoding: "async", alt: "", src: medium.src });
    if (medium.kind !== "video") return word(item, medium);
    const video = make("video", { muted: true, preload: "metadata", playsInline: true, tabIndex: -1 });
    video.dataset.src = medium.src;
    nearby.observe(video);
    return video;
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
    const caption = make("span", { className: "caption" }, foreign(captionOf(item).slice(0, 240)), make("small", { textContent: meta }));
    const mat = make("span", { className: `mat ${stateOf(item).tone}` }, preview(item), ...badge(item));
    const tile = make("button", { type: "button", className: "tile", tabIndex: -1 }, mat, caption);
    tile.dataset.place = place;
    const entry = make("li", {}, tile);
    tiles.set(place, entry);
    return entry;
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
      if (words.every((one) => haystack(place).includes(one))) shown.push(place);
    });
    shown.sort((a, b) => ORDERS[$("order").value](a, b) || 0);
    const all = number.format(items.length);
    $("count").textContent = shown.length === items.length ? `${all} results` : `${number.format(shown.length)} of ${all}`;
    $("nothing").hidden = shown.length > 0 || items.length === 0;
    for (const chip of $("states").children) chip.setAttribute("aria-pressed", chip.dataset.state === wantedState);
    if (!round || shown.length !== before.length || shown.some((place, at) => place !== before[at])) fill();
  }

  // Adds the first tiles at once and the others when the browser is idle; tiles far from the window need no layout.
  function fill() {
    const mine = ++round;
    delete sheet.dataset.full;
    sheet.style.setProperty("--count", shown.length);
    sheet.replaceChildren(...shown.slice(0, FIRST).map(tileOf));
    if (sheet.firstElementChild) sheet.firstElementChild.firstElementChild.tabIndex = 0;
    let next = FIRST;
    const more = () => {
      if (mine !== round) return;
      sheet.append(...shown.slice(next, next + SLICE).map(tileOf));
      next += SLICE;
      if (next < shown.length) later(more);
      else sheet.dataset.full = mine;
    };
    if (next < shown.length) later(more);
    else sheet.dataset.full = mine;
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
    stage.replaceChildren(...stageOf(item));
    facts.replaceChildren(...factsOf(item));
    facts.scrollTop = 0;
    const next = items[shown[current + 1]];
    const ahead = next && next.media && next.media[0];
    if (ahead && ahead.kind === "image" && ahead.size !== undefined) new Image().src = ahead.src;
  }

  function stageOf(item) {
    const media = item.media || [];
    const medium = media[output];
    let main;
    if (!medium || medium.size === undefined || !["image", "video", "audio"].includes(medium.kind)) main = word(item, medium);
    else if (medium.kind === "image") main = make("img", { src: medium.src, alt: item.prompt ? item.prompt.slice(0, 300) : "" });
    else main = make(medium.kind, { src: medium.src, controls: true, preload: "metadata" });
    return media.length > 1 ? [main, strip(media)] : [main];
  }

  function strip(media) {
    const row = make("div", { className: "strip" });
    media.forEach((medium, place) => {
      const inside = medium.kind === "image" ? make("img", { src: medium.src, alt: "" }) : String(place + 1);
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
      const link = medium.src ? make("a", { href: medium.src, target: "_blank", rel: "noopener" }, name) : name;
      const size = medium.size === undefined ? "is missing" : bytes(medium.size);
      add("File", make("span", {}, link, ` ${[pixels(medium), size].filter(Boolean).join(", ")}`));
    }
    for (const url of item.urls || []) add("Address", url); // text, not a link: it comes from outside
    const prompt = item.prompt ? [foreign(item.prompt)] : [];
    if (prompt.length && item.prompt.length > 400) prompt[0].className = "long";
    return [...prompt, list];
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
    filter("", "");
    search.focus();
  });
  $("attention").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    $("model").value = "";
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
    const tile = target.closest(".tile");
    if (tile) open(shown.indexOf(Number(tile.dataset.place)), tile);
  });
  sheet.addEventListener("keydown", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = [...sheet.children];
    const here = all.indexOf(tile.parentElement);
    const wide = getComputedStyle(sheet).gridTemplateColumns.split(" ").length;
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + wide, ArrowUp: here - wide, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined || !all[to]) return;
    event.preventDefault();
    focusTile(all[to].firstElementChild);
  });
  sheet.addEventListener("focusin", ({ target }) => {
    for (const tile of sheet.querySelectorAll('.tile[tabindex="0"]')) tile.tabIndex = -1;
    target.closest(".tile").tabIndex = 0;
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
})();
