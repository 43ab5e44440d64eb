"use strict";

// Tables: a click on a head sorts by it, numbers first from the largest down.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const numeric = head.classList.contains("numeric");
    const orders = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = orders[head.getAttribute("aria-sort") === orders[0] ? 1 : 0];
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      const text = cell?.dataset.key ?? cell?.textContent.replace("−", "-") ?? "";
      return text === "–" ? "" : text;
    };
    const rows = [...body.rows].sort((a, b) => {
      const [one, two] = [key(a), key(b)];
      if (one === "" || two === "") return (one === "") - (two === "");
      return sign * (numeric ? parseFloat(one) - parseFloat(two) : one.localeCompare(two, "en", { numeric: true }));
    });
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    body.append(...rows);
  });
}

// Pictures: the map is coloured here from its numbers, so that every value can be read.
const viewer = document.getElementById("viewer");
if (viewer) {
  const { colours, pictures } = JSON.parse(document.getElementById("viewer-data").textContent);
  const part = (id) => document.getElementById(id);
  const stage = part("stage"), pen = stage.getContext("2d");
  const thumbs = [...viewer.querySelectorAll(".thumbs button")];
  const state = { picture: 0, method: "", left: 0, top: 0, patch: null, drag: null };

  const anchors = colours.map((c) => [1, 3, 5].map((at) => parseInt(c.slice(at, at + 2), 16)));
  const colour = (value) => {
    const at = ((Math.min(1, Math.max(-1, value)) + 1) / 2) * (anchors.length - 1);
    const low = Math.min(Math.floor(at), anchors.length - 2), rest = at - low;
    return anchors[low].map((from, channel) => from + rest * (anchors[low + 1][channel] - from));
  };

  const decode = (map) => {
    if (map.values) return map;
    const bytes = Uint8Array.from(atob(map.data), (letter) => letter.charCodeAt(0));
    map.values = new Float32Array(bytes.buffer);
    map.largest = map.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    return map;
  };

  // Bilinear, with the centres of patches and pixels in the middle of their squares.
  const painted = (map, width, height) => {
    const { rows, cols, values, largest } = map;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const image = new ImageData(width, height);
    const between = (place, size, count) => {
      const at = Math.min(count - 1, Math.max(0, ((place + 0.5) * count) / size - 0.5));
      const low = Math.floor(at);
      return [low, Math.min(low + 1, count - 1), at - low];
    };
    for (let y = 0; y < height; y++) {
      const [up, down, v] = between(y, height, rows);
      for (let x = 0; x < width; x++) {
        const [west, east, u] = between(x, width, cols);
        const above = values[up * cols + west] * (1 - u) + values[up * cols + east] * u;
        const below = values[down * cols + west] * (1 - u) + values[down * cols + east] * u;
        image.data.set([...colour((above * (1 - v) + below * v) / largest), 255], 4 * (y * width + x));
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };

  const shown = () => decode(pictures[state.picture].maps[state.method]);
  const image = () => thumbs[state.picture].querySelector("img");
  const zoom = () => Number(part("zoom").value);

  const layer = () => {
    const map = shown(), sharp = part("patches").checked, kind = sharp ? "sharp" : "smooth";
    const { naturalWidth: width, naturalHeight: height } = image();
    const factor = Math.min(4, Math.max(1, 400 / Math.max(width, height)));
    const size = sharp ? [map.cols, map.rows] : [width, height].map((n) => Math.round(n * factor));
    map[kind] ??= painted(map, ...size);
    return map[kind];
  };

  const draw = () => {
    const { naturalWidth: width, naturalHeight: height } = image();
    if (!width) return;
    stage.width = Math.round(Math.max(320, stage.clientWidth) * (window.devicePixelRatio || 1));
    stage.height = Math.round((stage.width * height) / width);
    const scale = (stage.width / width) * zoom();
    const room = (size) => size * (1 - 1 / zoom());
    state.left = Math.min(room(width), Math.max(0, state.left));
    state.top = Math.min(room(height), Math.max(0, state.top));
    pen.setTransform(scale, 0, 0, scale, -state.left * scale, -state.top * scale);
    pen.imageSmoothingQuality = "high";
    pen.filter = part("grey").checked ? "grayscale(1)" : "none";
    pen.drawImage(image(), 0, 0);
    pen.filter = "none";
    pen.globalAlpha = part("opacity").value / 100;
    pen.imageSmoothingEnabled = !part("patches").checked;
    pen.drawImage(layer(), 0, 0, width, height);
    pen.globalAlpha = 1;
    if (state.patch) {
      const [w, h] = [width / shown().cols, height / shown().rows];
      for (const [line, ink] of [[4, "#ffffff"], [2, "#1b1b1f"]]) {
        [pen.lineWidth, pen.strokeStyle] = [line / scale, ink];
        pen.strokeRect(state.patch[1] * w, state.patch[0] * h, w, h);
      }
    }
    part("opacity-shown").textContent = `${part("opacity").value} %`;
    part("zoom-shown").textContent = `${zoom()}×`;
  };

  const tell = () => {
    const { rows, cols, values, largest } = shown();
    if (!state.patch) return (part("viewer-value").textContent = `${cols} × ${rows} patches`);
    const [row, col] = state.patch, value = values[row * cols + col];
    const share = value / largest, word = share > 0 ? "for" : share < 0 ? "against" : "zero";
    const sign = (text) => text.replace("-", "−");
    part("viewer-value").textContent =
      `row ${row + 1}, column ${col + 1}: S = ${sign(value.toPrecision(3))}, ` +
      `S / max|S| = ${sign(share.toFixed(2))} (${word})`;
  };

  const point = (row, col) => {
    const { rows, cols } = shown();
    state.patch = [Math.min(rows - 1, Math.max(0, row)), Math.min(cols - 1, Math.max(0, col))];
    tell();
    draw();
  };

  const choose = (method) => {
    state.method = method;
    const { rows, cols } = shown();
    if (state.patch && (state.patch[0] >= rows || state.patch[1] >= cols)) state.patch = null;
    const what = `${method} map over ${pictures[state.picture].title}`;
    stage.setAttribute("aria-label", what);
    tell();
    draw();
  };

  const select = (number, method = state.method) => {
    [state.picture, state.patch, state.left, state.top] = [number, null, 0, 0];
    thumbs.forEach((thumb, place) => thumb.setAttribute("aria-pressed", place === number));
    const names = Object.keys(pictures[number].maps), group = part("methods");
    const chosen = names.includes(method) ? method : names[0];
    group.querySelectorAll("label").forEach((label) => label.remove());
    for (const name of names) {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "method", value: name });
      input.checked = name === chosen;
      input.addEventListener("change", () => choose(name));
      label.append(input, ` ${pictures[number].maps[name].label}`);
      group.append(label);
    }
    choose(chosen);
  };

  const place = (event) => {
    const box = stage.getBoundingClientRect(), { naturalWidth: w, naturalHeight: h } = image();
    const x = state.left + (((event.clientX - box.left) / box.width) * w) / zoom();
    const y = state.top + (((event.clientY - box.top) / box.height) * h) / zoom();
    return [Math.floor((y / h) * shown().rows), Math.floor((x / w) * shown().cols)];
  };

  stage.addEventListener("pointerdown", (event) => {
    state.drag = [event.clientX, event.clientY, state.left, state.top];
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointerup", () => (state.drag = null));
  stage.addEventListener("pointermove", (event) => {
    if (state.drag && zoom() > 1) {
      const [x, y, left, top] = state.drag, box = stage.getBoundingClientRect();
      const unit = image().naturalWidth / box.width / zoom();
      [state.left, state.top] = [left - (event.clientX - x) * unit, top - (event.clientY - y) * unit];
    }
    point(...place(event));
  });
  stage.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const change = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (steps[event.key]) {
      const [row, col] = state.patch ?? [0, 0], [down, right] = state.patch ? steps[event.key] : [0, 0];
      point(row + down, col + right);
      const { naturalWidth: w, naturalHeight: h } = image(), view = 1 / zoom() / 2;
      state.left = ((state.patch[1] + 0.5) / shown().cols - view) * w;
      state.top = ((state.patch[0] + 0.5) / shown().rows - view) * h;
    } else if (change) {
      part("zoom").value = zoom() + change;
    } else return;
    event.preventDefault();
    draw();
  });
  for (const id of ["opacity", "zoom", "patches", "grey"]) part(id).addEventListener("input", draw);
  thumbs.forEach((thumb, number) => thumb.addEventListener("click", () => select(number)));
  window.addEventListener("resize", draw);

  const follow = () => {
    const [, number, method] = /^#picture-(\d+)(?:\/(.+))?$/.exec(location.hash) ?? [];
    if (!thumbs[number]) return;
    select(Number(number), method && decodeURIComponent(method));
    viewer.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  window.addEventListener("load", () => {
    select(0);
    follow();
  });
}
