(() => {
  "use strict";
  const root = document.currentScript.parentElement;
  const find = (name) => root.querySelector(".sv-" + name);
  const data = JSON.parse(find("data").textContent);
  const canvas = find("canvas"), pen = canvas.getContext("2d");
  const play = find("play"), scrub = find("scrub"), speed = find("speed"), pick = find("pick");
  const rate = data.frameRate || 30, joints = data.joints;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const LEFT_SIDE = -Math.PI / 2, MOST_NAMED = 6;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  let take, frame, view, playing = false, visible = true, last = 0, owed = 0, queued = false;

  // ---- which recording, which frame ----
  function load(number) {
    take = data.recordings[number];
    // a body is looked up by the frame's number: where it was not observed it has no row, and is not drawn
    take.rows = take.bodies.map((body) => {
      const numbers = new Int32Array(bytes(body.frames)), at = new Map();
      numbers.forEach((value, row) => at.set(value, row));
      const heat = data.heat && new Float32Array(bytes(body.heat));
      return { at, first: numbers[0], position: new Float32Array(bytes(body.position)), heat };
    });
    take.centre = take.low.map((low, axis) => (low + take.high[axis]) / 2);
    take.radius = Math.hypot(...take.low.map((low, axis) => take.high[axis] - low)) / 2 || 1;
    if (find("name")) find("name").textContent = take.name;
    find("caption").textContent = take.caption;
    scrub.max = Math.max(0, take.length - 1);
    const named = take.bodies.slice(0, MOST_NAMED).map((_, body) => {
      const entry = document.createElement("span");
      const name = data.names[body] ?? (take.bodies.length > 1 ? "person " + (body + 1) : "");
      if (name) entry.append(name);
      const family = familyOf(body);
      for (const [colour, word] of data.heat ? [[`linear-gradient(90deg, ${data.heat})`, "little to much"]]
        : [[family[0], "left"], [family[2], "right"]]) {
        const chip = document.createElement("i");
        chip.style.background = colour;
        if (data.heat) chip.style.width = "42px";
        if (!entry.hasChildNodes()) chip.className = "sv-first";
        entry.append(chip, word);
      }
      return entry;
    });
    if (take.bodies.length > MOST_NAMED) {
      const more = document.createElement("span");
      more.textContent = `and ${take.bodies.length - MOST_NAMED} more, in these colours in turn`;
      named.push(more);
    }
    find("legend").replaceChildren(...named);
    for (const name of ["front", "side"]) find(name).hidden = take.flat;
    find("hint").textContent = (take.flat ? "drag moves" : "drag turns, shift-drag moves")
      + ", wheel zooms, space plays, \u2190 \u2192 step";
    reset();
    show(Math.max(0, Math.min(...take.rows.map((body) => body.first ?? 0))));
  }
  // one person: left and right as far apart as can be; several: each a pair of colours of its own
  function familyOf(body) {
    return take.bodies.length > 1 ? data.families[body % data.families.length] : data.solo;
  }
  function reset() {
    view = start();
    redraw();
  }
  function start() {
    return { yaw: take.yaw + (take.flat ? 0 : 0.35), pitch: take.flat ? 0 : 0.2, zoom: 1, x: 0, y: 0 };
  }
  function show(number) {
    frame = clamp(Math.round(number) || 0, 0, Math.max(0, take.length - 1));
    scrub.value = frame;
    const seconds = (frames) => (frames / rate).toFixed(2);
    const text = (data.frameRate ? seconds(frame) + " of " + seconds(take.length) + " s \u00b7 " : "")
      + "frame " + frame + " of " + take.length;
    find("frame").textContent = text;
    scrub.setAttribute("aria-valuetext", text);
    redraw();
  }
  function setPlaying(on) {
    playing = on && take.length > 1;
    play.textContent = playing ? "Pause" : "Play";
    last = 0;
    if (playing) requestAnimationFrame(tick);
  }
  function tick(now) {
    if (!playing) return;
    if (last && visible) {
      owed += Math.min(now - last, 250) / 1000 * rate * Number(speed.value);
      if (owed >= 1) { show((frame + Math.floor(owed)) % take.length); owed %= 1; }
    }
    last = now;
    requestAnimationFrame(tick);
  }

  // ---- drawing ----
  // from the recording's coordinates to pixels: [x, y, towards the viewer]
  function project([x, y, z], size, fit, from = view) {
    const [cx, cy, cz] = take.centre, r = take.radius;
    x -= cx; y -= cy; z -= cz;
    const [c, s, cp, sp] = [Math.cos(from.yaw), Math.sin(from.yaw), Math.cos(from.pitch), Math.sin(from.pitch)];
    [x, z] = [x * c + z * s, z * c - x * s];
    [y, z] = [y * cp - z * sp, y * sp + z * cp];
    // the eye is five radii away; zoom widens the picture instead of moving it, so nothing gets behind it
    const scale = fit * from.zoom / r * (take.flat ? 1 : 5 * r / (5 * r - z));
    return [canvas.width / 2 + from.x * size + x * scale, canvas.height * 0.52 + from.y * size - y * scale, z / r];
  }
  // pixels a radius, so that the box of all frames just fits before anything is turned
  function fitting(size) {
    const first = start(), ends = [take.low, take.high];
    let wide = 1e-9, high = 1e-9;
    for (let corner = 0; corner < 8; corner++) {
      const [x, y] = project([0, 1, 2].map((axis) => ends[corner >> axis & 1][axis]), size, 1, first);
      wide = Math.max(wide, Math.abs(x - canvas.width / 2)); high = Math.max(high, Math.abs(y - canvas.height * 0.52));
    }
    return Math.min(0.47 * canvas.width / wide, 0.44 * canvas.height / high);
  }
  function line(a, b, colour, width, alpha) {
    pen.globalAlpha = alpha; pen.strokeStyle = colour; pen.lineWidth = width;
    pen.beginPath(); pen.moveTo(a[0], a[1]); pen.lineTo(b[0], b[1]); pen.stroke();
  }
  // a colour between those of little and of much
  function tint(share) {
    const place = clamp(share || 0, 0, 1) * (data.heat.length - 1), low = Math.min(Math.floor(place), data.heat.length - 2);
    const [from, to] = [low, low + 1].map((k) => [1, 3, 5].map((at) => parseInt(data.heat[k].slice(at, at + 2), 16)));
    return "rgb(" + from.map((value, k) => Math.round(value + (to[k] - value) * (place - low))) + ")";
  }
  function dot(at, colour, width, alpha) {
    pen.globalAlpha = alpha; pen.fillStyle = colour;
    pen.beginPath(); pen.arc(at[0], at[1], width / 2, 0, 7); pen.fill();
  }
  // squares of a round size under the box of all frames, fading towards the rim
  function ground(place, colour, pixel) {
    const reach = 1.35 * take.radius, base = 10 ** Math.floor(Math.log10(reach / 4));
    const step = [5, 2, 1].map((n) => n * base).find((n) => n <= reach / 4), count = Math.round(reach / step);
    const [x, z] = [0, 2].map((axis) => Math.round(take.centre[axis] / step) * step);
    for (let k = -count; k <= count; k++) {
      for (let cell = -count; cell < count; cell++) {
        const alpha = 1 - Math.hypot(k, cell + 0.5) / (count + 0.5);
        if (alpha <= 0) continue;
        const [along, from, to] = [k * step, cell * step, (cell + 1) * step];
        line(place([x + along, take.low[1], z + from]), place([x + along, take.low[1], z + to]), colour, pixel, alpha);
        line(place([x + from, take.low[1], z + along]), place([x + to, take.low[1], z + along]), colour, pixel, alpha);
      }
    }
  }
  function draw() {
    queued = false;
    const pixel = devicePixelRatio || 1, style = getComputedStyle(root);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * pixel)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const size = Math.min(width, height), fit = fitting(size), place = (spot) => project(spot, size, fit);
    pen.clearRect(0, 0, width, height);
    pen.lineCap = "round";
    if (!take.flat) ground(place, style.getPropertyValue("--sv-line"), pixel);
    const strokes = [];
    take.rows.forEach(({ at, position, heat }, body) => {
      const row = at.get(frame), family = familyOf(body);
      if (row === undefined) return;
      const warm = (j) => heat[row * joints + j];
      const raw = Array.from({ length: joints }, (_, j) => position.subarray(3 * (row * joints + j), 3 * (row * joints + j) + 3));
      const spots = raw.map((p) => p.every(Number.isFinite) ? place(p) : null);
      for (const [a, b, side] of data.limbs) {
        if (!spots[a] || !spots[b]) continue;
        if (!take.flat) {
          const [p, q] = [a, b].map((j) => place([raw[j][0], take.low[1], raw[j][2]]));
          line(p, q, style.getPropertyValue("--sv-soft"), 3.5 * pixel, 0.16);
        }
        strokes.push([(spots[a][2] + spots[b][2]) / 2, spots[a], spots[b],
          heat ? tint((warm(a) + warm(b)) / 2) : family[side], 1]);
      }
      spots.forEach((spot, j) => spot && strokes.push([spot[2] + 1e-3, spot, spot,
        heat ? tint(warm(j)) : family[1], heat ? 1.6 + 2.6 * warm(j) : j === data.head ? 4 : 1.5]));
    });
    strokes.sort((one, other) => one[0] - other[0]);
    const thick = pixel * clamp(size / pixel / 130, 2.5, 5) * Math.sqrt(view.zoom);
    for (const [depth, a, b, colour, weight] of strokes) {
      const near = clamp(depth, -1, 1), width = thick * weight * (1 + 0.25 * near), alpha = 0.9 + 0.1 * near;
      if (a === b) dot(a, colour, width, alpha); else line(a, b, colour, width, alpha);
    }
    pen.globalAlpha = 1;
    if (!strokes.length) {
      pen.fillStyle = style.getPropertyValue("--sv-soft");
      pen.font = 14 * pixel + "px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillText("nobody in this frame", width / 2, height / 2);
    }
    root.dataset.frame = frame;
    root.dataset.strokes = strokes.length;
  }
  function redraw() {
    Object.assign(root.dataset, { yaw: view.yaw, pitch: view.pitch });
    if (!queued) { queued = true; requestAnimationFrame(draw); }
  }

  // ---- hands ----
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  const zoomBy = (factor) => { view.zoom = clamp(view.zoom * factor, 0.2, 20); redraw(); };
  function rotate(dx, dy) {
    view.yaw += dx; view.pitch = clamp(view.pitch + dy, -1.5, 1.5);
    redraw();
  }
  // square to the body: the chest to the viewer, or its left side
  function face(yaw) {
    if (take.flat) return;
    Object.assign(view, { yaw: take.yaw + yaw, pitch: 0 });
    redraw();
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const before = fingers.size === 2 ? spread() : 0, dx = event.clientX - finger.x, dy = event.clientY - finger.y;
    Object.assign(finger, { x: event.clientX, y: event.clientY });
    if (before) return zoomBy(spread() / before);
    if (!take.flat && !event.shiftKey) return rotate(dx * 0.01, dy * 0.01);
    const size = Math.min(canvas.clientWidth, canvas.clientHeight);
    view.x += dx / size; view.y += dy / size;
    redraw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-clamp(event.deltaY, -100, 100) * 0.002));
  }, { passive: false });
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") setPlaying(!playing);
    else if (step && event.shiftKey && !take.flat) rotate(step[0] * 0.1, step[1] * 0.1);
    else if (step && step[0]) { setPlaying(false); show(frame + step[0]); }
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(take.length - 1);
    else if (event.key === "+" || event.key === "=") zoomBy(1.15);
    else if (event.key === "-") zoomBy(1 / 1.15);
    else if (event.key === "0") reset();
    else if (event.key === "f") face(0);
    else if (event.key === "s") face(LEFT_SIDE);
    else return;
    event.preventDefault();
  });
  play.addEventListener("click", () => setPlaying(!playing));
  scrub.addEventListener("input", () => { setPlaying(false); show(Number(scrub.value)); });
  find("front").addEventListener("click", () => face(0));
  find("side").addEventListener("click", () => face(LEFT_SIDE));
  find("reset").addEventListener("click", reset);
  if (pick) pick.addEventListener("change", () => load(Number(pick.value)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => take && redraw()).observe(canvas);
  new IntersectionObserver((seen) => { visible = seen[seen.length - 1].isIntersecting; }).observe(canvas);

  if (!data.recordings.length) { find("caption").textContent = "no recording"; return; }
  load(0);
  draw(); // now, not with the next frame of the screen: a page that is printed or saved at once is not blank
  setPlaying(!calm.matches);
})();
